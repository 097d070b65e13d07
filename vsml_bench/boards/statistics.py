"""Means with honest intervals: two levels of chance, which meta-train seed and which lifetimes.

The lifetimes of a split are pinned, so every seed of every learner meets the same ones: seeds and
lifetimes are **crossed**. With S seeds, L lifetimes and x[s, l] the accuracy over one lifetime,

    x[s, l] = mu + a[s] + b[l] + e[s, l]          (crossed random effects, one observation a cell)

the mean squares MS_a (seeds), MS_b (lifetimes) and MS_e (residual) estimate L var(a) + var(e),
S var(b) + var(e) and var(e), and the variance of the grand mean is

    V = var(a)/S + var(b)/L + var(e)/(S L),   estimated by   (MS_b + max(0, MS_a - MS_e)) / (S L).

The 95 % interval is mean +- t(0.975, df) sqrt(V) with Satterthwaite's degrees of freedom

    df = V^2 / sum of (c_i MS_i)^2 / df_i,    at least 1.

Sources: Searle, Casella & McCulloch, "Variance Components", 1992, chapter 4; Satterthwaite, "An
approximate distribution of estimates of variance components", Biometrics 2(6), 1946.

With one seed, V = MS_b / L and df = L - 1. That is all there is to know of a learner without
meta-parameters; for the others the interval is too narrow, and is marked so. With one lifetime
nothing is known of the spread, and the interval is everything that is possible.

Where few predictions are right, or few are wrong, or there is no width, Student's t does not hold,
and intervals are widened as `shares` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.shares import Share, wilson
from vsml_bench.boards.spread import POWER_80, Spread, Variance
from vsml_bench.errors import VsmlBenchError

DECIMALS = 9
"""Of published numbers: coarser than the rounding noise between machines, finer than any need."""
WINDOW = 100
"""Steps at either end of a lifetime that early and final accuracy look at."""

Scores: TypeAlias = npt.NDArray[np.float64]
"""Accuracy over each lifetime, [seeds, lifetimes]."""
Splits: TypeAlias = "Sequence[Scores | None]"
"""One learner's scores on each split of several, None where it has none."""
SeedVariance: TypeAlias = Literal["measured", "not measured", "not applicable"]
"""not applicable: the learner has no meta-parameters, so there is no meta-train seed."""


@dataclass(frozen=True)
class Interval:
    """A number and the bounds of its interval: 95 % of an accuracy in [0, 1], or of a difference of
    two in [-1, 1]."""

    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval of a difference leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate(Interval):
    """A mean accuracy in [0, 1] and its 95 % interval."""

    seeds: int
    lifetimes: int
    seed_variance: SeedVariance


@dataclass(frozen=True)
class Difference(Interval):
    """What one learner's accuracy is above another's, and its 95 % interval."""

    spread: Spread

    @cached_property
    def p(self) -> float:
        """The level at which the interval just reaches 0: below 0.05 where it leaves out 0."""
        return self.spread.p(self.mean)

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that as many seeds and lifetimes find decided in 80 % of all
        repetitions; None where they tell nothing of the spread."""
        reach = self.spread.reach()
        return POWER_80 * sum(reach) / 2 if reach is not None and sum(reach) > 0 else None

    def turned(self) -> Difference:
        """The same seen from the other side."""
        ends = (0.0 - self.mean, 0.0 - self.high, 0.0 - self.low)
        return Difference(*ends, self.spread.turned())


def published(value: float) -> float:
    """Rounded as it is published."""
    return round(value, DECIMALS) + 0.0  # so that there is no -0.0


def lifetime_scores(correct: npt.NDArray[Any]) -> Scores:
    """Accuracy over each lifetime.

    correct: bool, or 0 and 1, [seeds, lifetimes, steps]; slice the steps for early or final
    accuracy. Returns [seeds, lifetimes]. Raises VsmlBenchError for NaN and other values.
    """
    array = np.asarray(correct)
    if array.ndim != 3 or 0 in array.shape:
        raise VsmlBenchError(
            f"correctness of shape {array.shape}; expected [seeds, lifetimes, steps], none empty."
        )
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise VsmlBenchError("correctness has values that are neither 0 nor 1; NaN is no score.")
    # Whole numbers are summed exactly, so the quotient is the same on every machine.
    scores: Scores = np.count_nonzero(array, axis=2) / array.shape[2]
    return scores


def early(correct: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first WINDOW steps, or all where there are fewer; steps are the last axis."""
    return correct[..., :WINDOW]


