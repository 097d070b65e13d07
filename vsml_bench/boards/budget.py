"""Which cells are worth their time: what narrows the intervals of a comparison most per second.

The model is that of `statistics`: seeds and lifetimes are crossed. With sigma^2 the variance that
seeds give to a learner's mean over splits, b_k and e_k those of lifetimes and of the residual on
split k, w = 1 / splits, S seeds and L lifetimes, a mean over splits has

    V(S) = sigma^2 / S + sum over k of w^2 (b_k + e_k / S) / L,

and a difference of two learners the sum of both seeds' parts, with b_k of their paired difference.
The half-width is t(0.975, df(S)) sqrt(V(S)), with Satterthwaite's degrees of freedom as they will
be. Components are estimated from stored cells; at today's numbers of seeds that gives today's
interval, but for what the choice of test examples adds, which no more seeds narrow.

What is not known is taken from the others: components of a learner with one seed are the median of
those that have several, and one seed counts as if it left one degree of freedom. An accuracy that
was never measured may be anything in [0, 1], and has the variance 1/12 of that.

The cells are then chosen one step after the other, a seed of one learner on all splits that lack it
(or the first seed on one split), each time the step with the largest gain for its seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import numpy as np

from vsml_bench.boards.spread import CONFIDENCE
from vsml_bench.boards.variances import Scores
from vsml_bench.evaluation.plan import Plan

NOTHING_KNOWN = 1 / 12
"""Variance of an accuracy that may be anything."""
A_POINT = 1e-4
"""Variance of seeds, where nobody has several: a percentage point squared."""

Measured: TypeAlias = Mapping[str, Mapping[str, Scores]]
"""Learner -> split -> accuracies [seeds, lifetimes]."""
Counts: TypeAlias = dict[tuple[str, str], int]
"""(learner, split) -> its seeds that have a score there."""


@dataclass(frozen=True)
class _Learner:
    """What its stored cells say of one learner."""

    meta_trained: bool
    seeds: float  # variance of its mean over splits
    lifetimes: dict[str, float]  # split -> b_k
    residual: dict[str, float]  # split -> e_k


class Widths:
    """Expected half-widths of intervals, for any number of seeds."""

    def __init__(
        self, scores: Measured, splits: Sequence[str], meta_trained: Iterable[str]
    ) -> None:
        """scores: of all learners that anything is known of, so that they stand in for others.
        meta_trained: those whose seeds matter."""
        self.scores, self.splits = scores, splits
        self.now: Counts = {
            (learner, split): len(of) for learner, on in scores.items() for split, of in on.items()
        }
        self._lifetimes = {split: self._longest(split) for split in splits}
        known = [of for on in scores.values() for split, of in on.items() if split in splits]
        residuals = [found for of in known if (found := _residual(of)) is not None]
        self._residual = median(residuals) if residuals else 0.0
        between = [_between(of, self._residual) for of in known if of.shape[1] > 1]
        self._between = median(between) if between else NOTHING_KNOWN
        trained = set(meta_trained)
        own = {learner: self._seeds_of(learner) for learner in trained}
        measured = [variance for variance in own.values() if variance is not None]
        self._of_seeds = median(measured) if measured else A_POINT
        self._known = {
            learner: _Learner(
                learner in trained,
                self._variance_of(own[learner]) if learner in trained else 0.0,
                {s: _between(of, self._residual) for s, of in scores.get(learner, {}).items()},
                {s: self._residual_of(of) for s, of in scores.get(learner, {}).items()},
            )
            for learner in {*scores, *trained}
        }

    def _longest(self, split: str) -> int:
        return max((on[split].shape[1] for on in self.scores.values() if split in on), default=1)

    def _variance_of(self, own: float | None) -> float:
        return self._of_seeds if own is None else own

    def _residual_of(self, of: Scores) -> float:
        found = _residual(of)
        return self._residual if found is None else found

    def _seeds_of(self, learner: str) -> float | None:
        """sigma^2, from the seeds that all its splits have; None for less than two."""
        of = [on for split, on in self.scores.get(learner, {}).items() if split in self.splits]
        seeds = min((len(on) for on in of), default=0)
        if seeds < 2 or any(on.shape[1] < 2 for on in of):
            return None
        weight = 1 / len(self.splits)
        means: Scores = np.sum([weight * on[:seeds].mean(1) for on in of], axis=0)
        noise = sum(weight**2 * self._residual_of(on) / on.shape[1] for on in of)
        return float(max(0.0, float(np.var(means, ddof=1)) - noise))

    def half_width(self, sides: Sequence[str], counts: Counts) -> float:
        """Of the mean over splits of one learner, or of the paired difference of two, with so many
        seeds as `counts` says."""
        weight = 1 / len(self.splits)
        variance = 0.0
        terms: list[tuple[float, float]] = []
        for split in self.splits:
            there = [side for side in sides if counts.get((side, split))]
            variance += weight**2 * NOTHING_KNOWN * (len(sides) - len(there))
            if not there:
                continue
            lifetimes = self._lifetimes[split]
            between = self._pair(there, split)
            rest = sum(self._e(side, split) / counts[side, split] for side in there)
            part = weight**2 * (between + rest) / lifetimes
            variance += part
            terms.append((part, max(1, lifetimes - 1)))
        for side in sides:
            of = self._known.get(side)
            if of is None or not of.meta_trained:
                continue
            seeds = [counts[side, split] for split in self.splits if counts.get((side, split))]
            if not seeds:
                continue
            number = len(seeds) / sum(1 / count for count in seeds)  # S, where all have as many
            df = max(1.0, number - 1)
            noise = [
                (weight**2 * self._e(side, split) / self._lifetimes[split], self._lifetimes[split])
                for split in self.splits
                if counts.get((side, split))
            ]
            variance += of.seeds / number
            terms.append(((of.seeds + sum(part for part, _ in noise)) / number, df))
            terms += [(part / number, df * max(1, count - 1)) for part, count in noise]
        squares = sum(value**2 / df for value, df in terms)
        if variance <= 0:
            return 0.0
        from scipy.special import stdtrit  # scipy.stats takes much longer to import

        df = max(1.0, variance**2 / squares) if squares > 0 else 1.0
        return float(stdtrit(df, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)

    def _e(self, side: str, split: str) -> float:
        of = self._known.get(side)
        if of is not None and not of.meta_trained:
            return 0.0  # it has one seed, so that all of its spread is that of lifetimes
        return self._residual if of is None else of.residual.get(split, self._residual)

    def _pair(self, there: Sequence[str], split: str) -> float:
        """b_k of one learner, or of the difference of two."""
        measured = [self.scores.get(side, {}).get(split) for side in there]
        if any(of is None for of in measured):
            return self._between * len(there)
        means = [of.mean(0) for of in measured if of is not None]
        own = means[0] - means[1] if len(means) == 2 else means[0]
        if len(own) < 2:
            return self._between * len(there)
        noise = sum(self._e(side, split) / self.now[side, split] for side in there)
        return max(0.0, float(own.var(ddof=1)) - noise)


def _between(of: Scores, residual: float) -> float:
    """The variance b of one learner's scores. residual: e, where its seeds do not tell."""
    found = _residual(of)
    rest = residual if found is None else found
    return max(0.0, float(of.mean(0).var(ddof=1)) - rest / len(of)) if of.shape[1] > 1 else 0.0


