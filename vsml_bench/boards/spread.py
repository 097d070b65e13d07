"""What is known of how far a mean may lie from the truth: parts of its variance, and shares of
predictions that are too few for Student's t; and from that an interval, a p-value, and what more
seeds or lifetimes would make of it. The formulas are those of `statistics` and `shares`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import erfc, inf, sqrt

from vsml_bench.boards.shares import Share, reach
from vsml_bench.boards.variances import Variance

CONFIDENCE = 0.95
NOTHING = 1e-12
"""Rounding alone makes a width of as much where there is none."""
POWER_80 = 1.43
"""1 + z(0.80) / z(0.975): from half a 95 % interval to the difference that is found decided in 80 %
of all repetitions."""
_MOST = 1_000
"""More seeds than this, or more times the lifetimes, nobody runs."""


@dataclass(frozen=True)
class Spread:
    """All that varies in a mean, or in a difference of two."""

    lifetimes: Sequence[Variance]
    """What choosing other lifetimes would do, split by split."""
    seeds: Sequence[Sequence[Variance]]
    """What other meta-train seeds would add, side by side. The first term of each is the mean
    square between seeds, the others are the residuals, which are part of `lifetimes` too."""
    shares: Sequence[Share]
    examples: Sequence[Variance] = ()
    """What choosing other test examples would do."""

    def reach(self) -> tuple[float, float] | None:
        """How far the 95 % interval goes down and up; None where anything is possible."""
        found = self._variances()
        if any(variance == inf for variance, _ in found):
            return None
        below = above = self._half(found)
        if self._by_shares(below):
            lower, higher = reach(self.shares)
            below, above = max(below, lower), max(above, higher)
        return below, above

    def p(self, mean: float) -> float:
        """The level at which the interval around `mean` just reaches 0, its two-sided p-value."""
        found = self._variances()
        if mean == 0 or any(variance == inf for variance, _ in found):
            return 1.0
        p = max(_p(mean, variance, df) for variance, df in found)
        return max(p, self._p_of_shares(mean)) if self._by_shares(self._half(found)) else p

    def turned(self) -> Spread:
        """Of the same difference seen from the other side."""
        shares = [replace(share, weight=-share.weight) for share in self.shares]
        return Spread(self.lifetimes, self.seeds[::-1], shares, self.examples)

    def _variances(self) -> list[tuple[float, float]]:
        """With degrees of freedom, without the examples and with them: what is well known beside
        little known parts must not make the interval narrower."""
        parts = [*self.lifetimes, *(part for side in self.seeds for part in side)]
        found = [_satterthwaite(parts)]
        return [*found, _satterthwaite([*parts, *self.examples])] if self.examples else found

    def _half(self, found: Sequence[tuple[float, float]]) -> float:
        return max(_half(variance, df) for variance, df in found)

    def _by_shares(self, half: float) -> bool:
        return half < NOTHING or any(share.few for share in self.shares)

    def _p_of_shares(self, mean: float) -> float:
        """Halves the interval of z at whose end the shares' interval reaches 0."""
        side = 0 if mean > 0 else 1
        low, high = 0.0, 38.0  # beyond it, no float is left of p
        if reach(self.shares, high)[side] < abs(mean):
            return 0.0
        for _ in range(45):
            middle = (low + high) / 2
            if reach(self.shares, middle)[side] < abs(mean):
                low = middle
            else:
                high = middle
        return erfc(high / sqrt(2))

    def with_more(self, seeds: Sequence[int], lifetimes: float) -> Spread:
        """As it would be with so many more meta-train seeds on each side, and so many times the
        lifetimes, of the same test examples, if the effects of seeds, lifetimes and both vary as
        they were found to."""
        sides, gone, residuals = [], 0.0, 0.0
        for side, more in zip(self.seeds, seeds, strict=True):
            for part in side:
                rest = sum(value for value, _ in part.terms[1:])
                residuals += rest
                gone += rest * (1 - _fewer(part, more))
            sides.append([_seeds_with(part, more, lifetimes) for part in side])
        found = sum(part.value for part in self.lifetimes)
        # What seeds and lifetimes have together is a part of what lifetimes are found to do.
        left = 1 - gone * min(1.0, found / residuals) / found if gone and found else 1.0
        parts = [_lifetimes_with(part, left, lifetimes) for part in self.lifetimes]
        shares = [
            replace(share, predictions=share.predictions * lifetimes) for share in self.shares
        ]
        return Spread(parts, sides, shares, self.examples)


