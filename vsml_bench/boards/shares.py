"""Score intervals: what a count of right and wrong predictions says by itself.

Student's t takes means for normal, which they are not where few predictions are right or few are
wrong: of 16 lifetimes of 5 steps that are 99 % right it covers far less than 95 %, and it has no
width where all lifetimes are equal. Then, below FEW of the one or the other, or without width, the
interval is widened to hold the score interval of a share p of n = L steps predictions as well,

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),   z = 1.96,

and for a sum of such shares with weights w, as in differences (w = 1, -1), the one recovered from
their ends l and u: the sum minus and plus the root of the sum of squares of the parts w (p - l) and
w (u - p), the two exchanged where w < 0. Seeds meet the same examples, so they add nothing to n;
nor do lifetimes, where they share examples and these are right or wrong in all of them alike.
Sources: Wilson, "Probable inference, the law of succession, and statistical inference", JASA
22(158), 1927; Brown, Cai & DasGupta, "Interval estimation for a binomial proportion", Statistical
Science 16(2), 2001; Newcombe, "Interval estimation for the difference between independent
proportions", Statistics in Medicine 17(8), 1998, method 10; Zou & Donner, "Construction of
confidence limits about effect measures", Statistics in Medicine 27(10), 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

Z = 1.959963984540054
"""The normal distribution's quantile that leaves out CONFIDENCE's half at either side."""
FEW = 100
"""Of right or of wrong predictions over all lifetimes; the score interval counts below it."""


@dataclass(frozen=True)
class Share:
    """A share of predictions that are right, a weight in a sum of such shares, and their number."""

    weight: float
    right: float
    predictions: float
    """Unrelated ones."""

    @property
    def few(self) -> bool:
        """Whether the mean is not taken for normal."""
        return min(self.right, 1 - self.right) * self.predictions < FEW

    def reach(self, z: float = Z) -> tuple[float, float]:
        """How far its part of the sum may lie lower and higher."""
        low, high = wilson(self.right, self.predictions, z)
        ends = (self.weight * (self.right - low), self.weight * (high - self.right))
        return ends if self.weight > 0 else (-ends[1], -ends[0])


def reach(shares: Sequence[Share], z: float = Z) -> tuple[float, float]:
    """How far the sum of weighted shares may lie lower and higher."""
    ends = [share.reach(z) for share in shares]
    return sqrt(sum(low * low for low, _ in ends)), sqrt(sum(high * high for _, high in ends))


def wilson(share: float, count: float, z: float = Z) -> tuple[float, float]:
    """The score interval of a share of `count`; z: of its confidence, by default 95 %."""
    square = z**2 / count
    middle = share + square / 2
    half = z * sqrt(share * (1 - share) / count + square / (4 * count))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)
