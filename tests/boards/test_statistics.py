from __future__ import annotations

from math import sqrt, tan
from typing import Any, TypeAlias

import numpy as np
import pytest
from scipy.stats import binomtest, t

from tests.boards.scores import crossed, exactly, parts
from vsml_bench.boards.statistics import (
    early,
    estimate,
    final,
    generalisation_gap,
    lifetime_scores,
    paired_change,
    paired_difference,
)
from vsml_bench.errors import VsmlBenchError

Scores: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
T_1 = tan(np.pi * 0.475)
"""Student's t at 0.975 with one degree of freedom, in closed form."""
T_2 = 0.95 / sqrt(2 * 0.975 * 0.025)
"""The same with two degrees of freedom."""


def test_lifetime_scores_by_hand() -> None:
    correct = np.zeros((2, 2, 4), bool)
    correct[0, 0, :3] = True
    correct[1, 1] = True
    np.testing.assert_array_equal(lifetime_scores(correct), [[0.75, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(lifetime_scores(correct.astype(float)), lifetime_scores(correct))


def test_early_and_final_steps() -> None:
    steps = np.arange(350)
    assert (early(steps)[[0, -1]] == [0, 99]).all()
    assert (final(steps)[[0, -1]] == [250, 349]).all()
    assert len(early(steps[:30])) == len(final(steps[:30])) == 30


@pytest.mark.parametrize("bad", [np.nan, 0.5, 2.0, -1.0])
def test_values_that_are_no_outcomes_are_refused(bad: float) -> None:
    correct = np.ones((1, 2, 3))
    correct[0, 1, 2] = bad
    with pytest.raises(VsmlBenchError, match="neither 0 nor 1"):
        lifetime_scores(correct)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 0), (0, 2, 3)])
def test_correctness_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VsmlBenchError, match="expected"):
        lifetime_scores(np.ones(shape, bool))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, -0.1])
def test_nan_never_enters_silently(bad: float) -> None:
    good, spoiled = np.full((2, 3), 0.5), np.full((2, 3), 0.5)
    spoiled[1, 2] = bad
    with pytest.raises(VsmlBenchError, match="NaN"):
        estimate(spoiled, True, None)
    for compare in (paired_difference, generalisation_gap):
        with pytest.raises(VsmlBenchError, match="NaN"):
            compare(good, spoiled, None)
        with pytest.raises(VsmlBenchError, match="NaN"):
            compare(spoiled, good, None)


def test_one_seed_by_hand() -> None:
    # mean 0.7, variance between lifetimes 0.01, of the mean 0.01 / 3, two degrees of freedom
    found = estimate(np.array([[0.6, 0.7, 0.8]]), True, None)
    half = T_2 * sqrt(0.01 / 3)
    assert parts(found) == exactly(0.7, 0.7 - half, 0.7 + half)
    assert (found.seeds, found.lifetimes, found.seed_variance) == (1, 3, "not measured")


def test_a_learner_without_meta_parameters_has_no_seed_variance_to_measure() -> None:
    scores = np.array([[0.6, 0.7, 0.8]])
    without, with_them = estimate(scores, False, None), estimate(scores, True, None)
    assert without.seed_variance == "not applicable"
    assert (without.low, without.high) == (with_them.low, with_them.high)


def test_two_levels_by_hand() -> None:
    # seeds 0.6, 0.7; lifetimes 0.6, 0.6, 0.75; residuals +-0.05 four times, 0 twice:
    # MS_a = 0.015, MS_b = 0.015, MS_e = 0.005, V = (0.015 + 0.010) / 6,
    # df = 0.025^2 / (0.015^2 / 1 + 0.015^2 / 2 + 0.005^2 / 2) = 25 / 14
    found = estimate(np.array([[0.5, 0.6, 0.7], [0.7, 0.6, 0.8]]), True, None)
    half = t.ppf(0.975, 25 / 14) * sqrt(0.025 / 6)
    assert parts(found) == exactly(0.65, 0.65 - half, 0.65 + half)
    assert found.seed_variance == "measured"


