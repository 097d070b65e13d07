"""Each learner in one line: how well it does on tasks like those it was meta-trained on, how well
on data that it has never seen, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml_bench.boards.board import Board
from vsml_bench.boards.costs import Cost, cost_of
from vsml_bench.boards.families import Family, Scored
from vsml_bench.boards.groups import Group
from vsml_bench.boards.seen import away_splits, home_splits
from vsml_bench.boards.statistics import Interval
from vsml_bench.boards.summary import tied


@dataclass(frozen=True)
class Standing:
    """One learner, on one kind of device where it was run on several."""

    label: str
    family: str
    home: Interval | None
    """Accuracy in [0, 1] on tasks like those of meta-training, with a split that lacks a score as
    0; None where there is no score at all."""
    away: Interval | None
    """Likewise on data that meta-training has never seen."""
    rank_low: int | None
    """Best and worst place by `away` that no decided paired difference excludes."""
    rank_high: int | None
    tie: int | None
    """Number of its group: the learners that are not decidedly worse than the best of the group."""
    cost: Cost | None
    home_lacks: int = 0
    """Splits without a score, of those of `home`."""
    away_lacks: int = 0
    """Likewise."""
    meta_trained: bool = False
    """Whether meta-training made it what it is; else its rule is fixed, or tuned."""
    one_seed: bool = False
    """Whether it has meta-parameters and some score is of one meta-train seed, so that intervals
    leave out how results vary between seeds."""


def standings(board: Board) -> list[Standing]:
    """All learners that were run, best on data never seen first, those without such a score
    last."""
    groups = {label: of for label, of in board.by_label.items() if label not in board.not_run}
    home, away = (
        {label: mean for label, of in groups.items() if (mean := _scored(of, splits))}
        for splits in (home_splits(board), away_splits(board))
    )
    means = {label: found.mean.mean for label, found in away.items()}
    order = sorted(away, key=lambda label: (-means[label], label))
    family = Family(away)
    ties = tied(order, family.decided)
    found = []
    for label in [*order, *(label for label in groups if label not in away)]:
        of = groups[label]
        low, high = family.places(label) if label in away else (None, None)
        here, there = home.get(label), away.get(label)
        found.append(
            Standing(
                label,
                of[0].plans[0].job.learner.family,
                here.mean if here else None,
                there.mean if there else None,
                low,
                high,
                ties.get(label),
                cost_of(of),
                here.lacking if here else 0,
                there.lacking if there else 0,
                of[0].plans[0].job.recipe is not None,
                any(mean is not None and mean.one_seed for mean in (here, there)),
            )
        )
    return found


def _scored(groups: Sequence[Group], splits: Sequence[str]) -> Scored | None:
    """None where no split has a score."""
    if not any(group.finished and group.split in splits for group in groups):
        return None
    return Scored.of(groups, splits)
