"""Which cells count, and what a group of them says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.boards.factory import TEST, make_cell, make_plan, only_row, run
from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import to_json, to_markdown
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cells, save_cell

SEEDS = (0, 1, 2)
PLANS = [
    make_plan(s, learner, k)
    for s in ("home", "held-out")
    for learner in ("vsml", "sgd")
    for k in SEEDS
]


def test_one_failed_seed_takes_the_mean_away_and_says_why() -> None:
    cells = [
        make_cell(seed=0),
        make_cell(seed=1, status="diverged", reason="the loss is not finite from step 7 on"),
        make_cell(seed=2),
    ]
    row = build_board("desk", cells, [make_plan(seed=k) for k in SEEDS]).rows[0]
    assert (row["mean"], row["status"], row["seeds_ok"], row["seeds_planned"]) == (
        None,
        "diverged",
        2,
        3,
    )
    assert row["reason"] == "seed 1: diverged: the loss is not finite from step 7 on"


def test_a_row_has_the_worst_status() -> None:
    cells = [
        make_cell(seed=0, status="unavailable"),
        make_cell(seed=1, status="crashed"),
        make_cell(seed=2),
    ]
    row = build_board("desk", cells, [make_plan(seed=k) for k in range(4)]).rows[0]
    assert row["status"] == "crashed"
    assert row["reason"] == (
        "seed 0: unavailable: it went wrong; seed 1: crashed: it went wrong; seed 3: not run"
    )


def test_nothing_run_yet_is_shown_as_missing() -> None:
    board = build_board("desk", [], PLANS)
    assert [row["status"] for row in board.rows] == ["missing"] * 4
    assert {row["reason"] for row in board.rows} == {"seed 0, 1, 2: not run"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": 2}, "learner.version"),
        ({"recipe": None}, "meta_training.recipe"),
        ({"steps": 30}, "protocol.numbers.steps"),
        ({"stream": False}, "protocol.name, protocol.numbers.steps"),
        (
            {"test": dataclasses.replace(TEST, size=8), "relation": "unseen_shape"},
            "meta_test.size, relation",
        ),
    ],
)
def test_a_stale_cell_is_listed_with_what_differs(changed: dict[str, Any], reason: str) -> None:
    old = make_cell(**changed)
    board = build_board("desk", [old], [make_plan()])
    assert board.rows[0]["status"] == "missing"
    (stale,) = board.stale
    assert stale.key == old.key
    prefix, parts = stale.reason.split(": ")
    assert prefix == "different from today's"
    assert set(reason.split(", ")) <= set(parts.split(", "))


def test_a_cell_counts_by_the_identity_that_it_was_run_under() -> None:
    """Not by what its plan would be today: a default may have changed since."""
    plan = make_plan()
    old = dataclasses.replace(run(plan), identity={**plan.identity(), "lifetimes": 4})
    board = build_board("desk", [old], [plan])
    assert board.rows[0]["status"] == "missing"
    assert [s.reason for s in board.stale] == ["different from today's: lifetimes"]


def test_a_cell_that_is_planned_no_more_is_stale() -> None:
    board = build_board("desk", [make_cell(), make_cell(learner="old")], [make_plan()])
    assert [(s.learner, s.reason) for s in board.stale] == [
        ("old", "today's plan has no such cell")
    ]
    assert len(board.rows) == 1


def test_another_suites_cell_counts_where_the_key_is_equal_and_is_ignored_else() -> None:
    same = make_cell(suite="paper")
    other = make_cell(suite="paper", version=2)
    board = build_board("desk", [same, other], [make_plan()])
    assert (board.rows[0]["status"], board.stale) == ("ok", ())


def test_of_two_records_the_ok_one_counts_then_the_newer() -> None:
    failed = make_cell(status="timeout", created="2025-03-03")
    older = make_cell(accuracies=[0.1, 0.1, 0.1], created="2025-01-01")
    newer = make_cell(accuracies=[0.2, 0.2, 0.2], created="2025-02-02")
    board = build_board("desk", [failed, newer, older, newer], [make_plan()])
    assert board.rows[0]["mean"] == 0.2
    assert {s.reason for s in board.stale} == {"another record of the same cell counts"}


def test_of_two_records_of_one_day_the_same_one_counts_in_any_order() -> None:
    records = [make_cell(accuracies=[share] * 3) for share in (0.1, 0.2, 0.3, 0.4)]
    forwards = build_board("desk", records, [make_plan()])
    assert build_board("desk", records[::-1], [make_plan()]) == forwards
    assert len(forwards.rows) == 1


GPU: dict[str, Any] = {"device": "GPU", "processor": "cuda"}


def test_kinds_of_device_never_mix() -> None:
    cells = [make_cell(seed=k, device="CPU") for k in SEEDS]
    cells += [make_cell(seed=0, accuracies=[0.9, 0.9, 0.9], **GPU)]
    board = build_board("desk", cells, [make_plan(seed=k) for k in SEEDS])
    assert len(board.rows) == 2
    complete, partial = only_row(board, device="CPU"), only_row(board, device="GPU")
    assert (complete["mean"], complete["seeds"]) == (0.6, 3)
    assert (partial["mean"], partial["status"], partial["seeds_ok"]) == (0.9, "partial", 1)


def test_models_of_gpu_and_precisions_are_kinds_of_their_own() -> None:
    cells = [
        make_cell(seed=0, device="A"),
        make_cell(seed=1, device="B"),
        make_cell(seed=2, device="A", precision="bfloat16"),
        make_cell(seed=0, device="G", processor="cuda"),
        make_cell(seed=1, device="H", processor="cuda"),
    ]
    board = build_board("desk", cells, [make_plan(seed=k) for k in SEEDS])
    found = {(row["kind"], row["device"], row["seeds"]) for row in board.rows}
    assert found == {
        ("cpu", "A / B", 2),
        ("cpu, bfloat16", "A, bfloat16", 1),
        ("G", "G", 1),
        ("H", "H", 1),
    }


def test_of_two_records_from_two_cpus_one_counts_and_the_other_is_listed() -> None:
    cells = [
        make_cell(device="A", accuracies=[0.2, 0.2, 0.2], created="2025-02-02"),
        make_cell(device="B", accuracies=[0.3, 0.3, 0.3], created="2025-01-01"),
    ]
    board = build_board("desk", cells, [make_plan()])
    (row,) = board.rows
    assert (row["mean"], row["device"]) == (0.2, "A")
    assert [s.reason for s in board.stale] == ["another record of the same cell counts"]


def test_a_failure_on_another_device_is_shown_where_the_score_is_missing() -> None:
    cells = [make_cell(seed=0, device="CPU"), make_cell(seed=1, status="crashed", **GPU)]
    row = only_row(build_board("desk", cells, [make_plan(seed=k) for k in (0, 1)]))
    assert (row["device"], row["status"]) == ("CPU", "crashed")
    assert row["reason"] == "seed 1: crashed on GPU: it went wrong"


def test_a_failure_beside_a_complete_row_is_shown_too() -> None:
    cells = [make_cell(device="CPU"), make_cell(status="crashed", **GPU)]
    board = build_board("desk", cells, [make_plan()])
    assert [(r["device"], r["status"]) for r in board.rows] == [("CPU", "ok"), ("GPU", "crashed")]


def test_a_plan_with_a_cell_twice_is_refused() -> None:
    with pytest.raises(VsmlBenchError, match="twice"):
        build_board("desk", [], [make_plan(), make_plan()])


def test_a_tampered_cell_is_listed_and_its_row_is_missing(tmp_path: Any) -> None:
    path = save_cell(tmp_path, make_cell())
    path.write_bytes(path.read_bytes().replace(b'"threads": 1', b'"threads": 2'))
    cells, problems = load_cells(tmp_path)
    board = build_board("desk", cells, [make_plan()], problems)
    assert board.rows[0]["status"] == "missing"
    assert [problem.file for problem in board.problems] == [path.name]
    assert path.name in to_markdown(board)
    assert path.name in to_json(board)


def test_external_data_is_a_note_and_changes_no_key(tmp_path: Any) -> None:
    plan = make_plan()
    card = dataclasses.replace(plan.job.learner, external_data="ImageNet-1k | <b>")
    told = dataclasses.replace(plan, job=dataclasses.replace(plan.job, learner=card))
    assert told.key == plan.key
    path = save_cell(tmp_path, run(told))
    assert load_cells(tmp_path)[0] == [run(told)] and '"external_data"' in path.read_text()
    assert '"external_data"' not in save_cell(tmp_path, run(plan)).read_text()
    row = only_row(build_board("desk", [run(plan)], [told]))  # said after the run
    assert row["note"] == "external data, says its author: ImageNet-1k | <b>"
    assert only_row(build_board("desk", [run(plan)], [plan]))["note"] == ""