def test_seeds_that_differ_less_than_noise_add_nothing_by_hand() -> None:
    # equal seed means 0.6: MS_a = 0; lifetimes 0.5, 0.7: MS_b = 0.04; residuals +-0.1: MS_e = 0.04
    # V = 0.04 / 4, df = 0.04^2 / (0.04^2 / 1 + 0 + 0.04^2 / 1) = 1/2, raised to 1
    found = estimate(np.array([[0.4, 0.8], [0.6, 0.6]]), True, None)
    assert parts(found) == exactly(0.6, max(0, 0.6 - T_1 * 0.1), 1.0)


def test_intervals_stay_within_the_possible() -> None:
    found = estimate(np.array([[0.0, 0.9, 1.0]]), True, None)
    assert (found.low, found.high) == (0.0, 1.0)
    difference = paired_difference(np.array([[0.0, 1.0]]), np.array([[1.0, 0.9]]), None)
    assert (difference.low, difference.high) == (-1.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_row_of_what_is_not_counted_has_no_width(value: float) -> None:
    found = estimate(np.full((3, 4), value), True, None)
    assert parts(found) == (value, value, value)


def score_interval(share: float, count: int) -> tuple[float, float]:
    found = binomtest(round(share * count), count).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def test_all_right_is_the_score_interval_as_scipy_has_it() -> None:
    """Of all predictions of a seed: three seeds meet the same examples."""
    for seeds in (1, 3):
        found = estimate(np.ones((seeds, 4)), True, 20)
        assert parts(found) == exactly(1.0, score_interval(1.0, 80)[0], 1.0)


def test_the_score_interval_counts_below_a_hundred_wrong_or_right() -> None:
    few, enough = (np.array([[0.95, wrong]]) for wrong in (0.951, 0.949))  # 99, 101 of 2,000 wrong
    for scores in (enough, 1 - enough):
        assert parts(estimate(scores, True, 1000)) == parts(estimate(scores, True, None))
    for scores in (few, 1 - few):
        found, ends = estimate(scores, True, 1000), score_interval(float(scores.mean()), 2000)
        assert (found.low, found.high) == exactly(*ends)


def test_few_wrong_ones_widen_to_both_intervals() -> None:
    scores = np.array([[0.95, 1.0, 1.0, 1.0]])
    found, alone = estimate(scores, True, 20), estimate(scores, True, None)
    low, high = score_interval(0.9875, 80)
    assert parts(found) == exactly(0.9875, min(low, alone.low), max(high, alone.high))
    assert found.low == pytest.approx(low) and found.high == alone.high == 1.0


def test_newcombes_interval_of_his_own_example() -> None:
    """56 of 70 against 48 of 80, 0.0524 to 0.3339 (Newcombe 1998, table II, (a), method 10)."""
    ours, theirs = np.full((1, 7), 0.8), np.full((1, 8), 0.6)
    found = generalisation_gap(ours, theirs, 10)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_one_lifetime_tells_nothing_of_the_spread() -> None:
    for seeds in (1, 3):
        found = estimate(np.full((seeds, 1), 0.5), True, None)
        assert parts(found) == (0.5, 0.0, 1.0)
    assert not paired_difference(np.array([[0.9]]), np.array([[0.1]]), None).decided


def test_the_interval_widens_when_seed_variance_is_injected() -> None:
    random = np.random.default_rng(1)
    scores = crossed(random, 3, 32, 0.0, 0.03)
    widths = []
    for spread in (0.0, 0.02, 0.05):
        found = estimate(scores + spread * np.array([[-1.0], [0.0], [1.0]]), True, None)
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]
    assert widths[2] > 2 * widths[1]


@pytest.mark.parametrize(
    ("seeds", "lifetimes", "of_seeds", "of_lifetimes"),
    [
        (1, 16, 0.0, 0.05),
        (3, 32, 0.0, 0.03),
        (3, 32, 0.01, 0.03),
        (5, 16, 0.02, 0.03),
        (5, 16, 0.03, 0.0),
    ],
)
def test_coverage_is_near_95_percent(
    seeds: int, lifetimes: int, of_seeds: float, of_lifetimes: float
) -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        found = estimate(crossed(random, seeds, lifetimes, of_seeds, of_lifetimes), True, None)
        hits += found.low <= 0.6 <= found.high
    assert 0.925 <= hits / 1000 <= 0.975


