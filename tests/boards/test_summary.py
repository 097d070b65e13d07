"""Learners in one line each: over all splits, and in what order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boards.factory import make_cell
from vsml_bench.boards.board import build_board
from vsml_bench.boards.summary import Summary

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
