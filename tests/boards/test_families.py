"""All pairs of learners at once, what more would separate two, and two side by side."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from tests.boards.factory import RECIPE, make_cell, make_plan, run
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.families import Family, Scored, holm
from vsml_bench.boards.groups import Group, groups_of
from vsml_bench.boards.pairs import OVERALL, pairs
from vsml_bench.boards.spread import POWER_80, needed
from vsml_bench.boards.statistics import Interval, paired_difference
from vsml_bench.boards.two_learners import two_learners
from vsml_bench.errors import VsmlBenchError

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_mean_over_splits_is_of_the_seeds_that_all_of_them_have() -> None:
    """A seed that is good on one split is good on others, so that they are paired by seed."""
    rng = np.random.default_rng(1)
    scores = {seed: list(rng.uniform(0.3, 0.7, 3)) for seed in range(4)}

    def groups(*seeds: tuple[int, ...]) -> list[Group]:
        cells = [
            make_cell(split, "x", seed, scores[seed], recipe=RECIPE, steps=100)
            for split, of in zip(("one", "other"), seeds, strict=True)
            for seed in of
        ]
        return groups_of(cells)

    def mean(*seeds: tuple[int, ...]) -> Interval:
        return Scored.of(groups(*seeds), ["one", "other"]).mean

    assert mean((0, 1, 2), (1, 2, 3)) == mean((1, 2), (1, 2))
    assert mean((0, 1, 2), (1,)) == mean((1,), (1,))
    apart = mean((0, 1), (2, 3))  # nothing is common
    assert apart.mean == pytest.approx(np.mean([scores[seed] for seed in range(4)]), abs=0.01)


def test_holm_by_hand() -> None:
    # 4 x 0.01, 3 x 0.02, 2 x 0.03, and the largest, which must not be below the one before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(SHARES)
@settings(deadline=None, max_examples=50)
def test_holm_as_statsmodels_has_it(p: list[float]) -> None:
    rejected, corrected, *_ = multipletests(p, 0.05, method="holm")
    assert holm(p) == pytest.approx(corrected.tolist())
    assert [one <= 0.05 for one in holm(p)] == rejected.tolist()


def test_the_p_value_of_one_seed_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.uniform(0.2, 0.8, (2, 1, 9))
    expected = ttest_rel(ours[0], theirs[0]).pvalue
    assert paired_difference(ours, theirs, None).p == pytest.approx(expected)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(5, 60), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_p_is_below_5_percent_where_the_interval_leaves_out_0(
    seeds: int, lifetimes: int, steps: int, seed: int
) -> None:
    """Few right ones and few wrong ones, one lifetime and equal ones included."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(0.5, 0.5, 2)
    ours, theirs = (rng.binomial(steps, p, (seeds, lifetimes)) / steps for p in chances)
    found = paired_difference(ours, theirs, steps)
    assert (found.p < 0.05) == found.decided
    back = paired_difference(theirs, ours, steps)
    turned = found.turned()
    for name in ("mean", "low", "high", "p"):
        assert getattr(turned, name) == pytest.approx(getattr(back, name), abs=1e-12)


def family(means: dict[str, float], seed: int = 0) -> Family[str]:
    rng = np.random.default_rng(seed)
    easy = rng.normal(0, 0.02, (1, 8))
    scores = {name: mean + easy + rng.normal(0, 0.01, (1, 8)) for name, mean in means.items()}
    members = {name: Scored([of.clip(0, 1)], (1000,), False) for name, of in scores.items()}
    return Family(members)


def test_a_family_decides_what_statsmodels_rejects_and_ranks_by_it() -> None:
    means = {f"l{i}": 0.5 + 0.006 * i for i in range(7)}
    found = family(means)
    names = [(a, b) for i, a in enumerate(means) for b in [*means][i + 1 :]]
    p = [found.difference(a, b).p for a, b in names]
    rejected = dict(zip(names, multipletests(p, 0.05, method="holm")[0], strict=True))
    assert {pair: found.decided(*pair) for pair in names} == rejected
    assert sum(rejected.values()) < sum(one < 0.05 for one in p), "the correction costs some"
    for name in means:
        against = [
            found.difference(name, other).mean
            for pair, decided in rejected.items()
            if decided and name in pair
            for other in pair
            if other != name
        ]
        low = 1 + sum(difference < 0 for difference in against)
        assert found.places(name) == (low, 7 - sum(difference > 0 for difference in against))