def test_coverage_of_the_paired_difference() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        shared = 0.05 * random.standard_normal((1, 24))
        ours = crossed(random, 5, 24, 0.02, 0.01) + shared
        theirs = crossed(random, 1, 24, 0.0, 0.01) + shared
        difference = paired_difference(ours.clip(0, 1), theirs.clip(0, 1), None)
        hits += difference.low <= 0 <= difference.high
    assert 0.925 <= hits / 1000 <= 0.975


def test_coverage_of_the_gap() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        shared = 0.04 * random.standard_normal((4, 1))
        same_tasks = crossed(random, 4, 16, 0.01, 0.03) + shared + 0.1
        unseen = crossed(random, 4, 24, 0.01, 0.03) + shared
        gap = generalisation_gap(same_tasks.clip(0, 1), unseen.clip(0, 1), None)
        hits += gap.low <= 0.1 <= gap.high
    assert 0.925 <= hits / 1000 <= 0.98


def test_paired_difference_by_hand() -> None:
    # differences 0.1, 0.2, 0.3: mean 0.2, variance of the mean 0.01 / 3, two degrees of freedom
    found = paired_difference(np.array([[0.5, 0.7, 0.9]]), np.array([[0.4, 0.5, 0.6]]), None)
    half = T_2 * sqrt(0.01 / 3)
    assert parts(found) == exactly(0.2, 0.2 - half, 0.2 + half)
    assert not found.decided


def test_paired_difference_with_seeds_by_hand() -> None:
    # ours: seed part (MS_a - MS_e) / 6 = 0.01 / 6 as above; differences of lifetime means from
    # theirs 0.1, 0.1, 0.25: variance 0.0075, of their mean 0.0025
    ours = np.array([[0.5, 0.6, 0.7], [0.7, 0.6, 0.8]])
    found = paired_difference(ours, np.full((1, 3), 0.5), None)
    variance = 0.0025 + 0.01 / 6
    df = variance**2 / (0.0025**2 / 2 + 0.0025**2 + (0.005 / 6) ** 2 / 2)
    half = t.ppf(0.975, df) * sqrt(variance)
    assert parts(found) == exactly(0.15, 0.15 - half, 0.15 + half)


def test_paired_difference_is_antisymmetric_and_of_itself_zero() -> None:
    random = np.random.default_rng(2)
    ours, theirs = crossed(random, 3, 16, 0.02, 0.03), crossed(random, 2, 16, 0.02, 0.03)
    there, back = paired_difference(ours, theirs, None), paired_difference(theirs, ours, None)
    assert parts(back) == exactly(-there.mean, -there.high, -there.low)
    alone = paired_difference(theirs[:1], theirs[:1], None)
    assert parts(alone) == (0, 0, 0)


def test_pairing_decides_what_separate_intervals_cannot() -> None:
    random = np.random.default_rng(3)
    difficulty = 0.1 * random.standard_normal((1, 16))
    theirs = 0.5 + difficulty
    ours = theirs + 0.02 + 0.005 * random.standard_normal((1, 16))
    a, b = estimate(ours, False, None), estimate(theirs, False, None)
    assert a.low < b.high
    assert paired_difference(ours, theirs, None).decided
    shuffled = random.permutation(theirs, axis=1)
    assert not paired_difference(ours, shuffled, None).decided


