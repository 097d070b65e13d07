"""What another choice of test examples does to means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from tests.boards.factory import make_cell
from vsml_bench.boards.examples import Basis, Drawn, basis_of, covary, over_examples, shuffled
from vsml_bench.boards.groups import Group, groups_of
from vsml_bench.boards.statistics import (
    difference_over_splits,
    estimate,
    generalisation_gap,
    mean_over_splits,
    paired_difference,
)
from vsml_bench.data import orders
from vsml_bench.data.dataset import subset_rows
from vsml_bench.data.datasets import load
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.sides import TaskDistribution

SEEDS = (11, 12, 13, 14)


def outcomes(
    by_example: np.ndarray[Any, Any], steps: int, seeds: Sequence[int] = SEEDS
) -> np.ndarray[Any, Any]:
    """[lifetimes, steps] from what each lifetime would have of each example, [lifetimes, N]."""
    order = [
        orders.whole(orders.of_lifetime(seed, "test"), by_example.shape[1])[:steps]
        for seed in seeds
    ]
    return np.stack([row[chosen] for row, chosen in zip(by_example, order, strict=True)])


def group_of(
    *by_example: np.ndarray[Any, Any], steps: int, seeds: Sequence[int] = SEEDS, **given: Any
) -> Group:
    """One with a meta-train seed for each."""
    (group,) = groups_of(
        make_cell(
            seed=place,
            accuracies=outcomes(each, steps, seeds).astype(bool),
            steps=steps,
            seeds={"meta_test": list(seeds), "shuffled": each.shape[1]},
            **given,
        )
        for place, each in enumerate(by_example)
    )
    return group


def variance(of: Basis, other: Basis | None = None) -> float:
    found = over_examples([(1.0, of)] if other is None else [(1.0, of), (-1.0, other)])
    return sum(part.value for part in found)


def test_by_hand() -> None:
    """Two lifetimes of both examples; one is always right, the other never: deviations are 1/2 and
    -1/2, each pair of unlike lifetimes gives 1/4 for each example, over 2 * 1 * 2^2."""
    of = group_of(np.array([[1, 0], [1, 0]]), steps=2, seeds=SEEDS[:2]).basis
    assert variance(of) == pytest.approx(4 * 0.25 / 8)
    other = group_of(np.array([[1, 0], [0, 1]]), steps=2, seeds=SEEDS[:2]).basis
    assert variance(other) == 0.0  # -1/8 by the same sums
    # 1/2 for one example and none for the other: (1/8 - 1/8 - 2 * 0) of their difference.
    assert variance(of, of) == 0.0
    assert variance(of, other) == 0.0


def test_of_the_whole_set_it_is_that_of_the_analysis_of_variance() -> None:
    """(MS of examples - MS of the residual) / L is var(c); it is taken of N, and not N - 1."""
    random = np.random.default_rng(0)
    lifetimes, count = len(SEEDS), 12
    chance = (0.5 + 0.4 * np.sin(np.arange(count)) + 0.1 * random.standard_normal((4, 1))).clip(
        0, 1
    )
    right = random.random((lifetimes, count)) < chance
    where = np.indices(right.shape).reshape(2, -1)
    frame = pd.DataFrame({"right": right.ravel() * 1.0, "l": where[0], "i": where[1]})
    table = anova_lm(ols("right ~ C(l) + C(i)", frame).fit())
    squares = table["mean_sq"]
    expected = (squares["C(i)"] - squares["Residual"]) / lifetimes * (count - 1) / count / count
    assert variance(group_of(right, steps=count).basis) == pytest.approx(expected)


def test_two_of_the_same_set_share_what_is_hard() -> None:
    random = np.random.default_rng(1)
    hard = np.where(np.arange(40) < 20, 0.95, 0.4)
    ours, theirs = (random.random((2, 4, 40)) < hard) * 1
    a, b = (group_of(each, steps=30) for each in (ours, theirs))
    assert variance(a.basis, b.basis) < 0.2 * variance(a.basis)
    far = group_of(theirs, steps=30, data_hashes={"meta_test/other": "x"})
    apart = variance(a.basis) + variance(far.basis)
    assert variance(a.basis, far.basis) == pytest.approx(apart)
    # Other lifetimes of the set, as with permuted labels: the covariance is that of all pairs.
    seeds = (21, 22, 23, 24)
    other = group_of(theirs[:, ::-1], steps=30, seeds=seeds)
    sums = np.zeros((2, 40))
    for row, (each, of) in enumerate(((ours, SEEDS), (theirs[:, ::-1], seeds))):
        for lifetime, seed in zip(outcomes(each, 30, of), of, strict=True):
            chosen = orders.whole(orders.of_lifetime(seed, "test"), 40)[:30]
            sums[row, chosen] += lifetime - lifetime.mean()
    shared = float(sums[0] @ sums[1]) / 120**2
    apart = variance(a.basis) + variance(other.basis)
    assert variance(a.basis, other.basis) == pytest.approx(apart - 2 * shared)


def test_coverage_over_sets_of_examples() -> None:
    """Of the accuracy on all examples there might be, which the lifetimes of one set alone miss."""
    random = np.random.default_rng(2)
    seeds = tuple(range(8))
    covered = without = paired = 0
    for _ in range(250):
        easy = random.choice([0.35, 0.95], 80)  # 0.65 on average
        lifetime = 0.03 * random.standard_normal((8, 1))
        a, b = (
            group_of(random.random((8, 80)) < easy + lifetime, steps=60, seeds=seeds)
            for easy in (easy, random.permutation(easy))
        )
        found, alone = a.estimate, estimate(a.scores, True, 60)
        difference = paired_difference(a.scores, b.scores, (a.basis, b.basis))
        covered += found.low <= 0.65 <= found.high
        without += alone.low <= 0.65 <= alone.high
        paired += difference.low <= 0 <= difference.high
    assert 0.93 <= covered / 250 <= 0.985
    assert without / 250 < 0.8
    assert paired / 250 >= 0.93


def test_the_pigeonhole_bootstrap_agrees() -> None:
    """Owen 2007: examples and lifetimes are resampled, an outcome counts by the product."""
    random = np.random.default_rng(3)
    seeds = tuple(range(24))
    easy = random.uniform(0.1, 1.0, 150)
    right = random.random((24, 150)) < (easy + 0.1 * random.standard_normal((24, 1))).clip(0, 1)
    found = group_of(right, steps=150, seeds=seeds).estimate
    weights = [random.multinomial(n, np.full(n, 1 / n), 2000) / n for n in right.shape]
    means = np.einsum("rl,li,ri->r", weights[0], right * 1.0, weights[1], optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    assert high - low == pytest.approx(found.high - found.low, rel=0.1)


@settings(deadline=None, max_examples=40)
@given(arrays(bool, (2, 4, 9)), st.integers(2, 9))
def test_covering_more_is_never_narrower(right: np.ndarray[Any, Any], steps: int) -> None:
    a, b = (group_of(each, steps=steps) for each in right)
    bare = Basis(steps, a.basis.lifetimes)
    for more, less in (
        (a.estimate, estimate(a.scores, True, steps)),
        (
            mean_over_splits([a.scores, b.scores], [a.basis, b.basis]),
            mean_over_splits([a.scores, b.scores], [bare, bare]),
        ),
    ):
        assert more.mean == less.mean
        assert more.low <= less.low + 1e-12 and more.high >= less.high - 1e-12


def test_all_right_on_few_examples_says_less_than_on_many() -> None:
    always = np.ones((4, 20), bool)
    few = group_of(always, steps=20).estimate
    assert few.low == pytest.approx(estimate(np.ones((1, 1)) * [[1.0] * 4], True, 5).low)  # n = 20


def test_splits_with_the_same_lifetimes_are_no_independent_evidence() -> None:
    """As for a learner that is not meta-trained, of which the meta-train side makes no other."""
    scores = np.array([[0.6, 0.7, 0.8]])
    of = Basis(2000, "the same lifetimes")
    alone = estimate(scores, False, 2000)
    thrice = mean_over_splits([scores] * 3, [of] * 3)
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high))
    unrelated = mean_over_splits([scores] * 3, [2000] * 3)
    assert unrelated.high - unrelated.low < 0.6 * (alone.high - alone.low)
    other = scores - [[0.1, 0.3, 0.2]]
    both = [(of, of)] * 3
    difference = difference_over_splits([scores] * 3, [other] * 3, both)
    expected = paired_difference(scores, other, 2000)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    gap = generalisation_gap(scores, scores, (of, of))
    assert gap.high - gap.low < 0.1 * (alone.high - alone.low)


def test_a_row_says_whether_examples_are_covered() -> None:
    def said(**seeds: Any) -> str:
        (group,) = groups_of([make_cell(seeds={"meta_test": [1, 2, 3], **seeds})])
        return group.basis.example_variance

    assert said(shuffled=30) == "measured"
    assert said(shuffled=0) == "not applicable"
    assert said() == said(shuffled=None) == "not measured"
    (episodes,) = groups_of([make_cell(stream=False, seeds={"meta_test": [1, 2], "shuffled": 30})])
    assert episodes.basis.example_variance == "not measured"


def test_all_covariances_at_once_are_those_of_pairs() -> None:
    """Of four learners on one set, two of them on other lifetimes, and one on another set."""
    random = np.random.default_rng(5)
    given = [(20, SEEDS), (20, SEEDS), (20, (7, 8, 9)), (20, (7, 8, 9)), (25, SEEDS)]

    def fresh() -> list[Drawn]:
        of = [group_of(r, steps=15, seeds=seeds).basis.drawn for r, seeds in outcomes_of]
        return [drawn for drawn in of if drawn is not None]

    outcomes_of = [(random.random((len(seeds), count)) < 0.6, seeds) for count, seeds in given]
    pairs, together = fresh(), fresh()
    together[4] = replace(together[4], source="another")
    pairs[4] = replace(pairs[4], source="another")
    covary(together)
    for one, own in zip(pairs, together, strict=True):
        for other, its in zip(pairs, together, strict=True):
            assert own.covariance(its) == pytest.approx(one.covariance(other), rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "random", "sum_sign"])
def test_examples_are_those_of_the_streams(name: str) -> None:
    """And old cells, which do not say how many there are, are known by the hash of their data."""
    side = TaskDistribution((name,), "test")
    sampler = EpisodeSampler(side)
    old = make_cell(
        test=side, data_hashes={f"meta_test/{n}": h for n, h in sampler.content_hashes.items()}
    )
    assert shuffled(old) == sampler.shuffled
    if sampler.shuffled:
        dataset = load(name, "test", None)
        assert dataset.examples is not None
        labels = dataset.examples.labels[subset_rows(dataset, "all", 1)]
        drawn = sampler.sample([5, 6], 40).labels.numpy()
        for column, seed in zip(drawn.T, (5, 6), strict=True):
            order = orders.whole(orders.of_lifetime(seed, "test"), len(labels))
            assert (labels[order[:40]] == column).all()


def test_a_part_of_the_steps_has_its_examples() -> None:
    right = np.random.default_rng(4).random((4, 30)) < 0.6
    group = group_of(right, steps=30)
    scores, of = group.part(range(10, 20))
    again = basis_of(group.cells, group.correct[..., 10:20], range(10, 20))
    assert of.drawn is not None and again.drawn is not None
    assert (of.drawn.sums == again.drawn.sums).all()
    assert (scores == group.correct[..., 10:20].mean(2)).all()
    expected = np.zeros(30)
    for seed, lifetime in zip(SEEDS, group.correct[0, :, 10:20], strict=True):
        order = orders.whole(orders.of_lifetime(seed, "test"), 30)
        expected[order[10:20]] += (lifetime - lifetime.mean()) / 40
    assert of.drawn.sums == pytest.approx(expected)