def final(correct: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The last WINDOW steps, or all where there are fewer; steps are the last axis."""
    return correct[..., -WINDOW:]


def estimate(scores: Scores, has_meta_parameters: bool, predictions: int | None) -> Estimate:
    """Mean and interval of one learner's accuracy.

    scores: [seeds, lifetimes]. predictions: in each lifetime; None where scores are something else
    in [0, 1] than shares of predictions that are right.
    """
    scores = _checked(scores)
    seeds, lifetimes = scores.shape
    seeded = [_over_seeds([scores], [1.0])]
    spread = Spread([_over_lifetimes(scores.mean(0))], [seeded], _shares(scores, predictions))
    found = _interval(float(scores.mean()), spread, 0.0)
    measured: SeedVariance = "not measured" if has_meta_parameters else "not applicable"
    return Estimate(
        *(found.mean, found.low, found.high, seeds, lifetimes),
        "measured" if seeds > 1 else measured,
    )


def mean_over_splits(splits: Splits, predictions: Sequence[int]) -> Interval:
    """Accuracy of one learner, all splits alike; one without a score counts as 0, so that failing
    never pays. predictions: in a lifetime of each split.

    Lifetimes of the splits are unrelated. Row s is taken for the same meta-train seed in all of
    them, so that what a good seed gains on each adds up, where all have as many.
    """
    weight = 1 / len(splits)
    scored = [_checked(scores) for scores in splits if scores is not None]
    lifetimes = [_over_lifetimes(weight * scores.mean(0)) for scores in scored]
    mean = sum(weight * float(scores.mean()) for scores in scored)
    shares = _shares_over(splits, predictions, weight)
    return _interval(mean, Spread(lifetimes, [_seeds_over(scored, weight)], shares), 0.0)


def difference_over_splits(ours: Splits, theirs: Splits, predictions: Sequence[int]) -> Difference:
    """Our mean over splits minus theirs, on the same pinned lifetimes of each split; seeds are
    unrelated. ours, theirs, predictions: as in `mean_over_splits`, of the same splits."""
    weight = 1 / len(predictions)
    mean, lifetimes = 0.0, []
    for own, other in zip(ours, theirs, strict=True):
        means = [_checked(scores).mean(0) for scores in (own, other) if scores is not None]
        if own is not None and other is not None:
            _check_lifetimes(own, other)
            means = [means[0] - means[1]]
        lifetimes += [_over_lifetimes(weight * each) for each in means]
        mean += weight * sum(
            sign * float(scores.mean())
            for sign, scores in ((1, own), (-1, other))
            if scores is not None
        )
    seeds = [
        _seeds_over([scores for scores in side if scores is not None], weight)
        for side in (ours, theirs)
    ]
    shares = _shares_over(ours, predictions, weight) + _shares_over(theirs, predictions, -weight)
    return _difference(mean, Spread(lifetimes, seeds, shares))


def paired_difference(ours: Scores, theirs: Scores, predictions: int | None) -> Difference:
    """Our accuracy minus theirs on the same pinned lifetimes.

    ours, theirs: [seeds, lifetimes]; lifetime l is the same stream in both, seeds are unrelated.
    Pairing cancels what makes a lifetime easy for everyone: the lifetimes' part of the variance is
    that of the difference of the two means per lifetime. predictions: as in `estimate`.
    """
    ours, theirs = _checked(ours), _checked(theirs)
    _check_lifetimes(ours, theirs)
    lifetimes = [_over_lifetimes(ours.mean(0) - theirs.mean(0))]
    seeds = [[_over_seeds([scores], [1.0])] for scores in (ours, theirs)]
    spread = Spread(lifetimes, seeds, _shares_between(ours, theirs, predictions))
    return _difference(float(ours.mean() - theirs.mean()), spread)


def paired_change(changed: Scores, unchanged: Scores, predictions: int | None) -> Interval:
    """Accuracy under a change minus that without it, of one learner on the same pinned lifetimes.

    changed, unchanged: [seeds, lifetimes]; x[s, l] is the same meta-trained learner on the same
    lifetime in both, but for the change. The differences are crossed effects of their own, so that
    the interval is `estimate`'s. Where all scores are equal, no prediction seems to have changed,
    and the interval has what share of them might yet. predictions: as in `estimate`. Raises
    VsmlBenchError for unequal seeds or lifetimes.
    """
    changed, unchanged = _checked(changed), _checked(unchanged)
    _check_seeds(changed, unchanged)
    _check_lifetimes(changed, unchanged)
    if predictions is not None and changed.shape[1] > 1 and (changed == unchanged).all():
        share = wilson(0.0, changed.shape[1] * predictions)[1]
        return Interval(0.0, -share, share)
    differences: Scores = changed - unchanged
    lifetimes, seeds = _over_lifetimes(differences.mean(0)), _over_seeds([differences], [1.0])
    spread = Spread([lifetimes], [[seeds]], _shares_between(changed, unchanged, predictions))
    return _interval(float(differences.mean()), spread, -1.0)


def generalisation_gap(same_tasks: Scores, unseen: Scores, predictions: int | None) -> Interval:
    """Accuracy on the meta-train side's own tasks minus that on the meta-test side.

    same_tasks, unseen: [seeds, lifetimes] of the same learner; row s is the same meta-trained
    learner in both, the lifetimes are unrelated. predictions: as in `estimate`. Raises
    VsmlBenchError for unequal seeds.
    """
    same_tasks, unseen = _checked(same_tasks), _checked(unseen)
    _check_seeds(same_tasks, unseen)
    lifetimes = [_over_lifetimes(scores.mean(0)) for scores in (same_tasks, unseen)]
    seeds = _over_seeds([same_tasks, unseen], [1.0, -1.0])
    spread = Spread(lifetimes, [[seeds]], _shares_between(same_tasks, unseen, predictions))
    return _interval(float(same_tasks.mean() - unseen.mean()), spread, -1.0)


def _over_lifetimes(means: npt.NDArray[np.float64]) -> Variance:
    """What choosing other lifetimes would do to the mean of `means`, [lifetimes]: MS_b / (S L)."""
    lifetimes = len(means)
    if lifetimes == 1:
        return Variance(float("inf"), ())
    value = float(means.var(ddof=1)) / lifetimes
    return Variance(value, ((value, lifetimes - 1),))


def _over_seeds(sides: Sequence[Scores], weights: Sequence[float]) -> Variance:
    """What other meta-train seeds would add to the weighted sum of the sides' means:
    max(0, MS_a - MS_e) / (S L); 0 for one seed.

    sides: of the same seeds and other lifetimes, so that residuals add up.
    """
    seeds = sides[0].shape[0]
    if seeds == 1 or any(side.shape[1] == 1 for side in sides):
        return Variance(0.0, ())
    weighted = list(zip(sides, weights, strict=True))
    means = sum(weight * side.mean(1) for side, weight in weighted)
    between = float(np.var(means, ddof=1)) / seeds
    residuals = [
        (w**2 * _residual(side), (seeds - 1) * (side.shape[1] - 1)) for side, w in weighted
    ]
    value = max(0.0, between - sum(residual for residual, _ in residuals))
    return Variance(value, ((between, seeds - 1), *residuals))


def _seeds_over(scored: Sequence[Scores], weight: float) -> list[Variance]:
    """What other meta-train seeds would add to a mean over splits."""
    if len({scores.shape[0] for scores in scored}) == 1:
        return [_over_seeds(scored, [weight] * len(scored))]
    return [_over_seeds([scores], [weight]) for scores in scored]


def _residual(scores: Scores) -> float:
    """MS_e / (S L)."""
    seeds, lifetimes = scores.shape
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean()
    return float((rest**2).sum() / ((seeds - 1) * (lifetimes - 1) * seeds * lifetimes))


def _shares(scores: Scores, predictions: int | None, weight: float = 1.0) -> list[Share]:
    """One, or none where scores are no shares of `predictions` that are right."""
    if predictions is None:
        return []
    return [Share(weight, float(scores.mean()), scores.shape[1] * predictions)]


def _shares_over(splits: Splits, predictions: Sequence[int], weight: float) -> list[Share]:
    found = []
    for scores, count in zip(splits, predictions, strict=True):
        found += [] if scores is None else _shares(scores, count, weight)
    return found


def _shares_between(ours: Scores, theirs: Scores, predictions: int | None) -> list[Share]:
    return [*_shares(ours, predictions), *_shares(theirs, predictions, -1.0)]


def _difference(mean: float, spread: Spread) -> Difference:
    found = _interval(mean, spread, -1.0)
    return Difference(found.mean, found.low, found.high, spread)


def _interval(mean: float, spread: Spread, lowest: float) -> Interval:
    reach = spread.reach()
    if reach is None:
        return Interval(mean, lowest, 1.0)
    below, above = reach
    return Interval(mean, max(lowest, mean - below), min(1.0, mean + above))


def _checked(scores: Scores) -> Scores:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise VsmlBenchError(
            f"scores of shape {scores.shape}; expected [seeds, lifetimes], neither empty."
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise VsmlBenchError("scores outside [0, 1], or NaN; expected accuracies of lifetimes.")
    return scores


def _check_seeds(ours: Scores, theirs: Scores) -> None:
    if ours.shape[0] != theirs.shape[0]:
        raise VsmlBenchError(
            f"a difference of {ours.shape[0]} seeds against {theirs.shape[0]}; expected the same "
            "seeds on both sides."
        )


def _check_lifetimes(ours: Scores, theirs: Scores) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise VsmlBenchError(
            f"a paired difference of {ours.shape[1]} lifetimes against {theirs.shape[1]}; expected "
            "the same pinned lifetimes on both sides."
        )
