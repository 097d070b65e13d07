"""Columns against numbers worked out by hand, and columns of other packages."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.boards.factory import TRAIN, make_cell, make_plan, only_row
from tests.harness import install
from vsml_bench import errors
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.columns import COLUMNS
from vsml_bench.boards.formats import to_csv, to_json, to_markdown
from vsml_bench.boards.statistics import generalisation_gap, paired_change, paired_difference
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell

HIGH, LOW = [0.8, 0.85, 0.9, 0.85], [0.3, 0.35, 0.4, 0.35]
T1, T2 = 12.706204736432095, 4.302652729911275
"""Student's t at 0.975 with one and two degrees of freedom, as tables have it."""


def board_of(*cells: Cell) -> Board:
    return build_board("desk", cells, [cell.plan for cell in cells])


def test_one_seed() -> None:
    (row,) = board_of(make_cell(accuracies=[0.5, 0.6, 0.7])).rows
    half = T2 * 0.1 / 3**0.5  # the standard deviation is 0.1
    assert row["mean"] == 0.6
    assert (row["ci_low"], row["ci_high"]) == (round(0.6 - half, 9), round(0.6 + half, 9))
    assert (row["rank"], row["rank_low"], row["rank_high"]) == (1, 1, 1)


def test_two_seeds_that_differ_by_five_points() -> None:
    (row,) = board_of(
        make_cell(seed=0, accuracies=[0.5, 0.5]), make_cell(seed=1, accuracies=[0.55, 0.55])
    ).rows
    half = T1 * 0.025  # variance of the seeds 0.05^2 / 2, by 2 of them
    assert row["mean"] == 0.525
    assert (row["ci_low"], row["ci_high"]) == (round(0.525 - half, 9), round(0.525 + half, 9))
    assert (row["seeds"], row["seed_variance"]) == (2, "measured")


def test_the_gap() -> None:
    board = board_of(
        make_cell("home", accuracies=[0.8, 0.9], relation="same_tasks"),
        make_cell("held-out", accuracies=[0.5, 0.6]),
    )
    home, away = board.rows
    half = T2 * 0.005**0.5  # 0.005 / 2 from either side, of one degree of freedom each
    assert away["gap"] == 0.3
    assert (away["gap_low"], away["gap_high"]) == (round(0.3 - half, 9), round(0.3 + half, 9))
    assert (home["gap"], home["gap_low"], home["gap_high"]) == (None, None, None)


