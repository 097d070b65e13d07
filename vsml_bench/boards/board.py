"""The board: one row per split, learner and kind of device, a pure function of the cells and of
what is planned; and how far one is from another, typically one's own from the published one.
Nothing here needs PyTorch, data, or a learner's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from vsml_bench.boards.columns import Column, columns
from vsml_bench.boards.groups import Group, Stale, data_hashes, gather
from vsml_bench.boards.summary import Summary, summarise
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem
from vsml_bench.evaluation.outcomes import outcomes_hash
from vsml_bench.evaluation.plan import Plan
from vsml_bench.meta_training.records import Record
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.studies import Section, find_study

Pair: TypeAlias = tuple[str, str]
"""(split, learner)."""

_NEEDED = ("split", "learner", "status", "mean")


@dataclass(frozen=True)
class Row:
    """One learner on one split: where the numbers are from, and the numbers."""

    group: Group
    numbers: Mapping[str, Any]
    """Name of a column, or of an end of its interval -> its value. Accuracies are shares in
    [0, 1]; None where there is no number, as wherever a seed failed."""

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]


@dataclass(frozen=True)
class Board:
    """Everything that a reader of results gets to see."""

    suite: str
    board_hash: str
    """SHA-256 of the keys and outcomes of all cells that count: equal for equal results, whenever,
    wherever and however fast they were computed, and whatever a board shows of them."""
    rows: tuple[Row, ...]
    learners: tuple[Summary, ...]
    """Best first."""
    columns: Mapping[str, Column]
    stale: tuple[Stale, ...]
    problems: tuple[Problem, ...]
    commits: tuple[str, ...]
    """Of the code that the cells were run by, in alphabetical order; speed is tracked by commit."""
    sections: tuple[Section, ...] = ()
    """What the suite's study adds."""
    records: Mapping[str, Record] = field(default_factory=dict)
    """SHA-256 of a checkpoint or tuning record -> what it says of how it was made, where that
    is still known."""
    published: frozenset[str] = frozenset()
    """Names of the files of those cells that are in `results/`."""

    def document(self) -> dict[str, Any]:
        """As JSON has it: {"suite", "board_hash", "rows": [...], "learners": [...], "stale": [...],
        "problems": [...], "commits": [...]}; each row has a value for each column and for each end
        of an interval, each learner the fields of `Summary`. The boards of studies have "sections"
        as well, with the fields of `Section`."""
        names = self.names("json")
        document: dict[str, Any] = {
            "suite": self.suite,
            "board_hash": self.board_hash,
            "rows": [{name: row[name] for name in names} for row in self.rows],
            "learners": [asdict(learner) for learner in self.learners],
            "stale": [asdict(stale) for stale in self.stale],
            "problems": [asdict(problem) for problem in self.problems],
            "commits": list(self.commits),
        }
        if self.sections:
            document["sections"] = [asdict(section) for section in self.sections]
        return document

    def names(self, form: Literal["json", "csv"]) -> list[str]:
        """Names in a row of the columns that JSON or CSV has, with the ends of intervals."""
        shown = {name: c for name, c in self.columns.items() if getattr(c, form)}
        return [each for name, column in shown.items() for each in (name, *(column.bounds or ()))]


def build_board(
    suite: str,
    cells: Sequence[Cell],
    plans: Sequence[Plan],
    problems: Sequence[Problem] = (),
    study: str = "",
) -> Board:
    """The board of `suite` from the cells that count for what is planned.

    problems: files that should hold cells and do not. study: the suite's, "" for none. Rows come
    split by split in planned order, best mean first. Raises VsmlBenchError where cells of one split
    were not run on the same lifetimes or data, so that their numbers do not compare.
    """
    groups, stale = gather(suite, cells, plans)
    _check_comparable(groups)
    finished = [group for group in groups if group.finished]
    known = columns()
    rows = [Row(group, _numbers(known, group, finished)) for group in groups]
    splits = list(dict.fromkeys(plan.split.name for plan in plans))
    rows.sort(key=lambda row: (splits.index(row.group.split), *_best_first(row)))
    current = list({id(cell): cell for group in groups for cell in group.cells}.values())
    return Board(
        suite,
        _hash(current),
        tuple(rows),
        summarise([row.group for row in rows], [row["rank"] for row in rows]),
        known,
        tuple(stale),
        tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason))),
        tuple(sorted({cell.provenance.git_commit for cell in current} - {""})),
        find_study(study).sections_of(finished),
    )


def _numbers(
    known: Mapping[str, Column], group: Group, finished: Sequence[Group]
) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, column in known.items():
        numbers |= column.values(name, group, finished)
    return numbers


def _check_comparable(groups: Sequence[Group]) -> None:
    first: dict[str, Cell] = {}
    for cell in (cell for group in groups for cell in group.ok):
        other = first.setdefault(cell.plan.split.name, cell)
        for what, of in _COMPARED.items():
            if of(cell) != of(other):
                raise VsmlBenchError(
                    f"cells '{cell.plan}' and '{other.plan}' were not run on the same {what}; "
                    "run both again."
                )


_COMPARED: Mapping[str, Callable[[Cell], object]] = {
    "lifetimes": lambda cell: (cell.correct.shape, cell.provenance.seeds.get("meta_test")),
    "meta-test data": lambda cell: data_hashes(cell, "meta_test"),
}


