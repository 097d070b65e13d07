"""Means with honest intervals: which meta-train seed, which lifetimes and which test examples.

The lifetimes of a split are pinned, so every seed of every learner meets the same ones: seeds and
lifetimes are **crossed**. With S seeds, L lifetimes and x[s, l] the accuracy over one lifetime,

    x[s, l] = mu + a[s] + b[l] + e[s, l]          (crossed random effects, one observation a cell)

and the mean squares MS_a, MS_b and MS_e of `variances`, the variance of the grand mean is

    V = var(a)/S + var(b)/L + var(e)/(S L),   estimated by   (MS_b + max(0, MS_a - MS_e)) / (S L).

That holds for the test examples that there are, which lifetimes draw again and again. Where it is
known which ones each had, V also has what `examples` says of another choice of them. In a sum over
splits, lifetimes and examples that several have in common count as such.

The 95 % interval is mean +- t(0.975, df) sqrt(V) with Satterthwaite's degrees of freedom

    df = V^2 / sum of (c_i MS_i)^2 / df_i,    at least 1.

Sources: Searle, Casella & McCulloch, "Variance Components", 1992, chapter 4; Satterthwaite, "An
approximate distribution of estimates of variance components", Biometrics 2(6), 1946.

With one seed, V lacks the seeds' part. That is all there is to know of a learner without
meta-parameters; for the others the interval is too narrow, and is marked so. With one lifetime
nothing is known of the spread, and the interval is everything that is possible.

Where few predictions are right, or few are wrong, or there is no width, Student's t does not hold,
and intervals are widened as `shares` says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.examples import Basis, Of, basis, over_examples
from vsml_bench.boards.shares import Share, wilson
from vsml_bench.boards.spread import POWER_80, Spread
from vsml_bench.boards.variances import Scores, Variance, over_lifetimes, over_seeds
from vsml_bench.errors import VsmlBenchError

DECIMALS = 9
"""Of published numbers: coarser than the rounding noise between machines, finer than any need."""
WINDOW = 100
"""Steps at either end of a lifetime that early and final accuracy look at."""

Splits: TypeAlias = "Sequence[Scores | None]"
"""One learner's scores on each split of several, None where it has none."""
SeedVariance: TypeAlias = Literal["measured", "not measured", "not applicable"]
"""not applicable: the learner has no meta-parameters, so there is no meta-train seed."""
Both: TypeAlias = "int | tuple[Of, Of] | None"
"""What the scores of two sides are of; a number or None stands for both."""


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


def estimate(scores: Scores, has_meta_parameters: bool, of: Of) -> Estimate:
    """Mean and interval of one learner's accuracy.

    scores: [seeds, lifetimes]. of: what they are of, or the number of predictions in each lifetime;
    None where scores are something else in [0, 1] than shares of predictions that are right.
    """
    side = _Side(scores, of)
    found = _total([side], [[over_seeds([side.scores])]], 0.0)
    seeds, lifetimes = side.scores.shape
    measured: SeedVariance = "not measured" if has_meta_parameters else "not applicable"
    return Estimate(
        *(found.mean, found.low, found.high, seeds, lifetimes),
        "measured" if seeds > 1 else measured,
    )


def mean_over_splits(splits: Splits, of: Sequence[Of]) -> Interval:
    """Accuracy of one learner, all splits alike; one without a score counts as 0, so that failing
    never pays. of: what each split's scores are of, as in `estimate`.

    Row s is taken for the same meta-train seed in all of them, so that what a good seed gains on
    each adds up, where all have as many.
    """
    named = [_named(each, split) for split, each in enumerate(of)]
    sides = _sides(splits, named, 1 / len(splits))
    return _total(sides, [_seeds_over(sides)], 0.0)


def difference_over_splits(ours: Splits, theirs: Splits, of: Sequence[Both]) -> Difference:
    """Our mean over splits minus theirs, on the same pinned lifetimes of each split; seeds are
    unrelated. ours, theirs: as in `mean_over_splits`, of the same splits. of: what each split's
    scores are of, as in `paired_difference`."""
    for own, other in zip(ours, theirs, strict=True):
        if own is not None and other is not None:
            _check_lifetimes(own, other)
    pairs = [_paired(each, split) for split, each in enumerate(of)]
    both = [
        _sides(scores, [pair[place] for pair in pairs], weight / len(of))
        for place, (scores, weight) in enumerate([(ours, 1), (theirs, -1)])
    ]
    return _total([*both[0], *both[1]], [_seeds_over(sides) for sides in both], -1.0)


def paired_difference(ours: Scores, theirs: Scores, of: Both) -> Difference:
    """Our accuracy minus theirs on the same pinned lifetimes.

    ours, theirs: [seeds, lifetimes]; lifetime l is the same stream in both, seeds are unrelated.
    Pairing cancels what makes a lifetime, or an example, easy for everyone: the lifetimes' part of
    the variance is that of the difference of the two means per lifetime. of: what the scores of
    either side are of, as in `estimate`.
    """
    return difference_over_splits([ours], [theirs], [of])