def _satterthwaite(parts: Sequence[Variance]) -> tuple[float, float]:
    """The variance of a sum, and its degrees of freedom, at least 1; 0 where there are none."""
    variance = sum(part.value for part in parts)
    if variance == inf:
        return variance, 0.0
    squares = sum(value**2 / df for part in parts for value, df in part.terms)
    return variance, max(1.0, variance**2 / squares) if variance > 0 and squares > 0 else 0.0


def _half(variance: float, df: float) -> float:
    """Half the 95 % interval by Student's t."""
    if not df:
        return 0.0
    from scipy.special import stdtrit  # scipy.stats takes much longer to import

    return float(stdtrit(df, (1 + CONFIDENCE) / 2)) * sqrt(variance)


def _p(mean: float, variance: float, df: float) -> float:
    if not df:
        return 0.0
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(mean) / sqrt(variance)))


def _fewer(part: Variance, more: int) -> float:
    """By what the variance over seeds shrinks."""
    if not part.terms:
        return 1.0
    seeds = part.terms[0][1] + 1
    return seeds / (seeds + more)


def _seeds_with(part: Variance, more: int, lifetimes: float) -> Variance:
    if not part.terms:
        return part
    (between, df), *residuals = part.terms
    fewer, factor = _fewer(part, more), (df + more) / df
    rest = [(value * fewer / lifetimes, each * factor * lifetimes) for value, each in residuals]
    beyond = fewer * (between - sum(value for value, _ in residuals))
    mean_square = max(0.0, beyond + sum(value for value, _ in rest))
    return Variance(part.value * fewer, ((mean_square, df + more), *rest))


def _lifetimes_with(part: Variance, left: float, lifetimes: float) -> Variance:
    value = part.value * left / lifetimes
    terms = tuple((value, (df + 1) * lifetimes - 1) for _, df in part.terms)
    return Variance(value, terms)


@dataclass(frozen=True)
class More:
    """How many more would find a difference of this size decided in 80 % of all repetitions, each
    alone; None where it is decided, where nobody would run as many, or where nobody knows."""

    seeds: int | None
    """Meta-train seeds of each learner that has meta-parameters."""
    lifetimes: int | None
    """On each split."""


def needed(mean: float, spread: Spread, seeded: Sequence[bool], lifetimes: int) -> More:
    """What more it takes to find a difference of `mean` decided.

    seeded: which sides have meta-parameters. lifetimes: of a split.
    """
    measured = [all(part.terms for part in side) for side in spread.seeds]
    known = any(seeded) and all(found for found, of in zip(measured, seeded, strict=True) if of)

    def with_seeds(more: int) -> Spread:
        return spread.with_more([more if of else 0 for of in seeded], 1.0)

    def with_lifetimes(more: int) -> Spread:
        return spread.with_more([0 for _ in seeded], (lifetimes + more) / lifetimes)

    return More(
        _least(mean, with_seeds, _MOST) if known else None,
        _least(mean, with_lifetimes, _MOST * lifetimes),
    )


def _least(mean: float, spread: Callable[[int], Spread], most: int) -> int | None:
    """The smallest number more with which the difference is large enough."""

    def enough(more: int) -> bool:
        found = spread(more).reach()
        return found is not None and POWER_80 * sum(found) / 2 <= abs(mean)

    if mean == 0 or not enough(most):
        return None
    low, high = 0, 1
    while not enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
