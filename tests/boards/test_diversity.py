"""Accuracy by the number of meta-train tasks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.boards.factory import make_plan, run
from tests.boards.test_page import Reader
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.diversity import diversity
from vsml_bench.boards.page.page import to_html
from vsml_bench.sides import TaskDistribution

SEEN, NEW = "same_tasks", "unseen_tasks"


def board(*numbers: int, size: int = 28) -> Board:
    """One learner on sides of so many tasks: right every time on its own tasks, and on every
    second example of new ones. The last side has images of `size`."""
    cells = []
    for index, number in enumerate(numbers):
        own = size if index == len(numbers) - 1 else 28
        side = TaskDistribution(("digits",), "train", size=own, diversity=number)
        other = TaskDistribution(("digits",), "test", size=own, diversity=number)
        for relation, right in ((SEEN, 1), (NEW, 2)):
            name = f"{number}-{relation}"
            plan = make_plan(name, "one", relation=relation, train=side, test=other)
            correct = np.tile(np.arange(20) % right == 0, (3, 1))
            cells.append(run(plan, correct))
    return build_board("diversity", cells, [cell.plan for cell in cells])


def test_points_by_learner_relation_and_number_without_a_limit_last() -> None:
    points = diversity(board(0, 16, 1), ["one"])
    assert [(p.relation, p.tasks) for p in points] == [
        *((SEEN, 1), (SEEN, 16), (SEEN, 0)),
        *((NEW, 1), (NEW, 16), (NEW, 0)),
    ]
    assert [p.accuracy for p in points] == [1.0] * 3 + [0.5] * 3
    assert all(p.low <= p.accuracy <= p.high for p in points)


@pytest.mark.parametrize("of", [board(1, 16), board(1, 16, 0, size=14)])
def test_less_than_three_numbers_of_tasks_on_one_kind_of_side_are_no_curve(of: Board) -> None:
    assert diversity(of, ["one"]) == []


def test_the_page_draws_the_curves() -> None:
    page = to_html(board(1, 16, 0))
    assert 'data-picture="diversity"' in page
    texts = " ".join(Reader(page).texts)
    assert "no limit" in texts and "When does memorising become learning?" in texts
    assert 'data-picture="diversity"' not in to_html(board(1, 16))
