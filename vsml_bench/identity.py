"""Identities, under which records are filed, held against what the records say that was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsml_bench.plugins import is_place


def agrees(identity: Any, other: Any) -> bool:
    """Whether an identity is equal in what both say to another one, or to what a plan or job says
    of itself without a look at its data: a field that only one has is no difference.

    A dataset that a plan finds by a path may have any name. It has code of its own.
    """
    if isinstance(identity, Mapping) and isinstance(other, Mapping):
        return all(agrees(identity[key], other[key]) for key in identity.keys() & other.keys())
    if isinstance(identity, list) and isinstance(other, list):
        return len(identity) == len(other) and all(map(agrees, identity, other))
    if isinstance(identity, list) and isinstance(other, str):
        name, _, code = identity if len(identity) == 3 else ("", "", "")
        return bool(code) if is_place(other) else bool(name == other)
    return bool(identity == other)