def test_equals_are_rarely_decided_anywhere_in_a_family() -> None:
    """Without the correction, 15 pairs of equals are told apart somewhere in a third of boards."""
    any_decided = alone = 0
    for seed in range(120):
        found = family({f"l{i}": 0.5 for i in range(6)}, seed)
        pairs_of = [(a, b) for a in found.members for b in found.members if a < b]
        any_decided += any(found.decided(a, b) for a, b in pairs_of)
        alone += any(found.difference(a, b).decided for a, b in pairs_of)
    assert any_decided <= 12 < 24 < alone


def crossed(rng: np.random.Generator, seeds: int, lifetimes: int, mean: float) -> Any:
    of_seeds, both = rng.normal(0, 0.02, (seeds, 1)), rng.normal(0, 0.02, (seeds, lifetimes))
    return (mean + of_seeds + both).clip(0, 1)


def test_no_more_changes_nothing_and_more_never_widens() -> None:
    rng = np.random.default_rng(5)
    for seeds in (2, 3, 8):
        ours, theirs = crossed(rng, seeds, 6, 0.5), crossed(rng, 1, 6, 0.5)
        found = paired_difference(ours, theirs, 1000)
        spread, now = found.spread, found.high - found.mean
        half = [spread.with_more([k, 0], 1.0).reach() for k in (0, 1, 4, 40)]
        assert half[0] is not None and half[0][1] == pytest.approx(now)
        widths = [of[1] for of in half if of is not None]
        assert widths == sorted(widths, reverse=True)
        longer = spread.with_more([0, 0], 4.0).reach()
        assert longer is not None and longer[1] <= now


def test_more_seeds_and_lifetimes_do_to_the_interval_what_was_foreseen() -> None:
    """On average over many small samples, against samples that are really larger."""
    rng = np.random.default_rng(6)
    base = np.full((1, 8), 0.5)
    for more, times in (((8, 0), 1.0), ((0, 0), 4.0)):
        foreseen, happened = [], []
        for _ in range(60):
            small = paired_difference(crossed(rng, 8, 8, 0.6), base, 10**6)
            foreseen.append(sum(part.value for part in _parts(small.spread.with_more(more, times))))
            large = crossed(rng, 8 + more[0], round(8 * times), 0.6)
            of_base = np.full((1, large.shape[1]), 0.5)
            happened.append(
                sum(part.value for part in _parts(paired_difference(large, of_base, 10**6).spread))
            )
        assert np.mean(foreseen) == pytest.approx(np.mean(happened), rel=0.2)


def _parts(spread: Any) -> list[Any]:
    return [*spread.lifetimes, *(part for side in spread.seeds for part in side)]


def test_what_is_needed_is_the_least_that_is_enough() -> None:
    rng = np.random.default_rng(7)
    ours = (0.52 + rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 0.002, (4, 6))).clip(0, 1)
    found = paired_difference(ours, np.full((1, 6), 0.5), 10**6)
    more = needed(0.01, found.spread, (True, False), 6)
    assert more.seeds is not None and more.lifetimes is None, "it is the seeds that vary"

    def detectable(seeds: int) -> float:
        reach = found.spread.with_more([seeds, 0], 1.0).reach()
        assert reach is not None
        return POWER_80 * reach[0]

    assert detectable(more.seeds) <= 0.01 < detectable(more.seeds - 1)
    assert needed(0.0, found.spread, (True, False), 6).seeds is None, "equals stay equal"


