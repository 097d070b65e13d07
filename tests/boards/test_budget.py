"""Which cells are worth their time, against intervals as they are and as they come out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.boards.factory import RECIPE, make_plan
from tests.harness import call, refusal
from vsml_bench.boards.budget import Measured, Step, Widths, choose
from vsml_bench.boards.statistics import difference_over_splits, mean_over_splits
from vsml_bench.boards.variances import Scores
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.plan import Plan
from vsml_bench.verbs.options import duration

SPLITS = ("x", "y")
STEPS = [10**6] * 2
"""So many predictions in a lifetime that score intervals do not matter."""


def crossed(
    rng: np.random.Generator, seeds: int, *, spread: float = 0.05, noise: float = 0.01
) -> dict[str, Scores]:
    """Accuracies on both splits, of which a seed moves all alike."""
    own = rng.normal(0, spread, (seeds, 1))
    return {
        split: 0.5 + own + rng.normal(0, 0.02, (1, 8)) + rng.normal(0, noise, (seeds, 8))
        for split in SPLITS
    }


def test_at_todays_seeds_it_is_todays_interval() -> None:
    rng = np.random.default_rng(0)
    scores: Measured = {"a": crossed(rng, 3), "b": crossed(rng, 4), "floor": crossed(rng, 1)}
    widths = Widths(scores, SPLITS, ["a", "b"])
    both = {name: [of[split] for split in SPLITS] for name, of in scores.items()}
    for name in ("a", "b", "floor"):
        found = mean_over_splits(both[name], STEPS)
        expected = (found.high - found.low) / 2
        assert widths.half_width([name], widths.now) == pytest.approx(expected, rel=1e-9)
    for other in ("b", "floor"):
        found = difference_over_splits(both["a"], both[other], STEPS)
        expected = (found.high - found.low) / 2
        assert widths.half_width(["a", other], widths.now) == pytest.approx(expected, rel=1e-9)


def test_what_it_expects_of_more_seeds_is_what_comes_out() -> None:
    """On average over many worlds; with 5 seeds known, of 10."""
    rng = np.random.default_rng(1)
    expected, found = [], []
    for _ in range(150):
        world = crossed(rng, 10)
        known = {split: of[:5] for split, of in world.items()}
        widths = Widths({"a": known}, SPLITS, ["a"])
        expected.append(widths.half_width(["a"], {("a", split): 10 for split in SPLITS}))
        interval = mean_over_splits([world[split] for split in SPLITS], STEPS)
        found.append((interval.high - interval.low) / 2)
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.1)


def test_more_seeds_never_widen() -> None:
    rng = np.random.default_rng(2)
    scores: Measured = {"a": crossed(rng, 3), "one": crossed(rng, 1)}
    widths = Widths(scores, SPLITS, ["a", "one", "none"])
    for name in ("a", "one", "none"):
        sizes = [
            widths.half_width([name], {(name, split): seeds for split in SPLITS})
            for seeds in range(0, 12)
        ]
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    assert widths.half_width(["one"], widths.now) > widths.half_width(["a"], widths.now)


def plans(learner: str, seeds: Sequence[int], splits: Sequence[str] = SPLITS) -> list[Plan]:
    recipe = RECIPE if learner != "floor" else None
    return [make_plan(split, learner, seed, recipe=recipe) for seed in seeds for split in splits]


def price(chosen: Sequence[Plan]) -> float:
    """10 seconds a cell, and 100 for each meta-training."""
    return 10.0 * len(chosen) + 100.0 * len({(p.learner, p.job.seed) for p in chosen})


def test_it_spends_on_what_is_unsure_and_cheap_and_never_too_much() -> None:
    rng = np.random.default_rng(3)
    scores: Measured = {"sure": crossed(rng, 3, spread=0.001), "unsure": crossed(rng, 3)}
    widths = Widths(scores, SPLITS, ["sure", "unsure"])
    lacking = plans("sure", (3, 4)) + plans("unsure", (3, 4))
    pair = [("sure", "unsure")]
    assert choose(widths, pair, lacking, price, 119.0) == []
    (first,) = choose(widths, pair, lacking, price, 239.0)
    assert (first.learner, first.seed, first.splits) == ("unsure", 3, SPLITS)
    assert first.seconds == 120.0 and first.width < widths.half_width(pair[0], widths.now)
    steps = choose(widths, pair, lacking, price, 1e6)
    assert [s.seed for s in steps if s.learner == "unsure"] == [3, 4]
    assert [s.width for s in steps] == sorted((s.width for s in steps), reverse=True)


def test_what_was_never_run_comes_first_and_a_split_alone_where_all_is_too_dear() -> None:
    rng = np.random.default_rng(4)
    scores: Measured = {"a": crossed(rng, 3), "b": {"x": crossed(rng, 3)["x"]}}
    widths = Widths(scores, SPLITS, ["a", "b"])
    lacking = plans("b", (0, 1, 2), ["y"]) + plans("a", (3,))
    (first, *_) = choose(widths, [("a", "b")], lacking, price, 250.0)
    assert (first.learner, first.splits) == ("b", ("y",))
    widths = Widths({"a": crossed(rng, 3)}, SPLITS, ["a"])
    found = choose(widths, [("a", "floor")], plans("floor", (0,)), price, 115.0)
    assert [(s.learner, len(s.splits)) for s in found] == [("floor", 1)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), (" 0.5m ", 30), ("1h1s", 3601)],
)
def test_times(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "30", "30x", "m", "1.2.3h", "-5m", "0s", "m30", "٣m", "9" * 400 + "h"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(VsmlBenchError, match="is no time; write one such as 90s, 30m"):
        duration(text)


@pytest.mark.usefixtures("nothing_here")
def test_a_budget_on_the_command_line() -> None:
    """The published cells of `desk`, of which nothing lacks, so that further seeds are priced."""
    ask = ("plan", "--suite", "desk", "--split", "mnist5k-held-out")
    found = call(*ask, "--budget", "24h", "--compare", "vsml", "ridge", "--json").json
    steps = [Step(**step) for step in found["steps"]]
    assert {step.learner for step in steps} == {"vsml"} and steps[0].seed == 3
    assert 0 < found["seconds"] <= 24 * 3600
    ((label, before),) = found["before"].items()
    assert label in ("vsml minus ridge", "ridge minus vsml")
    assert 0 < found["after"][label] < before
    run, board = found["commands"]
    of = "--suite desk --learner vsml --split mnist5k-held-out --seed 3"
    assert run.startswith(f"vsml-bench run {of}")
    assert board.startswith("vsml-bench leaderboard --suite desk --split mnist5k-held-out --seed 0")
    assert "two different learners" in refusal(
        call(*ask, "--budget", "1h", "--compare", "vsml", "vsml")
    )
    assert "add --budget" in refusal(call(*ask, "--compare", "vsml", "ridge"))
    assert "'soon' is no time" in refusal(call(*ask, "--budget", "soon"))
