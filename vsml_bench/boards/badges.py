"""How far numbers are to be trusted, in a word."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vsml_bench.evaluation.cell import Cell
from vsml_bench.evaluation.replays import Replayed, replayed_on

PUBLISHED = "published"
"""It is in `results/`, whose checks run everything published again, in part."""
SELF_REPORTED = "self-reported"
"""Nobody but who ran it says so."""


def badge(cell: Cell, published: bool = False, again: Replayed | None = None) -> str:
    """Of a cell. published: whether it is in `results/`. again: how it was last run again."""
    said = [(of.date, replayed_on(of.date, of.git_commit)) for of in cell.provenance.adopted]
    said += [(again.date, again.said())] if again is not None else []
    return max(said)[1] if said else PUBLISHED if published else SELF_REPORTED


def weakest(badges: Iterable[str]) -> str:
    """The badge of what rests on cells with these; "" for none."""
    found: Collection[str] = set(badges)
    for one in (SELF_REPORTED, PUBLISHED):
        if one in found:
            return one
    return min(found, default="")