def test_how_many_lifetimes_are_needed_by_hand() -> None:
    """Of one seed nobody knows how seeds vary; without meta-parameters there are none."""
    rng = np.random.default_rng(8)
    one = paired_difference(crossed(rng, 1, 40, 0.51), crossed(rng, 1, 40, 0.5), 10**6)
    assert needed(0.002, one.spread, (True, True), 40).seeds is None
    assert needed(0.002, one.spread, (False, False), 40).seeds is None
    of_one_lifetime = sqrt(one.spread.lifetimes[0].value * 40)
    found = needed(0.002, one.spread, (False, False), 40).lifetimes
    assert found == pytest.approx((1.43 * 1.96 * of_one_lifetime / 0.002) ** 2 - 40, rel=0.02)


# Two side by side.

SCORES = {
    "mine": {"home": [0.8, 0.7, 0.9], "away": [0.62, 0.7, 0.65], "far": [0.6, 0.7, 0.65]},
    "vsml": {"home": [0.8, 0.8, 0.8], "away": [0.6, 0.7, 0.6], "far": [0.6, 0.6, 0.65]},
    "chance": {"home": [0.1, 0.1, 0.05], "away": [0.1, 0.05, 0.1], "far": [0.1, 0.1, 0.05]},
}


def board(lost: tuple[str, str] = ("", ""), **given: Any) -> Board:
    plans = {
        (split, name): make_plan(
            split,
            name,
            relation="same_tasks" if split == "home" else "unseen_dataset",
            recipe=RECIPE if name == "vsml" else None,
        )
        for name, of in SCORES.items()
        for split in of
    }
    bad: dict[str, Any] = {"status": "crashed", "reason": "out | of luck"}
    cells = [
        run(plan, **bad) if place == lost else run(plan, SCORES[place[1]][place[0]], **given)
        for place, plan in plans.items()
    ]
    return build_board("desk", cells, list(plans.values()))


def test_two_learners_are_the_pair_of_the_page() -> None:
    of = board()
    forth, back = two_learners(of, "mine", "vsml"), two_learners(of, "vsml", "mine")
    of_page = [pair for pair in pairs(of) if (pair.first, pair.second) == ("mine", "vsml")]
    assert [pair.verdict() for pair in forth.pairs] == [pair.verdict() for pair in of_page]
    assert [pair.split for pair in forth.pairs] == ["home", "away", "far", OVERALL]
    assert forth.overall is not None and back.overall is not None
    assert forth.overall.difference.mean == pytest.approx(-back.overall.difference.mean)
    assert forth.overall.wins == pytest.approx(1 - back.overall.wins)
    assert (forth.better, forth.worse, back.worse) == (False, False, False)
    assert forth.verdict.startswith("mine against vsml on data never seen: +2.5 points (")
    assert "not separable; " in forth.verdict and forth.verdict.endswith(" more lifetimes would.")
    assert forth.one_seed == ("vsml",)
    decided = two_learners(of, "mine", "chance")
    assert decided.better and decided.verdict.endswith("decided: mine is better.")
    assert decided.document()["ahead"] == "mine"


def test_who_lacks_a_score_never_passes() -> None:
    of = board(lost=("far", "mine"))
    found = two_learners(of, "mine", "chance")
    assert (found.overall, found.worse, found.better) == (None, True, False)
    assert [pair.split for pair in found.pairs] == ["home", "away"]
    assert "mine on far: crashed: crashed: out | of luck" in found.verdict
    assert "out \\| of luck" in found.markdown()


def test_names_that_stand_for_one_or_several() -> None:
    cells = [make_cell(device="CPU"), make_cell(device="GPU", processor="cuda")]
    cells.append(make_cell(learner="sgd"))
    of = build_board("desk", cells, [make_plan(), make_plan(learner="sgd")])
    with pytest.raises(VsmlBenchError, match=r"several; name one of: vsml \(GPU\), vsml \(cpu\)"):
        two_learners(of, "vsml", "sgd")
    assert two_learners(of, "vsml (cpu)", "sgd").first == "vsml (cpu)"
    with pytest.raises(VsmlBenchError, match="are the same learner"):
        two_learners(of, "sgd", "sgd")
    with pytest.raises(VsmlBenchError, match=r"'sdg' is no learner .*did you mean 'sgd'"):
        two_learners(of, "sdg", "sgd")
