"""Scores and intervals for the tests of statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vsml_bench.boards.statistics import Interval


def exactly(*values: float) -> Any:
    return pytest.approx(values, abs=1e-12)


def parts(found: Interval) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def crossed(
    random: np.random.Generator,
    seeds: int,
    lifetimes: int,
    of_seeds: float,
    of_lifetimes: float,
    steps: int = 400,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of Bernoulli outcomes around 0.6 with normal effects of seeds and lifetimes."""
    chance = (
        0.6
        + of_seeds * random.standard_normal((seeds, 1))
        + of_lifetimes * random.standard_normal((1, lifetimes))
    )
    return random.binomial(steps, chance.clip(0, 1)) / steps
