"""What one change of the data does to a learner: a split beside the one it is a changed form of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml_bench.boards import statistics
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import Interval


@dataclass(frozen=True)
class Change:
    """A learner's accuracies over as many steps as both splits have, in [0, 1]."""

    home: Group
    """The same learner on the split without the change."""
    unchanged: float
    changed: float
    difference: Interval
    """Changed minus unchanged."""
    paired: bool
    """Whether both have the same lifetimes but for the change, so that differences are formed
    lifetime by lifetime. Permuted labels and projected inputs make other tasks, whose lifetimes are
    unrelated; meta-train seeds are the same on both sides in either case."""


def change_of(group: Group, finished: Sequence[Group]) -> Change | None:
    """What the change of the group's split does; None where the split is no changed form of
    another, or the same seeds have no score there."""
    others = finished if group.unchanged else ()
    home = next((of for of in others if _is_home(of, group)), None)
    if home is None:
        return None
    steps = range(min(home.correct.shape[2], group.correct.shape[2]))
    (before, of_before), (after, of_after) = home.part(steps), group.part(steps)
    paired = home.lifetime_seeds == group.lifetime_seeds
    # A generalisation gap is such a difference too: seeds are paired, lifetimes are not.
    between = statistics.paired_change if paired else statistics.generalisation_gap
    difference = between(after, before, (of_after, of_before))
    return Change(home, float(before.mean()), float(after.mean()), difference, paired)


def _is_home(home: Group, group: Group) -> bool:
    return (home.split, home.learner, home.kind, home.seeds) == (
        *(group.unchanged, group.learner, group.kind, group.seeds),
    )
