"""What the variance of a mean over seeds and lifetimes consists of.

Seeds and lifetimes are crossed, see `statistics`. With S seeds and L lifetimes, the mean squares

    MS_a = L sum over s of (x[s, .] - x[., .])^2 / (S - 1)             estimates  L var(a) + var(e)
    MS_b = S sum over l of (x[., l] - x[., .])^2 / (L - 1)                        S var(b) + var(e)
    MS_e = sum over s, l of (x[s, l] - x[s, .] - x[., l] + x[., .])^2 / ((S - 1)(L - 1))     var(e)

give each variance by the method of moments, and 0 where that is negative. Source: Searle, Casella &
McCulloch, "Variance Components", 1992, chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[np.float64]
"""Accuracy over each lifetime, [seeds, lifetimes]."""


@dataclass(frozen=True)
class Variance:
    """Part of the variance of a mean, and the (coefficient x mean square, df) behind it."""

    value: float
    terms: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Components:
    """Shares of the variance of one score, in [0, 1], that add up to 1."""

    seeds: float
    """How meta-train seeds differ, whatever the lifetime."""
    lifetimes: float
    """How lifetimes differ, whatever the seed."""
    interaction: float
    """What is left: seeds that do well on other lifetimes than others, and the chance of each
    prediction."""


def components(scores: Scores) -> Components | None:
    """None where a single seed or lifetime leaves the parts together, and where nothing varies."""
    seeds, lifetimes = scores.shape
    if 1 in scores.shape:
        return None
    rest = residual(scores)
    parts = (
        max(0.0, float(scores.mean(1).var(ddof=1)) - rest / lifetimes),
        max(0.0, float(scores.mean(0).var(ddof=1)) - rest / seeds),
        rest,
    )
    # Rounding alone leaves as much of accuracies.
    return Components(*(part / sum(parts) for part in parts)) if sum(parts) > 1e-24 else None


def residual(scores: Scores) -> float:
    """MS_e."""
    seeds, lifetimes = scores.shape
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean()
    return float((rest**2).sum() / ((seeds - 1) * (lifetimes - 1)))


def over_lifetimes(means: npt.NDArray[np.float64]) -> Variance:
    """What choosing other lifetimes would do to the mean of `means`, [lifetimes]: MS_b / (S L)."""
    lifetimes = len(means)
    if lifetimes == 1:
        return Variance(float("inf"), ())
    value = float(means.var(ddof=1)) / lifetimes
    return Variance(value, ((value, lifetimes - 1),))


def over_seeds(sides: Sequence[Scores]) -> Variance:
    """What other meta-train seeds would add to the sum of the sides' means:
    max(0, MS_a - MS_e) / (S L); 0 for one seed.

    sides: of the same seeds and other lifetimes, so that residuals add up.
    """
    seeds = sides[0].shape[0]
    if seeds == 1 or any(side.shape[1] == 1 for side in sides):
        return Variance(0.0, ())
    means = sum(side.mean(1) for side in sides)
    between = float(np.var(means, ddof=1)) / seeds
    residuals = [(residual(side) / side.size, (seeds - 1) * (side.shape[1] - 1)) for side in sides]
    value = max(0.0, between - sum(of for of, _ in residuals))
    return Variance(value, ((between, seeds - 1), *residuals))