def test_ranks() -> None:
    """a is above b by 0.4 in each lifetime; a to c and b to c vary too much in two lifetimes."""
    accuracies = {"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.5, 0.3]}
    board = board_of(*(make_cell(learner=name, accuracies=of) for name, of in accuracies.items()))
    ranks = {row["learner"]: (row["rank"], row["rank_low"], row["rank_high"]) for row in board.rows}
    assert ranks == {"a": (1, 1, 2), "b": (2, 2, 3), "c": (3, 1, 3)}
    assert all(type(place) is int for of in ranks.values() for place in of)


def test_rows_have_the_names_that_readers_know() -> None:
    (row,) = json.loads(to_json(board_of(make_cell())))["rows"]
    names = (
        "split relation learner metric mean ci_low ci_high seeds lifetimes steps status "
        "seed_variance example_variance seed_share lifetime_share interaction_share early at_100 "
        "at_100_low at_100_high final gap gap_low gap_high change change_low change_high rank "
        "rank_low rank_high seeds_ok seeds_planned family meta_parameters device kind "
        "meta_train_seconds seconds_per_1000 note reason keys"
    )
    assert list(row) == names.split()
    header = to_csv(board_of(make_cell())).splitlines()[0]
    assert header.split(",") == names.split()[:-1]


COLUMN = """
from vsml_bench.boards.columns import Column
from vsml_bench.boards.statistics import estimate, lifetime_scores


def worst(group, finished):
    return estimate(lifetime_scores(group.correct[..., :10]), group.has_meta_parameters, 10)


WORST = Column(
    worst, title="first 10", unit="%", bounds=("worst_low", "worst_high"), matrix=True, details=95
)
SECONDS = Column(lambda group, finished: 1.23456, title="time", unit="s", details=97)
BOUNDS = Column(lambda group, finished: 0.5, bounds=("low", "high"))
NO_BOUNDS = Column(worst)
BROKEN = Column(lambda group, finished: 1 / 0)
NAN = Column(lambda group, finished: float("nan"))
TAKEN = Column(worst, bounds=("ci_low", "ci_high"))
NONE = Column(lambda group, finished: None, bounds=("none_low", "none_high"))
"""


@pytest.fixture
def column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs columns of the file above: "NAME = COLUMN", a line for each."""

    def bring(points: str) -> None:
        points = points.replace("= ", "= strange_columns:")
        monkeypatch.syspath_prepend(install(tmp_path, "strange_columns", COLUMN, columns=points))

    return bring


def test_a_column_of_another_package_is_everywhere(column: Callable[[str], None]) -> None:
    cells = [
        make_cell(accuracies=[0.9, 0.9], steps=2000),
        make_cell(learner="sgd", status="crashed", steps=2000),
    ]
    before = board_of(*cells)
    column("worst = WORST\nseconds = SECONDS")
    board = board_of(*cells)
    assert board.board_hash == before.board_hash
    rows = json.loads(to_json(board))["rows"]
    assert rows[0]["worst"] == rows[0]["worst_low"] == 0.0
    assert [row["seconds"] for row in rows] == [1.23456, None]
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert [line["worst_high"] for line in lines] == [f"{rows[0]['worst_high']}", ""]
    text = to_markdown(board)
    assert "## first 10 (%)" in text and "| 0.0 ± 8.1 †" in text
    header = next(line for line in text.splitlines() if line.startswith("| rank"))
    assert [name.strip() for name in header.split("|")][-8:-1] == [
        "steps",
        "first 10",
        "95 % interval of the first 10",
        "time (s)",
        "device",
        "meta-training or tuning (s)",
        "meta-test (s for 1,000 examples)",
    ]


@pytest.mark.parametrize(
    ("name", "which", "message"),
    [
        ("odd", "BOUNDS", "'odd' of vsml on held-out: gave no interval; its `bounds` say one"),
        ("odd", "NO_BOUNDS", "gave an interval; its `bounds` say none"),
        ("odd", "BROKEN", "'odd' of vsml on held-out: ZeroDivisionError"),
        ("odd", "NAN", "gave nan; expected a finite number or None"),
        ("odd", "TAKEN", "two columns write 'ci_low'"),
        ("mean", "WORST", "two columns are called 'mean'"),
    ],
)
def test_a_column_that_does_not_keep_its_word(
    column: Callable[[str], None], name: str, which: str, message: str
) -> None:
    column(f"{name} = {which}")
    with pytest.raises(VsmlBenchError, match=message):
        board_of(make_cell())


@pytest.mark.parametrize(
    ("which", "message"),
    [("COLUMN", "defines no column 'COLUMN'"), ("worst", "it must be a Column")],
)
def test_what_is_no_column_costs_itself(
    column: Callable[[str], None],
    which: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = board_of(make_cell()).rows
    monkeypatch.setattr(errors, "warned", [])
    column(f"odd = {which}")
    assert board_of(make_cell()).rows == before
    said = capsys.readouterr().err
    assert "warning: column 'odd' is left out" in said and message in said


def test_a_column_may_have_nothing_to_say(column: Callable[[str], None]) -> None:
    column("none = NONE")
    (row,) = board_of(make_cell()).rows
    assert (row["none"], row["none_low"], row["none_high"]) == (None, None, None)


def test_titles_of_shipped_columns_are_distinct_where_they_are_shown() -> None:
    places = [column.details for column in COLUMNS.values() if column.details]
    assert len(places) == len(set(places))
    assert all(column.title for column in COLUMNS.values() if column.details)


def test_early_and_final_accuracy() -> None:
    correct = np.zeros((2, 250), bool)
    correct[:, :50] = True  # half of the first 100
    correct[0, 175:] = True  # 75 of the last 100 in one of two lifetimes
    row = build_board("desk", [make_cell(accuracies=correct)], [make_plan()]).rows[0]
    assert (row["early"], row["final"], row["mean"]) == (0.5, 0.375, 0.35)


def ranks(board: Board) -> dict[str, tuple[int | None, int | None, int | None]]:
    return {row["learner"]: (row["rank"], row["rank_low"], row["rank_high"]) for row in board.rows}


def test_ranks_with_a_tie_that_paired_differences_leave_open() -> None:
    learners = {
        "best": [0.9, 0.95, 0.85, 0.9],
        "second": [0.5, 0.65, 0.55, 0.6],
        "third": [0.55, 0.5, 0.6, 0.6],
        "last": [0.1, 0.15, 0.1, 0.1],
    }
    second, third = (np.array([learners[name]]) for name in ("second", "third"))
    assert not paired_difference(second, third, 20).decided
    cells = [make_cell(learner=name, accuracies=of) for name, of in learners.items()]
    board = build_board("desk", cells, [make_plan(learner=name) for name in reversed(learners)])
    assert ranks(board) == {
        "best": (1, 1, 1),
        "second": (2, 2, 3),
        "third": (3, 2, 3),
        "last": (4, 4, 4),
    }
    assert [row["learner"] for row in board.rows] == list(learners)


def test_equal_means_share_a_rank_and_failures_have_none() -> None:
    cells = [
        make_cell(learner="a"),
        make_cell(learner="b"),
        make_cell(learner="c", status="timeout"),
    ]
    board = build_board("desk", cells, [make_plan(learner=name) for name in "abcd"])
    assert ranks(board) == {
        "a": (1, 1, 2),
        "b": (1, 1, 2),
        "c": (None, None, None),
        "d": (None, None, None),
    }


def gap_board(**unseen: Any) -> Board:
    cells = [
        make_cell("home", "vsml", 0, HIGH, relation="same_tasks"),
        make_cell("home", "sgd", 0, LOW, relation="same_tasks"),
        make_cell("held-out", "vsml", 0, LOW, **unseen),
    ]
    return build_board("desk", cells, [cell.plan for cell in cells])


def test_the_gap_is_to_the_same_learners_own_tasks() -> None:
    board = gap_board()
    row = only_row(board, split="held-out")
    assert row["gap"] == pytest.approx(0.5)
    assert row["gap_low"] is not None and row["gap_high"] is not None
    expected = generalisation_gap(np.array([HIGH]), np.array([LOW]), 20)
    assert (row["gap_low"], row["gap_high"]) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )
    assert only_row(board, split="home", learner="vsml")["gap"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"data_hashes": {"meta_train/digits": "another", "meta_test/digits": "d2"}},
        {"device": "other", "processor": "cuda"},
        {"train": dataclasses.replace(TRAIN, size=8)},
    ],
)
def test_no_gap_to_tasks_of_another_meta_training(other: dict[str, Any]) -> None:
    assert only_row(gap_board(**other), split="held-out")["gap"] is None


def test_no_gap_to_other_seeds() -> None:
    cells = [
        make_cell("home", seed=0, relation="same_tasks"),
        make_cell("held-out", seed=0),
        make_cell("held-out", seed=1),
    ]
    board = build_board("desk", cells, [cell.plan for cell in cells])
    assert only_row(board, split="held-out")["gap"] is None


def test_the_gap_is_over_as_many_steps_as_both_have() -> None:
    home = np.zeros((2, 40), bool)
    home[:, :10] = True
    unseen = np.zeros((2, 20), bool)
    cells = [
        make_cell("home", accuracies=home, relation="same_tasks"),
        make_cell("held-out", accuracies=unseen),
    ]
    plans = [make_plan("home", relation="same_tasks"), make_plan("held-out")]
    row = only_row(build_board("desk", cells, plans), split="held-out")
    assert row["gap"] == 0.5


def changed(**given: Any) -> Any:
    """The row of a split with permuted labels beside the plain one."""
    board = board_of(
        make_cell("plain", accuracies=HIGH),
        make_cell("permuted", accuracies=LOW, unchanged="plain", **given),
    )
    assert only_row(board, split="plain")["change"] is None
    return only_row(board, split="permuted")


def test_the_difference_to_plain_is_paired_where_the_lifetimes_are_the_same() -> None:
    high, low = np.array([HIGH]), np.array([LOW])
    for row, expected in (
        (changed(), paired_change(low, high, 20)),
        (changed(seeds={"meta_test": [7, 8, 9, 10]}), generalisation_gap(low, high, 20)),
    ):
        ends = (row["change_low"], row["change_high"])
        assert row["change"] == -0.5
        assert ends == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_difference_to_plain_of_another_kind_of_device() -> None:
    assert changed(device="G", processor="cuda")["change"] is None
