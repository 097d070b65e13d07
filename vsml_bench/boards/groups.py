"""Stored cells in groups: a learner on a split on one kind of device, with its meta-train seeds.

Those cells count whose key is the planned one; the others are stale. A cell that failed is never
averaged away: its group then has no score, and says why. Where a seed was not run, the numbers are
of those that were, and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vsml_bench.boards import statistics
from vsml_bench.boards.examples import Basis, basis_of
from vsml_bench.boards.statistics import Estimate
from vsml_bench.boards.variances import Scores
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, content_hash
from vsml_bench.evaluation.plan import Place, Plan
from vsml_bench.storage import canonical_json

WORST_FIRST = (
    *("cheated", "crashed", "out_of_memory", "timeout", "diverged"),
    *("unavailable", "ok"),
)
"""A group has the worst status of its cells. It is `missing` where none has a record, and `partial`
where all that have one are ok."""
REPLACED = "another record of the same cell counts"
"""Why a record is left out that is of today's plan."""


@dataclass(frozen=True)
class Group:
    """One learner on one split on one kind of device. What needs outcomes is there where `finished`
    is."""

    plans: tuple[Plan, ...]
    """One per meta-train seed; they differ in nothing else."""
    cells: tuple[Cell, ...]
    """At most one for each plan, in their order."""

    @property
    def split(self) -> str:
        """The split's name."""
        return self.plans[0].split.name

    @property
    def learner(self) -> str:
        """The learner's name."""
        return self.plans[0].learner

    @property
    def device(self) -> str:
        """What the cells with a score were run on (`Provenance.hardware`), else what all were; ""
        where there are none. Times of several devices do not compare."""
        return _joined(cell.provenance.hardware for cell in self.ok or self.cells)

    @property
    def kind(self) -> str:
        """Their kind of device (`Provenance.kind`)."""
        return _joined(cell.provenance.kind for cell in self.ok or self.cells)

    @property
    def relation(self) -> str:
        """How the split's two sides relate."""
        return self.plans[0].split.relation

    @property
    def unchanged(self) -> str:
        """Name of the split that this one is with one change; "" for none."""
        return self.plans[0].unchanged

    @property
    def stream(self) -> bool:
        """Whether predictions follow one another, so that the first and the last ones mean
        something."""
        return self.plans[0].protocol.stream

    @property
    def has_meta_parameters(self) -> bool:
        """Whether there is anything to meta-train, so that the choice of the seed matters."""
        return self.plans[0].job.recipe is not None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Meta-train seeds of the cells."""
        return tuple(cell.plan.job.seed for cell in self.cells)

    @property
    def status(self) -> str:
        """The worst one."""
        if not self.cells:
            return "missing"
        statuses: set[str] = {cell.status for cell in self.cells}
        worst = next(status for status in WORST_FIRST if status in statuses)
        return "partial" if worst == "ok" and len(self.cells) < len(self.plans) else worst

    @property
    def finished(self) -> bool:
        """Whether there are numbers: of one planned seed or more, and none failed."""
        return self.status in ("ok", "partial")

    @property
    def tried(self) -> bool:
        """Whether a seed was run, with or without success; not where data or a package lacked."""
        return any(cell.status != "unavailable" for cell in self.cells)

    @property
    def ok(self) -> tuple[Cell, ...]:
        """The cells that have a score."""
        return tuple(cell for cell in self.cells if cell.status == "ok")

    @property
    def lifetimes(self) -> int | None:
        """Meta-test lifetimes of a cell; None where there is no cell."""
        if self.ok:
            return len(self.ok[0].correct)
        return self.plans[0].lifetimes if self.cells else None

    @property
    def steps(self) -> int | None:
        """Scored predictions of a lifetime; None where there is no cell."""
        if self.ok:
            return int(self.ok[0].correct.shape[1])
        return self.plans[0].protocol.predictions if self.cells else None

    @property
    def lifetime_seeds(self) -> Any:
        """Which lifetimes the cells were run on."""
        return self.cells[0].provenance.seeds.get("meta_test")

    @property
    def note(self) -> str:
        """What a reader must know, each note once, what else the learner learned from as far as
        its author says, and of what versions the cells are if of several."""
        notes = dict.fromkeys(cell.provenance.note for cell in self.cells)
        said = self.plans[0].job.learner.external_data
        notes |= dict.fromkeys([f"external data, says its author: {said}"] if said else [])
        versions = [cell.provenance.versions for cell in self.cells]
        packages = sorted({package for of in versions for package in of})
        found = {name: sorted({of.get(name, "none") for of in versions}) for name in packages}
        mixed = [f"{name} {' and '.join(of)}" for name, of in found.items() if len(of) > 1]
        notes |= dict.fromkeys(["seeds were run by " + ", ".join(mixed)] if mixed else [])
        return "; ".join(note for note in notes if note)

    @property
    def reason(self) -> str:
        """Why seeds have no score, each reason once, with the seeds it befell."""
        cells = dict(zip(self.seeds, self.cells, strict=True))
        seeds: dict[str, list[str]] = {}
        for plan in self.plans:
            cell = cells.get(plan.job.seed)
            if cell is None:
                seeds.setdefault("not run", []).append(str(plan.job.seed))
            elif cell.status != "ok":
                hardware = cell.provenance.hardware
                on = "" if hardware == self.device else f" on {hardware}"
                reason = f"{cell.status}{on}: {cell.reason}"
                seeds.setdefault(reason, []).append(str(plan.job.seed))
        if len(self.plans) == 1:
            return "; ".join(seeds)
        return "; ".join(f"seed {', '.join(of)}: {reason}" for reason, of in seeds.items())

    @cached_property
    def correct(self) -> npt.NDArray[np.bool_]:
        """[seeds, lifetimes, steps]."""
        return np.stack([cell.correct for cell in self.cells])

    @cached_property
    def scores(self) -> Scores:
        """Accuracy over all predictions of a lifetime [seeds, lifetimes]."""
        return statistics.lifetime_scores(self.correct)

    @cached_property
    def basis(self) -> Basis:
        """What the scores are of."""
        return basis_of(self.cells, self.correct, range(self.correct.shape[2]))

    def part(self, steps: range) -> tuple[Scores, Basis]:
        """Accuracy over some steps of a lifetime, and what it is of."""
        if len(steps) == self.correct.shape[2]:
            return self.scores, self.basis
        correct = self.correct[..., steps.start : steps.stop]
        return statistics.lifetime_scores(correct), basis_of(self.cells, correct, steps)

    @cached_property
    def estimate(self) -> Estimate:
        """Mean accuracy with its interval."""
        return statistics.estimate(self.scores, self.has_meta_parameters, self.basis)

    def trace(self, name: str) -> npt.NDArray[np.float64]:
        """What the protocol measured besides [seeds, lifetimes, ...]."""
        outcomes = [cell.outcomes for cell in self.cells if cell.outcomes is not None]
        return np.stack([found.traces[name].astype(np.float64) for found in outcomes])


def groups_of(cells: Iterable[Cell]) -> list[Group]:
    """Cells that were just run, as the groups that they make, in the order given."""
    together: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        place = (cell.plan.split.name, cell.plan.learner, cell.provenance.kind)
        together.setdefault(place, []).append(cell)
    return [Group(tuple(cell.plan for cell in of), tuple(of)) for of in together.values()]


def _joined(names: Iterable[str]) -> str:
    return " / ".join(sorted(set(names)))


@dataclass(frozen=True)
class Stale:
    """A stored cell that does not count, and why."""

    split: str
    learner: str
    seed: int
    key: str
    reason: str


def gather(
    suite: str, cells: Sequence[Cell], plans: Sequence[Plan]
) -> tuple[list[Group], list[Stale]]:
    """The groups in planned order, each split and learner at least once, and the stale cells.

    A cell that another suite ran counts where its key is the planned one, since the key covers all
    that its outcome depends on. The result does not depend on the order of `cells`. Raises
    VsmlBenchError where the plan has a place twice.
    """
    current, stale = _match(suite, cells, plans)
    together: dict[tuple[str, str], list[Plan]] = {}
    for plan in plans:
        together.setdefault((plan.split.name, plan.learner), []).append(plan)
    groups = [group for of in together.values() for group in _by_kind(tuple(of), current)]
    return groups, stale


def _match(
    suite: str, cells: Sequence[Cell], plans: Sequence[Plan]
) -> tuple[dict[Place, list[Cell]], list[Stale]]:
    """The cells that count, at most one per place and kind of device, and the others."""
    planned: dict[Place, Plan] = {}
    for plan in plans:
        if planned.setdefault(plan.place, plan) is not plan:
            raise VsmlBenchError(f"suite '{suite}' plans {plan} twice; name each learner once.")
    candidates: dict[tuple[Place, str], list[Cell]] = {}
    stale = []
    for cell in cells:
        where = cell.plan.place
        here = planned.get(where)
        if here is not None and cell.key == here.key:
            candidates.setdefault((where, cell.provenance.kind), []).append(cell)
        elif cell.plan.suite == suite:
            stale.append(_stale(cell, _difference(cell, here)))
    current: dict[Place, list[Cell]] = {}
    for (where, _), rivals in sorted(candidates.items(), key=lambda item: item[0]):
        chosen = _best(rivals)
        current.setdefault(where, []).append(chosen)
        others = (other for other in rivals if other != chosen)
        stale += [_stale(other, REPLACED) for other in others]
    return current, sorted(set(stale), key=lambda s: (s.split, s.learner, s.seed, s.key, s.reason))


def _best(cells: list[Cell]) -> Cell:
    """One with a score, else the newest."""
    if len(cells) == 1:
        return cells[0]
    return max(cells, key=lambda c: (c.status == "ok", c.provenance.created, content_hash(c)))


def _difference(cell: Cell, plan: Plan | None) -> str:
    if plan is None:
        return "today's plan has no such cell"
    parts = ", ".join(sorted(_unequal(cell.identity, plan.identity())))
    return f"different from today's: {parts}"


def _unequal(theirs: Any, ours: Any, part: str = "") -> Iterator[str]:
    """Where two identities differ, such as "learner.version"."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in {*theirs, *ours}:
            below = f"{part}.{name}" if part else name
            yield from _unequal(theirs.get(name), ours.get(name), below)
    elif canonical_json(theirs) != canonical_json(ours):
        yield part


