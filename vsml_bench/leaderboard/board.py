"""The board: one row per split and learner, a pure function of the cells and of what is planned.

A planned cell that is missing or failed is never averaged away: its row then has no mean, and says
why. Cells of different devices never share a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem
from vsml_bench.leaderboard.matching import Place, PlannedCell, Stale, match, place
from vsml_bench.leaderboard.scoring import Contender, Numbers, numbers
from vsml_bench.leaderboard.sections import Finished, Section
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.studies import find_study

__all__ = ["Board", "PlannedCell", "Row", "Stale", "build_board"]

WORST_FIRST = (
    "crashed",
    "out_of_memory",
    "timeout",
    "diverged",
    "unavailable",
    "missing",
    "ok",
)
"""A row has the worst status of its cells; `missing` is a planned cell that has no record."""


@dataclass(frozen=True)
class Row:
    """One learner on one split. Accuracies are shares in [0, 1]; all numbers are None unless every
    planned seed is there."""

    split: str
    relation: str
    learner: str
    metric: str
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    seeds: int
    """Meta-train seeds behind the mean; 0 where there is none."""
    lifetimes: int | None
    steps: int | None
    """Scored predictions of a lifetime."""
    status: str
    seed_variance: str | None
    """Whether the interval covers the choice of the meta-train seed: "measured", "not measured"
    (one seed) or "not applicable" (no meta-parameters)."""
    early: float | None
    """Accuracy over the first 100 steps; None where predictions are no stream (few_shot)."""
    final: float | None
    """Accuracy over the last 100 steps; likewise."""
    gap: float | None
    """Generalisation gap: accuracy on the meta-train side's own tasks minus this one, over as many
    steps as both have."""
    gap_low: float | None
    gap_high: float | None
    rank: int | None
    """Place within the split by the mean."""
    rank_low: int | None
    """Best place that the paired differences allow."""
    rank_high: int | None
    """Worst place that the paired differences allow."""
    seeds_ok: int
    seeds_planned: int
    family: str
    meta_parameters: int | None
    device: str
    note: str
    reason: str
    """Why there is no mean."""
    keys: tuple[str, ...]
    """Of the planned cells."""


@dataclass(frozen=True)
class Board:
    """Everything that a reader of results gets to see."""

    suite: str
    board_hash: str
    """SHA-256 of scores and identities: equal for equal results, whenever, wherever and however
    fast they were computed."""
    rows: tuple[Row, ...]
    stale: tuple[Stale, ...]
    problems: tuple[Problem, ...]
    commits: tuple[str, ...]
    """Of the code that the cells were run by, in alphabetical order; speed is tracked by commit."""
    sections: tuple[Section, ...] = ()
    """What the suite's study adds."""


def build_board(
    suite: str,
    cells: Sequence[Cell],
    planned: Sequence[PlannedCell],
    problems: Sequence[Problem] = (),
    track: str = "",
) -> Board:
    """The board of `suite` from the cells that count for what is planned.

    problems: files that should hold cells and do not. track: the suite's, "" for none. Rows come
    split by split in planned order, best mean first. Raises VsmlBenchError where cells of one split
    were not run on the same lifetimes, which their keys should have made impossible.
    """
    current, stale = match(suite, cells, planned)
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for plan in planned:
        groups.setdefault((plan.id.split, plan.id.learner), []).append(plan)
    entries = [
        _Entry(tuple(plans), device, found)
        for plans in groups.values()
        for device, found in _by_device(plans, current)
    ]
    _check_same_lifetimes(entries)
    scored = numbers([entry.contender() for entry in entries if entry.status == "ok"])
    rows = [entry.row(scored.get(entry.identity)) for entry in entries]
    order = list(dict.fromkeys(plan.id.split for plan in planned))
    rows.sort(key=lambda row: (order.index(row.split), *_best_first(row)))
    return Board(
        suite,
        _hash(suite, rows),
        tuple(rows),
        tuple(stale),
        tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason))),
        tuple(sorted({c.provenance.git_commit for entry in entries for c in entry.found} - {""})),
        find_study(track).sections_of(
            [entry.finished() for entry in entries if entry.status == "ok"]
        ),
    )


