"""Identities, under which records are filed, held against what the records say that was run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vsml_bench.config import as_plain
from vsml_bench.errors import VsmlBenchError


def agrees(old: Any, new: Any) -> bool:
    """Equal in what both say: a field that only one has is no difference."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(agrees(old[key], new[key]) for key in old.keys() & new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(agrees, old, new))
    return bool(old == new)


def is_of(stored: Mapping[str, Any], today: Callable[[], Mapping[str, Any]]) -> bool:
    """Whether a stored identity is that of the plan or job stored beside it, versions of data left
    out, which today are others.

    today: gives the identity that the plan or job has today; where its data are not known here, all
    is taken for right.
    """
    try:
        own = today()
    except VsmlBenchError:
        return True
    return agrees(_without_versions(stored), _without_versions(as_plain(own)))


def _without_versions(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {
            name: list(map(_name, value)) if name == "datasets" else _without_versions(value)
            for name, value in part.items()
            if name != "transforms"
        }
    return list(map(_without_versions, part)) if isinstance(part, list) else part


def _name(dataset: Any) -> Any:
    """Of a dataset in an identity: its name, its version and the hash of its code."""
    return dataset[0] if isinstance(dataset, list) and dataset else dataset
