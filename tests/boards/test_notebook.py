"""The board as a frame, from cells made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tests.boards.factory import make_cell
from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import to_frame
from vsml_bench.boards.notebook import OVERALL, to_whole_frame


def test_it_has_the_row_the_learner_and_the_cost() -> None:
    seconds = {"meta_test": 3.0, "meta_train": 7.0}
    cells = [
        make_cell("home", "a", accuracies=[0.8, 0.8, 0.85], seconds=seconds, state_floats=12),
        make_cell("away", "a", accuracies=[0.6, 0.6, 0.65]),
        make_cell("home", "b", accuracies=[0.2, 0.2, 0.25], recipe=None),
        make_cell("away", "b", status="crashed", recipe=None),
        make_cell("home", "c", status="timeout"),
        make_cell("away", "c", status="timeout"),
    ]
    board = build_board("desk", cells, [cell.plan for cell in cells])
    frame, plain = to_whole_frame(board), to_frame(board)
    assert frame[plain.columns].equals(plain) and not frame.columns.duplicated().any()
    records = frame.to_dict("records")
    rows: dict[Any, Any] = {(record["learner"], record["split"]): record for record in records}
    home, away = rows["a", "home"], rows["a", "away"]
    assert (
        home["all_splits"] == away["all_splits"] == round((0.8 * 2 + 0.85 + 0.6 * 2 + 0.65) / 6, 9)
    )
    assert home["all_splits_low"] < home["all_splits"] < home["all_splits_high"]
    assert (home["place"], home["place_low"], home["place_high"], home["group"]) == (1, 1, 1, 1)
    assert (rows["b", "away"]["place"], rows["b", "away"]["group"]) == (2, 2)
    assert (home["meta_train_seconds"], home["state_floats"]) == (7.0, 12)
    assert home["seconds_per_1000"] == 1000 * 3.0 / (3 * 20)
    assert home["meta_train_examples"] == 10 * 20 * 16
    assert rows["b", "home"]["meta_train_examples"] == 0
    assert pd.isna(rows["b", "away"]["seconds_per_1000"])
    nothing = {name for name in (*OVERALL, "seconds_per_1000") if pd.isna(rows["c", "home"][name])}
    assert nothing == {*OVERALL, "seconds_per_1000"} - {"mean_rank"}


def test_an_empty_board_has_all_columns() -> None:
    frame = to_whole_frame(build_board("desk", [], []))
    assert len(frame) == 0 and {*OVERALL, "seconds_per_1000", "mean"} <= set(frame.columns)