def paired_change(changed: Scores, unchanged: Scores, of: Both) -> Interval:
    """Accuracy under a change minus that without it, of one learner on the same pinned lifetimes.

    changed, unchanged: [seeds, lifetimes]; x[s, l] is the same meta-trained learner on the same
    lifetime in both, but for the change. The differences are crossed effects of their own, so that
    the interval is `estimate`'s. Where all scores are equal, no prediction seems to have changed,
    and the interval has what share of them might yet. of: as in `paired_difference`. Raises
    VsmlBenchError for unequal seeds or lifetimes.
    """
    sides = _two(changed, unchanged, _paired(of, 0))
    _check_seeds(*(side.scores for side in sides))
    _check_lifetimes(*(side.scores for side in sides))
    after, before = sides
    if after.predictions and after.scores.shape[1] > 1 and (after.scores == before.scores).all():
        share = wilson(0.0, after.unrelated)[1]
        return Interval(0.0, -share, share)
    return _total(sides, [[over_seeds([after.scores - before.scores])]], -1.0)


def generalisation_gap(same_tasks: Scores, unseen: Scores, of: Both) -> Interval:
    """Accuracy on the meta-train side's own tasks minus that on the meta-test side.

    same_tasks, unseen: [seeds, lifetimes] of the same learner; row s is the same meta-trained
    learner in both, the lifetimes are unrelated unless `of` says that they are the same. of: as in
    `paired_difference`. Raises VsmlBenchError for unequal seeds.
    """
    home, away = of if isinstance(of, tuple) else (of, of)
    sides = _two(same_tasks, unseen, (_named(home, 0), _named(away, 1)))
    _check_seeds(*(side.scores for side in sides))
    return _total(sides, [_seeds_over(sides)], -1.0)


@dataclass(frozen=True)
class _Side:
    """One of the means in a weighted sum."""

    scores: Scores
    of: Of
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", _checked(self.scores))

    @property
    def lifetimes(self) -> Hashable:
        return basis(self.of).lifetimes

    @property
    def predictions(self) -> int:
        """Over all lifetimes; 0 where scores are no shares of predictions."""
        return int(self.scores.shape[1]) * (basis(self.of).predictions or 0)

    @property
    def unrelated(self) -> int:
        """The fewest predictions that tell as much, were all of an example alike."""
        drawn = basis(self.of).drawn
        return min(self.predictions, drawn.distinct) if drawn is not None else self.predictions

    @property
    def share(self) -> Share:
        """Of as many predictions of unlike examples as tell as much of the mean."""
        right, count = float(self.scores.mean()), float(self.predictions)
        drawn, chance = basis(self.of).drawn, right * (1 - right)
        if drawn is not None:
            alone = chance / count + max(0.0, drawn.covariance(drawn))
            count = min(count, max(self.unrelated, chance / alone if chance else 0.0))
        return Share(self.weight, right, count)


def _named(of: Of, name: Hashable) -> Basis:
    """With a name for its lifetimes where they have none."""
    found = basis(of)
    return found if found.lifetimes is not None else replace(found, lifetimes=name)


def _paired(of: Both, name: Hashable) -> tuple[Basis, Basis]:
    """Both sides, whose lifetimes are the same."""
    ours, theirs = (basis(each) for each in (of if isinstance(of, tuple) else (of, of)))
    name = next((each.lifetimes for each in (ours, theirs) if each.lifetimes is not None), name)
    return _named(ours, name), _named(theirs, name)


def _two(ours: Scores, theirs: Scores, of: tuple[Basis, Basis]) -> list[_Side]:
    return [_Side(ours, of[0]), _Side(theirs, of[1], -1.0)]


def _sides(splits: Splits, of: Sequence[Of], weight: float) -> list[_Side]:
    """Those that have scores."""
    found = zip(splits, of, strict=True)
    return [_Side(scores, each, weight) for scores, each in found if scores is not None]


def _together(sides: Sequence[_Side], part: Callable[[Scores], Scores]) -> list[Scores]:
    """The weighted parts of the sides' scores, summed where lifetimes are the same."""
    sums: dict[Hashable, Scores] = {}
    for side in sides:
        own = side.weight * part(side.scores)
        sums[side.lifetimes] = sums[side.lifetimes] + own if side.lifetimes in sums else own
    return list(sums.values())


def _seeds_over(sides: Sequence[_Side]) -> list[Variance]:
    """What other meta-train seeds would add to a sum of means of one learner. A seed that is good
    on one split is good on others, so that sides with as many seeds are summed first."""
    counts = dict.fromkeys(side.scores.shape[0] for side in sides)
    alike = [[side for side in sides if side.scores.shape[0] == count] for count in counts]
    return [over_seeds(_together(some, lambda scores: scores)) for some in alike]


def _total(
    sides: Sequence[_Side], seeds: Sequence[Sequence[Variance]], lowest: float
) -> Difference:
    """By the variance that lifetimes, seeds and examples sum up to; wider where there are few
    predictions."""
    mean = float(sum(side.weight * float(side.scores.mean()) for side in sides))
    spread = Spread(
        [over_lifetimes(means) for means in _together(sides, lambda scores: scores.mean(0))],
        seeds,
        [side.share for side in sides if side.predictions],
        over_examples([(side.weight, side.of) for side in sides]),
    )
    reach = spread.reach()
    if reach is None:
        return Difference(mean, lowest, 1.0, spread)
    below, above = reach
    return Difference(mean, max(lowest, mean - below), min(1.0, mean + above), spread)


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