def resampled(ours: Scores, theirs: Scores) -> tuple[float, float]:
    """The 95 % interval of `paired_difference` by the bootstrap: the lifetimes, the same for both,
    and each one's seeds (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13)."""
    random = np.random.default_rng(7)

    def weights(count: int) -> Scores:  # [resamples, count], rows sum to 1
        return random.multinomial(count, np.full(count, 1 / count), size=4000) / count

    lifetimes = weights(ours.shape[1])
    means = [
        np.einsum("rs,sl,rl->r", weights(scores.shape[0]), scores, lifetimes, optimize=True)
        for scores in (ours, theirs)
    ]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def test_bootstrap_agrees_where_lifetimes_are_many() -> None:
    random = np.random.default_rng(4)
    ours = crossed(random, 1, 200, 0.0, 0.05)
    theirs = crossed(random, 1, 200, 0.0, 0.05) - 0.02
    formula = paired_difference(ours, theirs, None)
    width = formula.high - formula.low
    assert resampled(ours, theirs) == pytest.approx((formula.low, formula.high), abs=0.06 * width)


def test_bootstrap_agrees_where_seeds_are_many() -> None:
    random = np.random.default_rng(5)
    theirs = crossed(random, 1, 50, 0.0, 0.02)
    calm = crossed(random, 20, 50, 0.0, 0.02)
    spread = (calm + np.linspace(-0.1, 0.1, 20)[:, None]).clip(0, 1)
    widths = []
    for ours in (calm, spread):
        formula = paired_difference(ours, theirs, None)
        low, high = resampled(ours, theirs)
        assert high - low == pytest.approx(formula.high - formula.low, rel=0.15)
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_paired_change_by_hand() -> None:
    # Differences -0.1, -0.2, -0.3: mean -0.2, variance 0.01, two degrees of freedom.
    found = paired_change(np.array([[0.5, 0.6, 0.2]]), np.array([[0.6, 0.8, 0.5]]), None)
    half = T_2 * sqrt(0.01 / 3)
    assert parts(found) == exactly(-0.2, -0.2 - half, -0.2 + half)


def test_paired_change_has_the_interval_of_the_differences() -> None:
    random = np.random.default_rng(5)
    unchanged = crossed(random, 3, 6, 0.05, 0.1)
    costs = crossed(random, 3, 6, 0.02, 0.02) / 4
    found, oracle = paired_change(unchanged - costs, unchanged, None), estimate(costs, True, None)
    assert parts(found) == exactly(-oracle.mean, -oracle.high, -oracle.low)


def test_paired_change_of_nothing_is_zero_and_unlike_sides_are_refused() -> None:
    scores = np.array([[0.5, 0.7], [0.4, 0.9]])
    same = paired_change(scores, scores, None)
    assert parts(same) == (0, 0, 0)
    with pytest.raises(VsmlBenchError, match="1 seeds against 2"):
        paired_change(scores[:1], scores, None)
    with pytest.raises(VsmlBenchError, match="1 lifetimes against 2"):
        paired_change(scores[:, :1], scores, None)


def test_gap_by_hand() -> None:
    # variance of each mean 0.01 / 3, df = (2 v)^2 / (v^2 / 2 + v^2 / 2) = 4
    found = generalisation_gap(np.array([[0.9, 0.8, 0.7]]), np.array([[0.3, 0.5, 0.4]]), None)
    half = 2.7764451051977987 * sqrt(0.02 / 3)
    assert parts(found) == exactly(0.4, 0.4 - half, 0.4 + half)


def test_gap_cancels_what_a_seed_does_on_both_sides() -> None:
    random = np.random.default_rng(6)
    quality = np.array([[-0.1], [0.0], [0.1]])
    same_tasks = crossed(random, 3, 16, 0.0, 0.02) + quality
    unseen = crossed(random, 3, 16, 0.0, 0.02) + quality
    paired = generalisation_gap(same_tasks, unseen, None)
    mixed = generalisation_gap(same_tasks, unseen[::-1], None)
    assert (mixed.mean,) == exactly(paired.mean)
    assert mixed.high - mixed.low > 3 * (paired.high - paired.low)


def test_what_cannot_be_paired_is_refused() -> None:
    two, three = np.full((1, 2), 0.5), np.full((1, 3), 0.5)
    with pytest.raises(VsmlBenchError, match="2 lifetimes against 3"):
        paired_difference(two, three, None)
    with pytest.raises(VsmlBenchError, match="1 seeds against 2"):
        generalisation_gap(three, np.full((2, 3), 0.5), None)