@dataclass(frozen=True)
class _Entry:
    """One row in the making: what is planned, and the cell there is for each, or None."""

    plans: tuple[PlannedCell, ...]
    device: str
    cells: tuple[Cell | None, ...]

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.plans[0].id.split, self.plans[0].id.learner, self.device

    @property
    def status(self) -> str:
        statuses = {"missing" if cell is None else cell.status for cell in self.cells}
        return next(status for status in WORST_FIRST if status in statuses)

    @property
    def found(self) -> list[Cell]:
        return [cell for cell in self.cells if cell is not None]

    def contender(self) -> Contender:
        first = self.found[0]
        return Contender(
            identity=self.identity,
            relation=self.plans[0].relation,
            has_meta_parameters=self.plans[0].has_meta_parameters,
            is_stream=self.plans[0].stream,
            meta_train_hash=first.provenance.meta_train_hash,
            seeds=tuple(cell.id.seed for cell in self.found),
            outcomes=tuple(cell.outcomes for cell in self.found if cell.outcomes is not None),
        )

    def finished(self) -> Finished:
        plan = self.plans[0]
        return Finished(*self.identity, tuple(self.found), plan.unchanged, plan.has_meta_parameters)

    def row(self, scored: Numbers | None) -> Row:
        plan, found = self.plans[0], self.found
        any_cell = found[0] if found else None
        n = scored or Numbers()
        sizes = {cell.provenance.meta_parameters for cell in found if cell.status == "ok"}
        return Row(
            split=plan.id.split,
            relation=plan.relation,
            learner=plan.id.learner,
            metric=plan.metric,
            mean=n.mean,
            ci_low=n.ci_low,
            ci_high=n.ci_high,
            seeds=len(found) if scored else 0,
            lifetimes=any_cell.lifetimes if any_cell else None,
            steps=any_cell.steps if any_cell else None,
            status=self.status,
            seed_variance=n.seed_variance,
            early=n.early,
            final=n.final,
            gap=n.gap,
            gap_low=n.gap_low,
            gap_high=n.gap_high,
            rank=n.rank,
            rank_low=n.rank_low,
            rank_high=n.rank_high,
            seeds_ok=sum(cell.status == "ok" for cell in found),
            seeds_planned=len(self.plans),
            family=plan.family,
            meta_parameters=max(sizes) if sizes else None,
            device=self.device,
            note="; ".join(dict.fromkeys(c.provenance.note for c in found if c.provenance.note)),
            reason=self._reason(),
            keys=tuple(plan.key for plan in self.plans),
        )

    def _reason(self) -> str:
        """Why cells failed, each reason once, with the seeds it befell."""
        seeds: dict[str, list[str]] = {}
        for plan, cell in zip(self.plans, self.cells, strict=True):
            if cell is None:
                seeds.setdefault("not run", []).append(str(plan.id.seed))
            elif cell.status != "ok":
                hardware = cell.provenance.hardware
                on = "" if hardware == self.device else f" on {hardware}"
                reason = f"{cell.status}{on}: {cell.reason}"
                seeds.setdefault(reason, []).append(str(plan.id.seed))
        if len(self.plans) == 1:
            return "; ".join(seeds)
        return "; ".join(f"seed {', '.join(of)}: {reason}" for reason, of in seeds.items())


def _by_device(
    plans: Sequence[PlannedCell], current: dict[Place, list[Cell]]
) -> list[tuple[str, tuple[Cell | None, ...]]]:
    """The cells of one split and learner, a list per device that has scores.

    A failed cell stands in on the devices where its seed has no score; a row of failures alone is
    shown where no other row tells of them.
    """
    cells = [cell for plan in plans for cell in current.get(place(plan.id), [])]
    devices = sorted({cell.provenance.hardware for cell in cells if cell.status == "ok"})
    rows: list[tuple[str, tuple[Cell | None, ...]]] = []
    shown: list[Cell] = []
    for device in devices:
        own = {c.id.seed: c for c in cells if c.provenance.hardware == device}
        strays = {c.id.seed: c for c in cells if c.provenance.hardware not in devices}
        row = tuple(own.get(plan.id.seed, strays.get(plan.id.seed)) for plan in plans)
        rows.append((device, row))
        shown += [cell for cell in row if cell is not None]
    rest = [cell for cell in cells if not any(cell is other for other in shown)]
    while rest or not rows:
        by_seed: dict[int, Cell] = {}
        left = [cell for cell in rest if by_seed.setdefault(cell.id.seed, cell) is not cell]
        device = " / ".join(sorted({cell.provenance.hardware for cell in by_seed.values()}))
        rows.append((device, tuple(by_seed.get(plan.id.seed) for plan in plans)))
        rest = left
    return rows


def _check_same_lifetimes(entries: Sequence[_Entry]) -> None:
    first: dict[str, Cell] = {}
    for entry in entries:
        for cell in entry.found:
            if cell.status != "ok":
                continue
            other = first.setdefault(entry.identity[0], cell)
            if _lifetimes(cell) != _lifetimes(other):
                raise VsmlBenchError(
                    f"cells '{cell.id}' and '{other.id}' were not run on the same lifetimes; run "
                    "both again."
                )


def _lifetimes(cell: Cell) -> tuple[object, ...]:
    return cell.lifetimes, cell.steps, cell.provenance.seeds.get("meta_test")


def _best_first(row: Row) -> tuple[float, str, str]:
    return (-row.mean if row.mean is not None else 1.0, row.learner, row.device)


def _hash(suite: str, rows: Sequence[Row]) -> str:
    besides = {"device", "note", "reason", "family", "meta_parameters"}
    content = sorted(
        canonical_json({key: value for key, value in asdict(row).items() if key not in besides})
        for row in rows
    )
    return sha256_hex(canonical_json([suite, content]))
