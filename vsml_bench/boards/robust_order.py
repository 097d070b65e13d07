"""How far the order of learners is that of the learners, and not of how a board averages: whether
neighbours change places when a split is left out or when splits are summed up in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import published
from vsml_bench.boards.summary import Summary, labels, tried
from vsml_bench.studies import Section, Value

Table: TypeAlias = npt.NDArray[np.float64]
"""Accuracy in [0, 1], [learners, splits]; 0 where there is no score."""

TITLE = "How much the order depends on how splits are averaged"
TEXT = (
    "Neighbours in the order by the mean over all splits, and whether they keep it: without one "
    "split (how many splits change it when they are left out), by the median over splits, by the "
    "mean rank, and by the mean of accuracies that are stretched on each split from 0, the lowest "
    "there, to 1, the highest. The last two depend on which learners there are."
)
HEADERS = ("better", "worse", "without one split", "median", "mean rank", "normalised mean")


def robust_order(groups: Sequence[Group], learners: Sequence[Summary]) -> tuple[Section, ...]:
    """The section; none with fewer than two learners that have a score, or splits that were run
    on. learners: best first."""
    table = _table(groups)
    ordered = [learner for learner in learners if learner.mean is not None]
    if len(ordered) < 2 or next(iter(table.values())).size < 2:
        return ()
    ranks = [-learner.mean_rank for learner in ordered if learner.mean_rank is not None]
    rows = neighbours(
        [learner.label for learner in ordered],
        np.stack([table[learner.label] for learner in ordered]),
        np.array(ranks),
    )
    return (Section(TITLE, TEXT, HEADERS, tuple(rows)),)


def neighbours(names: Sequence[str], table: Table, places: Table) -> list[tuple[Value, ...]]:
    """A row for each two neighbours, then one for all. names, table: in the order of the board.
    places: of each learner, more is better."""
    splits = table.shape[1]
    without = [np.delete(table, split, axis=1).mean(1) for split in range(splits)]
    others = [np.median(table, axis=1), places, _stretched(table).mean(1)]
    rows: list[tuple[Value, ...]] = []
    changed = np.zeros(len(HEADERS) - 2, int)
    for upper, lower in pairwise(range(len(names))):
        left_out = sum(_order(each, upper, lower) == "changed" for each in without)
        found = [_order(each, upper, lower) for each in others]
        changed += [left_out, *(order == "changed" for order in found)]
        rows.append((names[upper], names[lower], f"{left_out} of {splits}", *found))
    pairs = len(rows)
    totals = zip(changed, (pairs * splits, pairs, pairs, pairs), strict=True)
    rows.append(("all neighbours", "", *(f"{count} of {of} changed" for count, of in totals)))
    return rows


def _order(values: Table, upper: int, lower: int) -> str:
    better, worse = published(float(values[upper])), published(float(values[lower]))
    return "kept" if better > worse else "equal" if better == worse else "changed"


def _stretched(table: Table) -> Table:
    """From 0 to 1 on each split; 0 where all are equal."""
    lowest, width = table.min(0), np.ptp(table, axis=0)
    stretched: Table = (table - lowest) / np.where(width > 0, width, 1.0)
    return stretched


def _table(groups: Sequence[Group]) -> Mapping[str, Table]:
    """Label -> accuracy on each split that anyone was run on."""
    named = labels(groups)
    finished = [group for group in groups if group.finished]
    splits = {split: place for place, split in enumerate(tried(groups))}
    table = {label: np.zeros(len(splits)) for label in named.values()}
    for group in finished:
        table[named[group.learner, group.kind]][splits[group.split]] = group.estimate.mean
    return table
