"""Two learners side by side: what separates them on each split and over all of them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np

from vsml_bench.boards.board import Board
from vsml_bench.boards.families import Family, member, scored
from vsml_bench.boards.groups import Group
from vsml_bench.boards.seen import away_splits
from vsml_bench.boards.spread import CONFIDENCE, More, needed
from vsml_bench.boards.statistics import Difference
from vsml_bench.boards.variances import Scores

K = TypeVar("K", bound=Hashable)

OVERALL = ""
"""Stands for the splits with data never seen, which count alike."""


@dataclass(frozen=True)
class Pair:
    """The first learner minus the second on the same pinned lifetimes."""

    first: str
    second: str
    split: str
    """`OVERALL` for the splits with data never seen."""
    difference: Difference
    """Of accuracies in [0, 1]; its interval and its p-value are of this pair by itself."""
    holm: float
    """The p-value corrected for all pairs of learners on the split."""
    wins: float
    """Probability that the first is better on a fresh lifetime, ties shared: the share of lifetimes
    and pairs of seeds where it is."""
    seeds: tuple[int, int]
    """Meta-train seeds of each; the fewest that a split has."""
    lifetimes: int
    """Of a split, the fewest that one has."""
    more: More
    """What would separate them, where they are not decided."""

    @property
    def decided(self) -> bool:
        """Whether one is better, all pairs of learners on the split considered."""
        return self.holm <= 1 - CONFIDENCE

    @property
    def detectable(self) -> float | None:
        """See `Difference.detectable`."""
        return self.difference.detectable

    @property
    def said(self) -> str:
        """Whether it is decided, in a table."""
        return "yes" if self.decided else "by itself" if self.difference.decided else "no"

    def turned(self) -> Pair:
        """The second minus the first."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=self.difference.turned(),
            wins=1 - self.wins,
            seeds=self.seeds[::-1],
        )

    def verdict(self) -> str:
        """In one sentence, for a reader who wants no table."""
        d = self.difference
        where = f"on {self.split}" if self.split != OVERALL else "on data never seen"
        ends = f"{signed(d.low)} to {signed(d.high)}"
        found = f"{self.first} against {self.second} {where}: {signed(d.mean)} points ({ends})"
        better = self.first if d.mean > 0 else self.second
        if self.decided:
            return f"{found}, decided: {better} is better."
        if d.decided:
            return f"{found}: {better} is better, if the pair was named before any result was seen."
        return f"{found}, not separable{_would(self.more)}."


def signed(share: float) -> str:
    """In percentage points."""
    return f"{100 * share:+.1f}".replace("-0.0", "+0.0")


def _would(more: More) -> str:
    ways = {"seed": more.seeds, "lifetime": more.lifetimes}
    said = [f"{n:,} more {what}{'s' * (n > 1)}" for what, n in ways.items() if n is not None]
    return f"; {' or '.join(said)} would" if said else "; no affordable number of lifetimes would"


def pairs(board: Board, only: Collection[str] = ()) -> list[Pair]:
    """Every two learners that have scores on the same split, and overall; a learner is called as in
    `Board.by_label`. only: the two to look at."""
    groups = board.by_label
    overall = away_splits(board)
    members = {label: scored(of, overall) for label, of in groups.items()}
    over = Family({label: of for label, of in members.items() if of is not None})
    found = []
    for pair in combinations([label for label in groups if not only or label in only], 2):
        chances: dict[str, float] = {}
        for split, family in board.families.items():
            ours, theirs = (_on(split, groups[label]) for label in pair)
            if ours is not None and theirs is not None:
                chances[split] = wins(ours.scores, theirs.scores)
                found.append(
                    _pair(pair, split, family, (member(ours), member(theirs)), chances[split])
                )
        if over.members.keys() >= set(pair):
            chance = float(np.mean([chances[split] for split in overall]))
            found.append(_pair(pair, OVERALL, over, pair, chance))
    return found


def _on(split: str, groups: Sequence[Group]) -> Group | None:
    return next((of for of in groups if of.split == split and of.finished), None)


def _pair(
    names: tuple[str, str], split: str, family: Family[K], keys: tuple[K, K], chance: float
) -> Pair:
    ours, theirs = (family.members[key] for key in keys)
    difference = family.difference(*keys)
    lifetimes = min(ours.lifetimes, theirs.lifetimes)
    more = More(None, None)
    if not difference.decided:
        seeded = (ours.seeded, theirs.seeded)
        more = needed(difference.mean, difference.spread, seeded, lifetimes)
    return Pair(
        *(*names, split, difference, family.holm(*keys), chance),
        *((ours.seeds, theirs.seeds), lifetimes, more),
    )


def wins(ours: Scores, theirs: Scores) -> float:
    """How often ours is better on the same lifetime; ours, theirs [seeds, lifetimes]."""
    difference = ours[:, None, :] - theirs[None, :, :]  # [our seeds, their seeds, lifetimes]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