def _best_first(row: Row) -> tuple[float, str, str]:
    mean = row["mean"]
    return (-mean if mean is not None else 1.0, row.group.learner, row.group.device)


def _hash(cells: Sequence[Cell]) -> str:
    content = sorted(
        [cell.key, cell.status, outcomes_hash(cell.outcomes) if cell.outcomes is not None else ""]
        for cell in cells
    )
    return sha256_hex(canonical_json(content))


@dataclass(frozen=True)
class NotRun:
    """A row of ours without a score, and why."""

    split: str
    learner: str
    status: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What differs between two boards."""

    suite: str
    same_hash: bool
    compared: int
    """Rows that have a score on both."""
    largest_difference: float | None
    """Largest absolute difference of two means, both in [0, 1]; None where nothing compares."""
    largest_at: Pair | None
    only_in_ours: tuple[Pair, ...]
    """Rows with a score that the published board does not have."""
    only_in_published: tuple[Pair, ...]
    """Rows with a score there that we do not list at all."""
    not_run: tuple[NotRun, ...]


def compare_boards(ours: Board, published: Mapping[str, Any]) -> Comparison:
    """Compares means row by row, with a board as `Board.document` has it.

    Where a learner has several rows, the one of the same device is compared, or else of the same
    kind of device, or else the first. Raises VsmlBenchError for something that is no board and for
    boards of different suites.
    """
    own = _by_pair(ours.document(), "our board")
    theirs = _by_pair(published, "the published board")
    if ours.suite != published.get("suite"):
        raise VsmlBenchError(
            f"a board of suite '{ours.suite}' cannot be compared with one of "
            f"'{published.get('suite')}'; choose the board of the same suite."
        )
    differences: dict[Pair, float] = {}
    not_run = []
    for pair, rows in own.items():
        scored = _scored(rows)
        if not scored:
            reason = str(rows[0].get("reason", ""))
            not_run.append(NotRun(*pair, str(rows[0]["status"]), reason))
        for row in scored:
            other = _counterpart(row, _scored(theirs.get(pair, [])))
            if other is not None:
                difference = abs(row["mean"] - other["mean"])
                differences[pair] = max(difference, differences.get(pair, 0.0))
    largest = max(differences, key=lambda pair: differences[pair]) if differences else None
    return Comparison(
        suite=ours.suite,
        same_hash=ours.board_hash == published.get("board_hash"),
        compared=len(differences),
        largest_difference=None if largest is None else differences[largest],
        largest_at=largest,
        only_in_ours=tuple(p for p in own if _scored(own[p]) and p not in differences),
        only_in_published=tuple(p for p in theirs if _scored(theirs[p]) and p not in own),
        not_run=tuple(not_run),
    )


def describe(comparison: Comparison) -> str:
    """The comparison in a few lines of text."""
    lines = [f"Compared with the published board of '{comparison.suite}':"]
    if comparison.same_hash:
        lines.append("  the same scores throughout (equal board hashes)")
    elif comparison.largest_difference is None or comparison.largest_at is None:
        lines.append("  no row has a score on both boards")
    elif comparison.largest_difference == 0:
        lines.append(f"  equal means in all {comparison.compared} rows that both have")
    else:
        split, learner = comparison.largest_at
        lines.append(
            f"  largest difference of {comparison.compared} rows: "
            f"{100 * comparison.largest_difference:.3g} percentage points ({learner} on {split})"
        )
    lines += [f"  not run: {_at(n.split, n.learner)}: {_why(n)}" for n in comparison.not_run]
    lines += [f"  only here: {_at(*pair)}" for pair in comparison.only_in_ours]
    lines += [f"  only published: {_at(*pair)}" for pair in comparison.only_in_published]
    return "\n".join(lines)


def _by_pair(board: Mapping[str, Any], where: str) -> dict[Pair, list[Mapping[str, Any]]]:
    rows = board.get("rows") if isinstance(board, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        raise VsmlBenchError(f"{where} has no list of rows; give a board.json as written here.")
    found: dict[Pair, list[Mapping[str, Any]]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or any(key not in row for key in _NEEDED):
            raise VsmlBenchError(
                f"{where}: row {index} lacks one of {', '.join(_NEEDED)}; give a board.json as "
                "written here."
            )
        mean = row["mean"]
        if mean is not None and (type(mean) not in (int, float) or not 0 <= mean <= 1):
            raise VsmlBenchError(
                f"{where}: row {index} has the mean {mean!r}; expected a number in [0, 1] or null."
            )
        found.setdefault((str(row["split"]), str(row["learner"])), []).append(row)
    return found


def _scored(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["mean"] is not None]


def _counterpart(
    row: Mapping[str, Any], others: list[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    by_device, by_kind = (
        [other for other in others if other.get(name) == row.get(name)]
        for name in ("device", "kind")
    )
    return next(iter(by_device or by_kind or others), None)


def _at(split: str, learner: str) -> str:
    return f"{learner} on {split}"


def _why(row: NotRun) -> str:
    reason = " ".join(row.reason.split())
    return reason if reason.startswith(row.status) else f"{row.status} ({reason})"
