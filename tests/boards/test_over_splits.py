"""Means over splits, and differences of two of them."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from tests.boards.scores import crossed, exactly, parts
from vsml_bench.boards.statistics import (
    difference_over_splits,
    estimate,
    mean_over_splits,
    paired_difference,
)
from vsml_bench.errors import VsmlBenchError


def test_the_mean_over_splits_by_hand() -> None:
    # Means 0.7 and 0.3; variances of the means 0.01 / 3 each, halved in the mean: a quarter of each
    # counts; df = (2 v)^2 / (v^2 / 2 + v^2 / 2) = 4
    splits = [np.array([[0.6, 0.7, 0.8]]), np.array([[0.2, 0.3, 0.4]])]
    half = 2.7764451051977987 * sqrt(0.02 / 3 / 4)
    assert parts(mean_over_splits(splits, [2000] * 2)) == exactly(0.5, 0.5 - half, 0.5 + half)
    # A third without a score: the same sums by three instead of two.
    third = mean_over_splits([*splits, None], [2000] * 3)
    assert parts(third) == exactly(1 / 3, 1 / 3 - half * 2 / 3, 1 / 3 + half * 2 / 3)


def test_what_a_seed_gains_on_all_splits_adds_up() -> None:
    random = np.random.default_rng(8)
    quality = np.array([[-0.1], [0.0], [0.1]])
    splits = [crossed(random, 3, 16, 0.0, 0.02) + quality for _ in range(4)]
    together = mean_over_splits(splits, [400] * 4)
    turned = [np.roll(scores, turn, axis=0) for turn, scores in enumerate(splits)]
    mixed = mean_over_splits(turned, [400] * 4)
    assert (mixed.mean,) == exactly(together.mean)
    assert together.high - together.low > 2 * (mixed.high - mixed.low)


def test_a_split_with_fewer_seeds_leaves_what_the_others_say_of_seeds() -> None:
    """Three seeds move four splits together; a fifth has one of them and says nothing of that."""
    draw = np.random.default_rng(5)
    seeds = np.array([0.3, 0.5, 0.7])[:, None]
    splits = [seeds + 0.01 * draw.standard_normal((3, 16)) for _ in range(4)]
    of_four = mean_over_splits(splits, [400] * 4)
    of_five = mean_over_splits([*splits, splits[0][:1]], [400] * 5)
    widths = [found.high - found.low for found in (of_four, of_five)]
    assert widths[0] > 0.9, "two degrees of freedom and a standard error of 0.115"
    assert widths[1] == pytest.approx(4 / 5 * widths[0], rel=0.02)


def test_the_difference_over_splits_by_hand() -> None:
    # Differences 0.1, 0.2, 0.3 on one split, on the other 0.4, 0.5, 0.6 of ours alone; the mean of
    # both is 0.35, and v = 0.01 / 3 of each counts a quarter; df = 4 as above
    ours = [np.array([[0.5, 0.7, 0.9]]), np.array([[0.4, 0.5, 0.6]])]
    theirs = [np.array([[0.4, 0.5, 0.6]]), None]
    half = 2.7764451051977987 * sqrt(0.02 / 3 / 4)
    found = difference_over_splits(ours, theirs, [2000] * 2)
    assert parts(found) == exactly(0.35, 0.35 - half, 0.35 + half)
    back = difference_over_splits(theirs, ours, [2000] * 2)
    assert parts(back) == exactly(-0.35, -0.35 - half, -0.35 + half)


def test_of_one_split_it_is_the_paired_difference() -> None:
    random = np.random.default_rng(9)
    ours, theirs = crossed(random, 3, 8, 0.02, 0.03), crossed(random, 2, 8, 0.02, 0.03)
    found = difference_over_splits([ours], [theirs], [400])
    assert parts(found) == exactly(*parts(paired_difference(ours, theirs, 400)))
    alone = mean_over_splits([ours], [400])
    assert parts(alone) == exactly(*parts(estimate(ours, True, 400)))
    with pytest.raises(VsmlBenchError, match="2 lifetimes against 8"):
        difference_over_splits([ours[:, :2]], [theirs], [400])


def test_equals_over_splits_are_rarely_told_apart() -> None:
    random = np.random.default_rng(0)
    decided = 0
    for _ in range(1000):
        hard = 0.1 * random.standard_normal((3, 1, 8))
        ours, theirs = (
            [(crossed(random, 1, 8, 0.0, 0.02) + each).clip(0, 1) for each in hard]
            for _ in range(2)
        )
        decided += difference_over_splits(ours, theirs, [400] * 3).decided
    assert 25 <= decided <= 75


def test_coverage_of_the_mean_over_splits() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        gain = 0.02 * random.standard_normal((4, 1))
        splits = [(crossed(random, 4, 8, 0.0, 0.03) + gain).clip(0, 1) for _ in range(3)]
        found = mean_over_splits(splits, [400] * 3)
        hits += found.low <= 0.6 <= found.high
    assert 0.925 <= hits / 1000 <= 0.98
