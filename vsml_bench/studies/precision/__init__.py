"""What does mixed precision do to accuracy?"""

from __future__ import annotations

from collections.abc import Sequence

from vsml_bench.boards import statistics
from vsml_bench.boards.groups import Group
from vsml_bench.studies import Section, Study, Value

STUDY = Study(sections="vsml_bench.studies.precision:sections")

HEADERS = (
    *("split", "learner", "on", "float32", "mixed"),
    *("difference", "at least", "at most", "seeds"),
)
TEXT = (
    "Each learner meta-tested in float32 and in mixed precision, from the same meta-parameters on "
    "the same lifetimes: accuracies over all steps and their difference with its 95 % interval, "
    "formed lifetime by lifetime."
)


def sections(finished: Sequence[Group]) -> list[Section]:
    """One table, of what has a score in float32 and in another precision on one device; none
    where nothing has."""
    full = {_place(of): of for of in finished if _precision(of) == "float32"}
    rows = [
        _row(of, full[_place(of)])
        for of in finished
        if _precision(of) != "float32" and _place(of) in full
    ]
    return [Section("Mixed precision", TEXT, HEADERS, tuple(rows))] if rows else []


def _row(of: Group, full: Group) -> tuple[Value, ...]:
    ours, theirs = (side.scores for side in (of, full))
    change = statistics.paired_change(ours, theirs, (of.basis, full.basis))
    scores = (float(theirs.mean()), float(ours.mean()), change.mean, change.low, change.high)
    return (of.split, of.learner, of.device, *scores, len(of.cells))


def _place(of: Group) -> tuple[object, ...]:
    first = of.cells[0].provenance
    device = "cpu" if first.processor == "cpu" else first.device
    return of.split, of.learner, device, of.seeds


def _precision(of: Group) -> str:
    return of.cells[0].provenance.precision