def _residual(of: Scores) -> float | None:
    """The variance e that neither seeds nor lifetimes explain; None where either is one."""
    seeds, lifetimes = of.shape
    if seeds < 2 or lifetimes < 2:
        return None
    rest = of - of.mean(1, keepdims=True) - of.mean(0, keepdims=True) + of.mean()
    return float((rest**2).sum() / ((seeds - 1) * (lifetimes - 1)))


@dataclass(frozen=True)
class Step:
    """One learner's seed, on these splits."""

    learner: str
    seed: int
    splits: tuple[str, ...]
    seconds: float
    width: float
    """Sum of the half-widths of all comparisons after it."""


def choose(
    widths: Widths,
    comparisons: Sequence[Sequence[str]],
    lacking: Sequence[Plan],
    seconds_of: Callable[[Sequence[Plan]], float],
    budget: float,
) -> list[Step]:
    """The steps to take, in their order.

    comparisons: each of one learner or two. lacking: cells that could be run, a learner's seeds in
    the order in which they are to be. seconds_of: what cells cost, those that were chosen earlier
    being there. budget: in seconds.
    """
    counts, left, steps = dict(widths.now), list(lacking), list[Step]()
    bought: list[Plan] = []
    spent = 0.0
    width = sum(widths.half_width(sides, counts) for sides in comparisons)
    while True:
        best: tuple[float, float, float, list[Plan]] | None = None
        for plans in candidates(left, counts):
            cost = seconds_of([*bought, *plans]) - seconds_of(bought)
            if spent + cost > budget:
                continue
            then = _with(counts, plans)
            after = sum(widths.half_width(sides, then) for sides in comparisons)
            gain = (width - after) / max(cost, 1e-9)
            if after < width and (best is None or gain > best[0]):
                best = gain, cost, after, plans
        if best is None:
            return steps
        _, cost, width, plans = best
        counts, spent = _with(counts, plans), spent + cost
        bought += plans
        left = [plan for plan in left if plan not in plans]
        splits = tuple(plan.split.name for plan in plans)
        steps.append(Step(plans[0].learner, plans[0].job.seed, splits, round(cost, 1), width))


def candidates(left: Sequence[Plan], counts: Counts) -> list[list[Plan]]:
    """The next seed of each learner, and the first one on each split that has none."""
    by_learner: dict[str, dict[int, list[Plan]]] = {}
    for plan in left:
        by_learner.setdefault(plan.learner, {}).setdefault(plan.job.seed, []).append(plan)
    found = []
    for of in by_learner.values():
        first = next(iter(of.values()))
        found.append(first)
        if len(first) > 1:
            found += [[p] for p in first if not counts.get((p.learner, p.split.name))]
    return found


def _with(counts: Counts, plans: Sequence[Plan]) -> Counts:
    then = dict(counts)
    for plan in plans:
        place = (plan.learner, plan.split.name)
        then[place] = then.get(place, 0) + 1
    return then
