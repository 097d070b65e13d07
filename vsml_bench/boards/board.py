"""The board: one row per split, learner and kind of device, a pure function of the cells and of
what is planned. Nothing here needs PyTorch, data, or a learner's code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from vsml_bench.boards.columns import Column, columns
from vsml_bench.boards.examples import covary
from vsml_bench.boards.families import Family, Finished, Member
from vsml_bench.boards.groups import Group, Stale, gather
from vsml_bench.boards.robust_order import robust_order
from vsml_bench.boards.statistics import published
from vsml_bench.boards.summary import Summary, labels, over_splits, summarise
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem, data_hashes
from vsml_bench.evaluation.outcomes import outcomes_hash
from vsml_bench.evaluation.plan import Plan
from vsml_bench.meta_training.records import Record
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.studies import Section, find_study


@dataclass(frozen=True)
class Row:
    """One learner on one split: where the numbers are from, and the numbers."""

    group: Group
    label: str
    """What tables call its learner: with the kind of device where it was run on several."""
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
    sections: tuple[Section, ...]
    """What the suite's study adds, and how robust the order of learners is."""
    families: Mapping[str, Family[Member]] = field(compare=False)
    """Split -> all pairs of learners that have a score on it."""
    over_splits: Family[str] = field(compare=False)
    """All pairs of learners by label, over all splits."""
    records: Mapping[str, Record] = field(default_factory=dict)
    """SHA-256 of a checkpoint or tuning record -> what it says of how it was made, where that
    is still known."""
    badges: Mapping[str, str] = field(default_factory=dict)
    """Name of a cell's file -> how far the cell is to be trusted; see `badges`."""
    borrowed: frozenset[str] = frozenset()
    """Files of the published cells that it shows to a user who has cells of this suite too."""

    @cached_property
    def by_label(self) -> Mapping[str, tuple[Group, ...]]:
        """Label -> its groups, split by split, in alphabetical order of labels."""
        names = sorted({row.label for row in self.rows})
        return {name: tuple(r.group for r in self.rows if r.label == name) for name in names}

    @cached_property
    def not_run(self) -> tuple[str, ...]:
        """Labels of learners that have no cell at all."""
        groups = self.by_label.items()
        return tuple(label for label, of in groups if not any(group.cells for group in of))

    @property
    def splits(self) -> tuple[str, ...]:
        """In planned order."""
        return tuple(dict.fromkeys(row.group.split for row in self.rows))

    def relations(self, splits: Collection[str]) -> tuple[str, ...]:
        """Of these splits, each once."""
        found = (row.group.relation for row in self.rows if row.group.split in splits)
        return tuple(dict.fromkeys(found))

    def document(self) -> dict[str, Any]:
        """As JSON has it: {"suite", "board_hash", "rows": [...], "learners": [...], "detectable":
        {"over_splits", "by_split": {...}}, "stale": [...], "problems": [...], "commits": [...]};
        each row has a value for each column and for each end of an interval, each learner the
        fields of `Summary`; see `Family.detectable`. Boards of studies and of several splits have
        "sections" as well, with the fields of `Section`, and those that show published cells beside
        one's own have "borrowed", the files of these."""
        names = self.names("json")
        document: dict[str, Any] = {
            "suite": self.suite,
            "board_hash": self.board_hash,
            "rows": [{name: row[name] for name in names} for row in self.rows],
            "learners": [asdict(learner) for learner in self.learners],
            "detectable": {
                "over_splits": _rounded(self.over_splits.detectable),
                "by_split": {s: _rounded(of.detectable) for s, of in self.families.items()},
            },
            "stale": [asdict(stale) for stale in self.stale],
            "problems": [asdict(problem) for problem in self.problems],
            "commits": list(self.commits),
        }
        if self.borrowed:
            document["borrowed"] = sorted(self.borrowed)
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
    finished = Finished(group for group in groups if group.finished)
    covary(group.basis.drawn for group in finished if group.basis.drawn is not None)
    known = columns()
    named = labels(groups)
    rows = [Row(of, named[of.learner, of.kind], _numbers(known, of, finished)) for of in groups]
    splits = list(dict.fromkeys(plan.split.name for plan in plans))
    rows.sort(key=lambda row: (splits.index(row.group.split), *_best_first(row)))
    over = over_splits(groups)
    shown = [row.group for row in rows]
    learners = summarise(shown, [row["rank"] for row in rows], over)
    current = list({id(cell): cell for group in groups for cell in group.cells}.values())
    return Board(
        suite,
        _hash(current),
        tuple(rows),
        learners,
        known,
        tuple(stale),
        tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason))),
        tuple(sorted({cell.provenance.git_commit for cell in current} - {""})),
        (*find_study(study).sections_of(finished), *robust_order(shown, learners)),
        finished.families,
        over,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else published(value)


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
