"""Where there are many splits, first tables have means by relation and every mean stands below."""

from __future__ import annotations

import pytest

from tests.boards.factory import make_plan, run
from tests.boards.test_formats import table
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.formats import to_latex, to_markdown
from vsml_bench.boards.overview import MOST, parts
from vsml_bench.boards.terminal import draw
from vsml_bench.sides import TaskDistribution

SEEN, UNSEEN = "unseen_tasks", "unseen_dataset"


def many(tests: int) -> Board:
    """Three meta-train sides by so many meta-test sets, the first of which each side has seen. The
    learner "partly" lacks the first side's scores, and "never" was not run."""
    train = {name: TaskDistribution((), "train", size=size) for size, name in enumerate("abc", 1)}
    test = {n: TaskDistribution((), "test", size=n + 9) for n in range(tests)}
    plans = [
        make_plan(
            f"s/{side}-to-{n}",
            name,
            relation=UNSEEN if n else SEEN,
            recipe=None,
            train=train[side],
            test=test[n],
        )
        for side in train
        for n in test
        for name in ("whole", "partly", "never")
    ]
    accuracies = {"whole": [0.4, 0.5, 0.6], "partly": [0.85, 0.9, 0.95]}
    cells = [
        run(plan, accuracies[plan.learner])
        for plan in plans
        if plan.learner == "whole" or (plan.learner == "partly" and "/a-" not in plan.split.name)
    ]
    return build_board("s", cells, plans)


def test_few_splits_stand_one_by_one() -> None:
    assert parts(many(2)) == [] and MOST < 9


def test_the_first_table_is_of_relations_and_lacking_never_pays() -> None:
    board = many(3)
    seen, unseen = parts(board)
    assert (seen.relation, seen.splits) == (SEEN, ("s/a-to-0", "s/b-to-0", "s/c-to-0"))
    assert (unseen.relation, len(unseen.splits)) == (UNSEEN, 6)
    of = {label: unseen.family.members[label] for label in ("whole", "partly")}
    assert of["whole"].mean.mean == pytest.approx(0.5) and of["whole"].lacking == 0
    assert of["partly"].mean.mean == pytest.approx(0.9 * 4 / 6) and of["partly"].lacking == 2
    text = to_markdown(board)
    header, _, *lines = table(text, "# Leaderboard: s")
    assert header[4:] == ["scored", "unseen_tasks (3 splits)", "unseen_dataset (6 splits)"]
    assert [(line[0], line[4]) for line in lines] == [("partly", "6 of 9"), ("whole", "9 of 9")]
    assert "60.0 ± " in lines[0][6] and "(4 of 6)" in lines[0][6]
    assert "50.0 ± " in lines[1][5] and " of " not in lines[1][5]
    assert text.count("never") == 1 and "\nNot run yet: never.\n" in text
    assert "* s/a-to-0, s/a-to-1, s/a-to-2: not run (partly)\n" in text


def test_below_is_each_meta_train_side_by_each_meta_test_set() -> None:
    header, _, *lines = table(to_markdown(many(3)), "### partly")
    assert header == ["meta-trained on", "0", "1", "2"]
    assert lines == [["a", "", "", ""], ["b", *["90.0"] * 3], ["c", *["90.0"] * 3]]


def test_where_there_is_no_grid_splits_stand_by_learners() -> None:
    plans = [make_plan(f"split {n}", name, recipe=None) for n in range(9) for name in "xy"]
    board = build_board("s", [run(plan) for plan in plans[:-1]], plans)
    header, _, *lines = table(to_markdown(board), "## Mean (%), split by split")
    assert header[0] == "split" and sorted(header[1:]) == ["x", "y"] and len(lines) == 9
    assert lines[8][1 + header[1:].index("y")] == "missing"


def test_the_same_in_latex_and_on_a_terminal() -> None:
    board = many(3)
    head = next(line for line in to_latex(board).splitlines() if line.startswith("learner"))
    assert head == r"learner & place & all splits & unseen\_tasks & unseen\_dataset \\"
    lines = draw(board, 100).splitlines()
    assert any("3 splits" in line and "6 splits" in line for line in lines)
    (whole,) = (line for line in lines if line.startswith("whole") and "±" in line)
    assert whole.count("50.0 ± ") == 3