def _stale(cell: Cell, reason: str) -> Stale:
    return Stale(*cell.plan.place, cell.key, reason)


def _by_kind(plans: tuple[Plan, ...], current: Mapping[Place, list[Cell]]) -> list[Group]:
    """The groups of one split and learner, one per kind of device that has scores.

    A failed cell stands in on the kinds where its seed has no score; a group of failures alone is
    made where no other one tells of them.
    """
    cells = [cell for plan in plans for cell in current.get(plan.place, [])]
    ok = sorted((c for c in cells if c.status == "ok"), key=lambda c: c.provenance.hardware)
    kinds = list(dict.fromkeys(cell.provenance.kind for cell in ok))
    strays = {c.plan.job.seed: c for c in cells if c.provenance.kind not in kinds}
    groups = [
        _group(
            plans, {**strays, **{c.plan.job.seed: c for c in cells if c.provenance.kind == each}}
        )
        for each in kinds
    ]
    shown = {id(cell) for group in groups for cell in group.cells}
    rest = [cell for cell in cells if id(cell) not in shown]
    while rest or not groups:
        by_seed: dict[int, Cell] = {}
        left = [cell for cell in rest if by_seed.setdefault(cell.plan.job.seed, cell) is not cell]
        groups.append(_group(plans, by_seed))
        rest = left
    return groups


def _group(plans: tuple[Plan, ...], cells: Mapping[int, Cell]) -> Group:
    """cells: seed -> cell."""
    return Group(plans, tuple(cells[p.job.seed] for p in plans if p.job.seed in cells))
