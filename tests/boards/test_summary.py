"""Learners in one line each: over all splits, and in what order."""

from __future__ import annotations

import dataclasses
from itertools import product

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.boards.factory import make_cell, make_plan, only_row
from vsml_bench.boards.board import build_board
from vsml_bench.boards.groups import WORST_FIRST
from vsml_bench.boards.summary import Summary
from vsml_bench.evaluation.cell import Cell, Status

SPLITS = ("x", "y")
Means = dict[str, dict[str, float]]


def summaries(means: Means) -> dict[str, Summary]:
    """means: learner -> split -> accuracy, about which two lifetimes lie; others crashed."""
    cells = []
    for learner, of in means.items():
        for split in SPLITS:
            mean = of.get(split)
            cells.append(
                make_cell(split, learner, status="crashed", lifetimes=2, steps=1000)
                if mean is None
                else make_cell(split, learner, accuracies=[mean - 0.01, mean + 0.01], steps=1000)
            )
    board = build_board("desk", cells, [cell.plan for cell in cells])
    return {learner.label: learner for learner in board.learners}


def test_by_hand() -> None:
    found = summaries(
        {"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.4, "y": 0.44}, "c": {"x": 0.95}, "d": {}}
    )
    assert list(found) == ["a", "c", "b", "d"]
    assert [found[name].mean for name in "acbd"] == [0.7, 0.475, 0.42, None]
    assert [found[name].scored for name in "acbd"] == [2, 1, 2, 0]
    assert {found[name].splits for name in found} == {2}
    assert [found[name].mean_rank for name in "acbd"] == [1.5, 2.5, 2.5, 4.0]
    places = {name: (of.rank, of.rank_low, of.rank_high) for name, of in found.items()}
    # On y only b of the two has a score, of which two lifetimes say little: 0.055 is not decided.
    assert places == {"a": (1, 1, 1), "c": (2, 2, 3), "b": (3, 2, 3), "d": (None, None, None)}
    assert [found[name].tie for name in "acbd"] == [1, 2, 2, None]


def test_what_is_not_decided_shares_places() -> None:
    found = summaries({"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.9, "y": 0.5}})
    assert {(of.rank, of.rank_low, of.rank_high) for of in found.values()} == {(1, 1, 2)}


def test_a_split_that_all_fail_on_counts() -> None:
    found = summaries({"a": {"x": 0.9}, "b": {"x": 0.4}})
    assert [(of.mean, of.scored, of.splits) for of in found.values()] == [
        (0.45, 1, 2),
        (0.2, 1, 2),
    ]


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.fixed_dictionaries({}, optional=dict.fromkeys(SPLITS, st.floats(0.02, 0.98))),
        min_size=3,
    ),
    st.data(),
)
def test_no_other_learner_moves_two(means: Means, data: st.DataObject) -> None:
    found = summaries(means)
    pair = data.draw(st.sets(st.sampled_from(sorted(means)), min_size=2, max_size=2))
    alone = summaries({name: means[name] for name in sorted(pair)})
    apart = alone[min(pair)].mean != alone[max(pair)].mean
    assert [name for name in found if name in pair] == list(alone) or not apart


FAILURES = [status for status in WORST_FIRST if status != "ok"]


@st.composite
def records(draw: st.DrawFn) -> list[Cell]:
    """Of two learners on two splits with a seed or two; many failed or were never run."""
    found = []
    for learner, split, seed in product("ab", SPLITS, range(draw(st.integers(1, 2)))):
        status = draw(st.sampled_from(("ok", "ok", "missing", draw(st.sampled_from(FAILURES)))))
        hits = draw(st.lists(st.integers(0, 20), min_size=3, max_size=3))
        if status != "missing":
            found.append(make_cell(split, learner, seed, [h / 20 for h in hits], status=status))
    return found


@settings(deadline=None, max_examples=60)
@given(records(), st.sampled_from(FAILURES), st.data())
def test_a_learner_never_gains_by_failing(
    cells: list[Cell], failure: Status, data: st.DataObject
) -> None:
    """One of its cells fails, and all else stays: it gets no better place, mean or rank, neither
    over the splits nor on this one. Where data lack for the only one that has a score on a split,
    the mean is over fewer splits, for everyone."""
    here = [place for place, cell in enumerate(cells) if cell.status == "ok"]
    assume(here)
    place = data.draw(st.sampled_from(here))
    failed = dataclasses.replace(cells[place], status=failure, reason="it failed", outcomes=None)
    plans = [make_plan(s, of, seed) for of, s, seed in product("ab", SPLITS, (0, 1))]
    before, after = (
        build_board("desk", of, plans)
        for of in (cells, [*cells[:place], failed, *cells[place + 1 :]])
    )
    name, split = failed.plan.learner, failed.plan.split.name
    then, now = (next(of for of in board.learners if of.label == name) for board in (before, after))
    assert (now.rank or 9) >= (then.rank or 9)
    assert (now.mean_rank or 9) >= (then.mean_rank or 9)
    assert now.scored <= then.scored
    if failure != "unavailable":
        assert (now.mean or 0) <= (then.mean or 0)
    row = only_row(after, learner=name, split=split)
    assert row["mean"] is row["rank"] is None
