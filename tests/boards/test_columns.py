"""Columns against numbers worked out by hand, and columns of other packages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boards.factory import make_cell
from tests.harness import install
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.columns import COLUMNS
from vsml_bench.boards.formats import to_csv, to_json, to_markdown
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell

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
        "seed_variance early final gap gap_low gap_high rank rank_low rank_high seeds_ok "
        "seeds_planned family meta_parameters device note reason keys"
    )
    assert list(row) == names.split()
    header = to_csv(board_of(make_cell())).splitlines()[0]
    assert header.split(",") == names.split()[:-1]


COLUMN = """
from vsml_bench.boards.columns import Column
from vsml_bench.boards.statistics import estimate, lifetime_scores


def worst(group, finished):
    return estimate(lifetime_scores(group.correct[..., :10]), group.has_meta_parameters)


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
    cells = [make_cell(accuracies=[0.9, 0.9]), make_cell(learner="sgd", status="crashed")]
    before = board_of(*cells)
    column("worst = WORST\nseconds = SECONDS")
    board = board_of(*cells)
    assert board.board_hash == before.board_hash
    rows = json.loads(to_json(board))["rows"]
    assert (rows[0]["worst"], rows[0]["worst_low"], rows[0]["worst_high"]) == (0.8, 0.8, 0.8)
    assert [row["seconds"] for row in rows] == [1.23456, None]
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert [line["worst_high"] for line in lines] == ["0.8", ""]
    text = to_markdown(board)
    assert "## first 10 (%)" in text and "| 80.0 ± 0.0 †" in text
    header = next(line for line in text.splitlines() if line.startswith("| rank"))
    assert [name.strip() for name in header.split("|")][-6:-1] == [
        "steps",
        "first 10",
        "95 % interval of the first 10",
        "time (s)",
        "device",
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
        ("odd", "COLUMN", "defines no column 'COLUMN'"),
        ("odd", "worst", "it must be a Column"),
    ],
)
def test_a_column_that_does_not_keep_its_word(
    column: Callable[[str], None], name: str, which: str, message: str
) -> None:
    column(f"{name} = {which}")
    with pytest.raises(VsmlBenchError, match=message):
        board_of(make_cell())


def test_a_column_may_have_nothing_to_say(column: Callable[[str], None]) -> None:
    column("none = NONE")
    (row,) = board_of(make_cell()).rows
    assert (row["none"], row["none_low"], row["none_high"]) == (None, None, None)


def test_titles_of_shipped_columns_are_distinct_where_they_are_shown() -> None:
    places = [column.details for column in COLUMNS.values() if column.details]
    assert len(places) == len(set(places))
    assert all(column.title for column in COLUMNS.values() if column.details)
