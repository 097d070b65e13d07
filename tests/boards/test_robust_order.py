"""Whether neighbours change places with what is averaged, by hand."""

from __future__ import annotations

import numpy as np

from tests.boards.factory import make_cell
from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import to_json, to_markdown
from vsml_bench.boards.robust_order import HEADERS, TITLE, neighbours


def test_by_hand() -> None:
    """Means 0.6, 0.5, 0.4. Without the first split A has 0.45 and B 0.6; medians are 0.5 and 0.6;
    from lowest to highest A has 1, 2/3, 0, B 0, 1, 1/2 and C 1/9, 0, 1."""
    table = np.array([[0.9, 0.5, 0.4], [0.0, 0.7, 0.6], [0.1, 0.1, 0.8]])
    table[1] += [0.3, -0.1, 0.0]
    # A 0.9, 0.5, 0.4; B 0.3, 0.6, 0.6; C 0.1, 0.1, 0.8
    names, places = ["A", "B", "C"], np.array([-2.0, -2.0, -2.0])
    assert neighbours(names, table, places) == [
        ("A", "B", "1 of 3", "changed", "equal", "kept"),
        ("B", "C", "0 of 3", "kept", "equal", "kept"),
        (
            "all neighbours",
            "",
            "1 of 6 changed",
            "1 of 2 changed",
            "0 of 2 changed",
            "0 of 2 changed",
        ),
    ]


def test_boards_of_several_splits_have_it() -> None:
    means = {"A": (0.9, 0.5, 0.4), "B": (0.3, 0.6, 0.6), "C": (0.1, 0.1, 0.8)}
    cells = [
        make_cell(split, learner, accuracies=[mean] * 3)
        for learner, of in means.items()
        for split, mean in zip(("x", "y", "z"), of, strict=True)
    ]
    board = build_board("desk", cells, [cell.plan for cell in cells])
    (section,) = board.sections
    assert (section.title, section.headers) == (TITLE, HEADERS)
    # Ranks: A 1, 2, 3; B 2, 1, 2; C 3, 3, 1.
    assert section.rows[0] == ("A", "B", "1 of 3", "changed", "changed", "kept")
    assert section.rows[1] == ("B", "C", "0 of 3", "kept", "kept", "kept")
    assert TITLE in to_markdown(board) and TITLE in to_json(board)
    alone = [cell for cell in cells if cell.plan.split.name == "x"]
    assert build_board("desk", alone, [cell.plan for cell in alone]).sections == ()
