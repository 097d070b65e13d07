"""Two learners side by side: what separates them on each split and over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vsml_bench.boards.board import Board
from vsml_bench.boards.page.standings import Scored, away_splits, by_label, scored
from vsml_bench.boards.statistics import Interval
from vsml_bench.boards.variances import Scores

OVERALL = ""
"""Stands for the splits with data never seen, which count alike."""
_POWER_80 = 1.43
"""1 + z(0.80) / z(0.975): from half a 95 % interval to the difference that is found decided in 80 %
of all repetitions."""


@dataclass(frozen=True)
class Pair:
    """The first learner minus the second on the same pinned lifetimes."""

    first: str
    second: str
    split: str
    """`OVERALL` for the splits with data never seen."""
    difference: Interval
    """Of accuracies in [0, 1]; each comparison stands at 95 % by itself."""
    wins: float
    """Probability that the first is better on a fresh lifetime, ties shared: the share of lifetimes
    and pairs of seeds where it is."""
    detectable: float | None
    """The smallest true difference that these seeds and lifetimes would find decided in 80 % of
    all repetitions; None where they tell nothing of the spread."""
    lifetimes: int


def pairs(board: Board) -> list[Pair]:
    """Every two learners that have scores on the same split, and overall."""
    groups = by_label(board)
    splits = list(dict.fromkeys(row.group.split for row in board.rows))
    overall = away_splits(board)
    found = []
    for first, second in combinations(groups, 2):
        chances: dict[str, float] = {}
        for split in [*splits, OVERALL]:
            over = overall if split == OVERALL else (split,)
            ours, theirs = (scored(groups[name], over) for name in (first, second))
            if ours is None or theirs is None:
                continue
            if split != OVERALL:
                chances[split] = wins(ours.splits[0], theirs.splits[0])
            chance = float(np.mean([chances[each] for each in over]))
            found.append(_pair(first, second, split, ours, theirs, chance))
    return found


def wins(ours: Scores, theirs: Scores) -> float:
    """How often ours is better on the same lifetime; ours, theirs [seeds, lifetimes]."""
    difference = ours[:, None, :] - theirs[None, :, :]  # [our seeds, their seeds, lifetimes]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def _pair(first: str, second: str, split: str, ours: Scored, theirs: Scored, won: float) -> Pair:
    difference = ours.minus(theirs)
    half = (difference.high - difference.low) / 2
    known = half > 0 and (difference.low, difference.high) != (-1.0, 1.0)
    return Pair(
        first,
        second,
        split,
        difference,
        won,
        _POWER_80 * half if known else None,
        min(scores.shape[1] for scores in ours.splits),
    )


def smallest_detectable(found: Sequence[Pair], split: str) -> float | None:
    """The median over all pairs of what a split can tell apart; None where there is none."""
    known = [pair.detectable for pair in found if pair.split == split and pair.detectable]
    return float(np.median(known)) if known else None
