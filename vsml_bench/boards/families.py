"""All pairs of learners on the same splits, and which of them are decided.

A pair is **decided by itself** if the 95 % interval of its paired difference leaves out 0. Of many
pairs of equals, that calls one in twenty decided. A board, and each of its pages and columns, shows
all m = n (n - 1) / 2 pairs of its n learners on a split, so these are a family: a pair is
**decided** if its p-value, corrected for the family as Holm does, is at most 0.05,

    p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),     p_(1) <= ... <= p_(m).

Then the chance that any pair of equals of the family is called decided is at most 5 %, however the
pairs hang together. The mean over several splits makes a family of its own. Source: Holm, "A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from vsml_bench.boards import statistics
from vsml_bench.boards.examples import Of
from vsml_bench.boards.groups import Group
from vsml_bench.boards.spread import CONFIDENCE
from vsml_bench.boards.statistics import Difference, Interval, Splits

K = TypeVar("K", bound=Hashable)
Member: TypeAlias = tuple[str, str]
"""(learner, kind of device)."""


@dataclass(frozen=True)
class Scored:
    """One learner's scores on each of several splits, which count alike."""

    splits: Splits
    basis: tuple[Of, ...]
    """What each split's scores are of."""
    seeded: bool
    """Whether it has meta-parameters, so that other meta-train seeds may do otherwise."""

    @classmethod
    def of(cls, groups: Sequence[Group], splits: Iterable[str]) -> Scored:
        """Of one learner's groups; a split on which it has no score counts as 0. Of groups with
        other seeds, those seeds count that all have, if any."""
        found = {group.split: group for group in _alike([g for g in groups if g.finished])}
        each = [found.get(split) for split in splits]
        return cls(
            [group.scores if group is not None else None for group in each],
            tuple(group.basis if group is not None else None for group in each),
            any(group.has_meta_parameters for group in found.values()),
        )

    @property
    def mean(self) -> Interval:
        """Accuracy over the splits."""
        return statistics.mean_over_splits(self.splits, self.basis)

    @property
    def lacking(self) -> int:
        """Splits without a score."""
        return sum(scores is None for scores in self.splits)

    @property
    def seeds(self) -> int:
        """Meta-train seeds, the fewest that a split has."""
        return min(len(scores) for scores in self.splits if scores is not None)

    @property
    def one_seed(self) -> bool:
        """Whether nothing is known of how results vary between meta-train seeds on some split."""
        return self.seeded and self.seeds == 1

    @property
    def lifetimes(self) -> int:
        """Of a split, the fewest that one has."""
        return min(len(scores[0]) for scores in self.splits if scores is not None)

    def minus(self, other: Scored) -> Difference:
        """The difference to another learner on the same splits and pinned lifetimes."""
        of = list(zip(self.basis, other.basis, strict=True))
        return statistics.difference_over_splits(self.splits, other.splits, of)


def _alike(groups: Sequence[Group]) -> Sequence[Group]:
    """With the cells of those seeds that all of them have, as a seed that is good on one split is
    good on others; as they are where there is no such seed."""
    seeds = [set(group.seeds) for group in groups]
    common = set.intersection(*seeds) if seeds else set()
    if not common:
        return groups
    return [
        replace(group, cells=tuple(c for c in group.cells if c.plan.job.seed in common))
        if common != of
        else group
        for group, of in zip(groups, seeds, strict=True)
    ]


def scored(groups: Sequence[Group], splits: Sequence[str]) -> Scored | None:
    """None where a split lacks a score."""
    of = {group.split: group for group in groups if group.finished}
    if not splits or not set(splits) <= of.keys():
        return None
    return Scored.of(groups, splits)


class Family(Generic[K]):
    """Learners with scores on the same splits, and the paired difference of every two."""

    def __init__(self, members: Mapping[K, Scored]) -> None:
        self.members = members
        self._differences = {
            (first, second): members[first].minus(members[second])
            for first, second in combinations(members, 2)
        }
        corrected = holm([difference.p for difference in self._differences.values()])
        self._holm = dict(zip(self._differences, corrected, strict=True))

    def difference(self, first: K, second: K) -> Difference:
        """The first minus the second."""
        if (first, second) in self._differences:
            return self._differences[first, second]
        return self._differences[second, first].turned()

    def holm(self, first: K, second: K) -> float:
        """The p-value of a pair, corrected for the family."""
        return self._holm[(first, second) if (first, second) in self._holm else (second, first)]

    def decided(self, first: K, second: K) -> bool:
        """Whether one of the two is better, in whatever order they are named."""
        return self.holm(first, second) <= 1 - CONFIDENCE

    def places(self, member: K) -> tuple[int, int]:
        """The best and the worst place that no decided difference excludes."""
        others = [of for of in self.members if of != member and self.decided(member, of)]
        better = sum(self.difference(member, of).mean < 0 for of in others)
        return 1 + better, len(self.members) - (len(others) - better)

    @property
    def detectable(self) -> float | None:
        """The smallest difference that half of all pairs would find decided by itself in 80 % of
        all repetitions: the median of `Difference.detectable`; None where there is none."""
        known = [of.detectable for of in self._differences.values()]
        found = [detectable for detectable in known if detectable is not None]
        return float(np.median(found)) if found else None


class Finished(tuple[Group, ...]):
    """The groups of a board that have a score."""

    @cached_property
    def families(self) -> Mapping[str, Family[Member]]:
        """Split -> all pairs of those that have a score on it."""
        return {split: on_split(self, split) for split in dict.fromkeys(of.split for of in self)}


def on_split(groups: Iterable[Group], split: str) -> Family[Member]:
    """All pairs of those of the groups that have a score on the split."""
    found = {member(of): of for of in groups if of.split == split and of.finished}
    return Family({of: Scored.of([group], [split]) for of, group in found.items()})


def member(group: Group) -> Member:
    """As what a group is in the family of its split."""
    return group.learner, group.kind


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are, in the order given."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected, most = [0.0] * len(p), 0.0
    for done, index in enumerate(order):
        most = max(most, min(1.0, (len(p) - done) * p[index]))
        corrected[index] = most
    return corrected
