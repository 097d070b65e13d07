"""Which stored cells count today: those whose key is the planned one. The others are stale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, CellId, content_hash

Place: TypeAlias = tuple[str, str, int]
"""(split, learner, seed)."""


@dataclass(frozen=True)
class PlannedCell:
    """A cell that today's code, data and configuration would run."""

    id: CellId
    key: str
    relation: str
    has_meta_parameters: bool
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Part by part what the key is made from, to say why another cell is stale."""
    family: str = ""
    metric: str = "cumulative_accuracy"
    unchanged: str = ""
    """The split that its own is with one change; "" for none."""
    stream: bool = True
    """Whether predictions follow one another."""


@dataclass(frozen=True)
class Stale:
    """A stored cell that does not count, and why."""

    split: str
    learner: str
    seed: int
    key: str
    reason: str


def place(id: CellId) -> Place:
    """Where in a board a cell belongs."""
    return id.split, id.learner, id.seed


def match(
    suite: str, cells: Sequence[Cell], planned: Sequence[PlannedCell]
) -> tuple[dict[Place, list[Cell]], list[Stale]]:
    """Sorts the cells into those that count, at most one per place and device, and stale ones.

    A cell that another suite ran counts where its key is the planned one, since the key covers all
    that its outcome depends on. The result does not depend on the order of `cells`. Raises
    VsmlBenchError where the plan has a place twice.
    """
    plans: dict[Place, PlannedCell] = {}
    for plan in planned:
        if plans.setdefault(place(plan.id), plan) is not plan:
            raise VsmlBenchError(f"suite '{suite}' plans {plan.id} twice; name each learner once.")
    candidates: dict[tuple[Place, str], list[Cell]] = {}
    stale = []
    for cell in cells:
        where = place(cell.id)
        plan_here = plans.get(where)
        if plan_here is not None and cell.key == plan_here.key:
            candidates.setdefault((where, cell.provenance.hardware), []).append(cell)
        elif cell.id.suite == suite:
            stale.append(_stale(cell, _difference(cell, plan_here)))
    current: dict[Place, list[Cell]] = {}
    for (where, _), group in sorted(candidates.items(), key=lambda item: item[0]):
        chosen, *others = _best_first(group)
        current.setdefault(where, []).append(chosen)
        stale += [
            _stale(other, "another record of the same cell counts")
            for other in others
            if other != chosen
        ]
    return current, sorted(set(stale), key=lambda s: (s.split, s.learner, s.seed, s.key, s.reason))


def _best_first(cells: list[Cell]) -> list[Cell]:
    if len(cells) == 1:
        return cells
    newest_first = sorted(
        cells, key=lambda cell: (cell.provenance.created, content_hash(cell)), reverse=True
    )
    return sorted(newest_first, key=lambda cell: cell.status != "ok")


def _difference(cell: Cell, plan: PlannedCell | None) -> str:
    if plan is None:
        return "today's plan has no such cell"
    theirs, ours = cell.provenance.hashes, plan.hashes
    parts = sorted(part for part in {*theirs, *ours} if theirs.get(part) != ours.get(part))
    if not parts:
        return "its key differs from today's"
    return f"different from today's: {', '.join(parts)}"


def _stale(cell: Cell, reason: str) -> Stale:
    return Stale(cell.id.split, cell.id.learner, cell.id.seed, cell.key, reason)
