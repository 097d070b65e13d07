"""Identities, under which records are filed, held against what the records say that was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def agrees(old: Any, new: Any) -> bool:
    """Equal in what both say: a field that only one has is no difference."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(agrees(old[key], new[key]) for key in old.keys() & new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(agrees, old, new))
    return bool(old == new)


def is_of(stored: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether a stored identity is that of the plan or job stored beside it.

    said: the plan's or job's identity by what its sides declare, without versions of data.
    """
    return agrees(_named(stored), said)


def _named(part: Any) -> Any:
    """With the names of datasets in the place of their names, versions and hashes of code."""
    if isinstance(part, Mapping):
        return {
            name: list(map(_name, value)) if name == "datasets" else _named(value)
            for name, value in part.items()
        }
    return list(map(_named, part)) if isinstance(part, list) else part


def _name(dataset: Any) -> Any:
    return dataset[0] if isinstance(dataset, list) and dataset else dataset
