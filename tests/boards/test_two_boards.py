from __future__ import annotations

import json
from typing import Any

import pytest

from tests.boards.factory import make_cell
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.formats import to_json
from vsml_bench.boards.two_boards import Change, compare_boards, describe
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell


def board_of(*cells: Cell) -> Board:
    plans = {cell.plan.place: cell.plan for cell in cells}
    return build_board("desk", cells, list(plans.values()))


def published(board: Board) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(to_json(board))
    return document


def test_a_board_equals_itself() -> None:
    board = board_of(make_cell(), make_cell(learner="sgd"))
    found = compare_boards(published(board), published(board))
    assert found.same_hash
    assert found.compared == 2 and found.largest is not None and found.largest.difference == 0
    assert (found.only_in_ours, found.only_in_published, found.not_run) == ((), (), ())
    assert "the same scores throughout" in describe(found)


def test_the_largest_difference_and_where() -> None:
    ours = board_of(
        make_cell(accuracies=[0.5, 0.5]), make_cell(learner="sgd", accuracies=[0.4, 0.4])
    )
    theirs = board_of(
        make_cell(accuracies=[0.55, 0.55]), make_cell(learner="sgd", accuracies=[0.2, 0.2])
    )
    found = compare_boards(published(ours), published(theirs))
    assert found.largest == Change("held-out", "sgd", 0.4, 0.2, apart=False)
    assert not found.same_hash
    assert "of 2 rows: 20 percentage points (sgd on held-out)" in describe(found)


def test_equal_means_of_other_code_are_called_equal_means() -> None:
    ours = board_of(make_cell())
    found = compare_boards(published(ours), {**published(ours), "board_hash": "other"})
    assert "equal means in all 1 rows" in describe(found)


def test_rows_on_one_side_only_and_cells_that_could_not_be_run() -> None:
    reason = "fashion_mnist is not here"
    ours = board_of(
        make_cell(learner="mine"),
        make_cell("fashion", "vsml", status="unavailable", reason=reason),
        make_cell("fashion", "sgd", status="crashed", reason="boom"),
    )
    theirs = board_of(make_cell("fashion", "vsml"), make_cell("fashion", "old"))
    found = compare_boards(published(ours), published(theirs))
    assert (found.compared, found.largest) == (0, None)
    assert found.only_in_ours == (("held-out", "mine"),)
    assert found.only_in_published == (("fashion", "old"),)
    assert {(n.split, n.learner, n.status) for n in found.not_run} == {
        ("fashion", "vsml", "unavailable"),
        ("fashion", "sgd", "crashed"),
    }
    text = describe(found)
    assert f"not run: vsml on fashion: unavailable: {reason}" in text
    assert "only here: mine on held-out" in text
    assert "only published: old on fashion" in text
    assert "no row has a score on both boards" in text


def test_what_failed_there_and_works_here_is_only_here() -> None:
    found = compare_boards(
        published(board_of(make_cell())), published(board_of(make_cell(status="timeout")))
    )
    assert found.only_in_ours == (("held-out", "vsml"),)
    assert found.only_in_published == ()


def largest(ours: Board, theirs: Board) -> float:
    found = compare_boards(published(ours), published(theirs)).largest
    assert found is not None
    return found.difference


def test_rows_of_the_same_device_are_compared() -> None:
    theirs = board_of(
        make_cell(accuracies=[0.2, 0.2], device="CPU"),
        make_cell(accuracies=[0.8, 0.8], device="GPU", processor="cuda"),
    )
    on_gpu = board_of(make_cell(accuracies=[0.8, 0.8], device="GPU", processor="cuda"))
    assert largest(on_gpu, theirs) == 0.0
    for name in ("CPU", "a CPU of another model"):
        on_cpu = board_of(make_cell(accuracies=[0.2, 0.2], device=name))
        assert largest(on_cpu, theirs) == 0.0
    on_another = board_of(make_cell(accuracies=[0.8, 0.8], device="new", processor="cuda"))
    assert compare_boards(published(on_another), published(theirs)).compared == 1


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"rows": 3},
        {"rows": [{"split": "a"}]},
        {"rows": [[]]},
        {"rows": [{"split": "a", "learner": "b", "status": "ok", "mean": "0.5"}]},
        {"rows": [{"split": "a", "learner": "b", "status": "ok", "mean": float("nan")}]},
        [],
    ],
)
def test_what_is_no_board_is_refused(broken: Any) -> None:
    with pytest.raises(VsmlBenchError, match="the published board"):
        compare_boards(published(board_of(make_cell())), broken)


def test_boards_of_different_suites_are_not_compared() -> None:
    ours = board_of(make_cell())
    with pytest.raises(VsmlBenchError, match="suite 'desk' cannot be compared with one of 'paper'"):
        compare_boards(published(ours), {**published(ours), "suite": "paper"})


def test_what_was_not_run_for_one_reason_stands_in_one_line() -> None:
    def row(learner: str) -> dict[str, Any]:
        return {"split": "away", "learner": learner, "status": "unavailable", "reason": "no data"}

    ours = {"suite": "s", "board_hash": "1", "rows": [{**row(of), "mean": None} for of in "ab"]}
    assert "not run: a, b on away: unavailable (no data)" in describe(compare_boards(ours, ours))
