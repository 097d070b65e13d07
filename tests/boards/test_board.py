from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boards.factory import TEST, TRAIN, make_cell, make_plan, run
from tests.harness import install
from vsml_bench.boards.board import Board, Row, build_board
from vsml_bench.boards.formats import to_csv, to_json, to_markdown
from vsml_bench.boards.groups import WORST_FIRST
from vsml_bench.boards.statistics import estimate, paired_difference
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem, load_cells, save_cell

HIGH, LOW = [0.8, 0.85, 0.9, 0.85], [0.3, 0.35, 0.4, 0.35]
SPLITS, LEARNERS, SEEDS = ("home", "held-out"), ("vsml", "sgd"), (0, 1, 2)
PLANS = [make_plan(s, learner, k) for s in SPLITS for learner in LEARNERS for k in SEEDS]


def only_row(board: Board, **fields: Any) -> Row:
    rows = [r for r in board.rows if all(r[k] == v for k, v in fields.items())]
    assert len(rows) == 1, rows
    return rows[0]


@st.composite
def cell_sets(draw: st.DrawFn) -> list[Cell]:
    """For each planned cell none, one or two records, of any status, from today's code or not."""
    cells = []
    for planned in PLANS:
        for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2)))):
            hits = draw(st.lists(st.integers(0, 20), min_size=3, max_size=3))
            cells.append(
                make_cell(
                    *planned.place,
                    [hit / 20 for hit in hits],
                    status=draw(st.sampled_from(("ok", "ok", "ok", "diverged", "unavailable"))),
                    version=draw(st.sampled_from((1, 1, 2))),
                    device=draw(st.sampled_from(("A", "A", "B"))),
                    created=draw(st.sampled_from(("2025-01-01", "2025-01-02"))),
                    seconds={"meta_test": draw(st.sampled_from((1.0, 2.0)))},
                )
            )
    return cells


@settings(deadline=None, max_examples=60)
@given(cell_sets(), st.randoms(use_true_random=False))
def test_same_cells_same_bytes_in_any_order(cells: list[Cell], random: Any) -> None:
    board = build_board("desk", cells, PLANS)
    random.shuffle(cells)
    shuffled = build_board("desk", cells, PLANS)
    assert shuffled == board
    for render in (to_json, to_csv, to_markdown):
        assert render(shuffled) == render(board)


@settings(deadline=None, max_examples=60)
@given(cell_sets())
def test_every_planned_cell_has_a_row_and_no_mean_is_over_fewer(cells: list[Cell]) -> None:
    board = build_board("desk", cells, PLANS)
    planned_keys = {p.place[:2]: set() for p in PLANS}  # type: ignore[var-annotated]
    for p in PLANS:
        planned_keys[p.place[:2]].add(p.key)
    assert {(row["split"], row["learner"]) for row in board.rows} == set(planned_keys)
    for row in board.rows:
        assert set(row["keys"]) == planned_keys[row["split"], row["learner"]]
        complete = row["seeds_ok"] == row["seeds_planned"] == len(SEEDS)
        assert (row["status"] == "ok") == complete == (row["mean"] is not None)
        assert (
            (row["ci_low"] is None)
            == (row["rank"] is None)
            == (row["early"] is None)
            == (not complete)
        )
        assert bool(row["reason"]) == (not complete)
        assert row["seeds"] == (len(SEEDS) if complete else 0)


@settings(deadline=None, max_examples=60)
@given(cell_sets())
def test_no_record_vanishes(cells: list[Cell]) -> None:
    """What is on the board: each distinct record counts in a row or is listed as stale."""
    board = build_board("desk", cells, PLANS)
    stale = {(s.split, s.learner, s.seed, s.key) for s in board.stale}
    today = {p.key for p in PLANS}
    for cell in cells:
        if cell.key not in today:
            assert (*cell.plan.place, cell.key) in stale
        elif cell.status == "ok":
            rows = [r for r in board.rows if (r["split"], r["learner"]) == cell.plan.place[:2]]
            assert cell.provenance.device in {row["device"] for row in rows}


def test_numbers_are_those_of_the_statistics() -> None:
    learners = {"vsml": (HIGH, [0.7, 0.8, 0.8, 0.9]), "sgd": (LOW, LOW)}
    cells = [
        make_cell("held-out", learner, seed, accuracies)
        for learner, both in learners.items()
        for seed, accuracies in enumerate(both)
    ]
    plans = [make_plan("held-out", learner, seed) for learner in learners for seed in (0, 1)]
    board = build_board("desk", cells, plans)
    row = only_row(board, learner="vsml")
    expected = estimate(np.array(learners["vsml"]), True)
    assert row["mean"] == pytest.approx(expected.mean, abs=1e-9)
    assert row["ci_low"] == pytest.approx(expected.low, abs=1e-9)
    assert row["ci_high"] == pytest.approx(expected.high, abs=1e-9)
    assert (row["seeds"], row["lifetimes"], row["steps"], row["status"]) == (2, 4, 20, "ok")
    assert (row["metric"], row["relation"]) == ("cumulative_accuracy", "unseen_tasks")
    assert row["seed_variance"] == "measured"
    assert row["meta_parameters"] == 2384


def test_early_and_final_accuracy() -> None:
    correct = np.zeros((2, 250), bool)
    correct[:, :50] = True  # half of the first 100
    correct[0, 175:] = True  # 75 of the last 100 in one of two lifetimes
    row = build_board("desk", [make_cell(accuracies=correct)], [make_plan()]).rows[0]
    assert (row["early"], row["final"], row["mean"]) == (0.5, 0.375, 0.35)


def test_a_row_of_zeros_is_a_row() -> None:
    row = build_board("desk", [make_cell(accuracies=[0.0, 0.0])], [make_plan()]).rows[0]
    assert (row["mean"], row["ci_low"], row["ci_high"], row["status"]) == (0.0, 0.0, 0.0, "ok")
    assert '"mean": 0.0' in to_json(
        build_board("desk", [make_cell(accuracies=[0.0, 0.0])], [make_plan()])
    )


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
    assert WORST_FIRST[-2:] == ("missing", "ok")


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


def test_devices_never_mix() -> None:
    cells = [make_cell(seed=k, device="CPU") for k in SEEDS]
    cells += [make_cell(seed=0, device="GPU", accuracies=[0.9, 0.9, 0.9])]
    board = build_board("desk", cells, [make_plan(seed=k) for k in SEEDS])
    assert len(board.rows) == 2
    complete, partial = only_row(board, device="CPU"), only_row(board, device="GPU")
    assert (complete["mean"], complete["seeds"]) == (0.6, 3)
    assert (partial["mean"], partial["status"], partial["seeds_ok"]) == (None, "missing", 1)


def test_a_failure_on_another_device_is_shown_where_the_score_is_missing() -> None:
    cells = [make_cell(seed=0, device="CPU"), make_cell(seed=1, status="crashed", device="GPU")]
    row = only_row(build_board("desk", cells, [make_plan(seed=k) for k in (0, 1)]))
    assert (row["device"], row["status"]) == ("CPU", "crashed")
    assert row["reason"] == "seed 1: crashed on GPU: it went wrong"


def test_a_failure_beside_a_complete_row_is_shown_too() -> None:
    cells = [make_cell(device="CPU"), make_cell(status="crashed", device="GPU")]
    board = build_board("desk", cells, [make_plan()])
    assert [(r["device"], r["status"]) for r in board.rows] == [("CPU", "ok"), ("GPU", "crashed")]


def test_the_hash_is_of_keys_and_outcomes_alone() -> None:
    def hash_of(cells: list[Cell], plan: Any = make_plan(), **given: Any) -> str:  # noqa: B008
        return build_board("desk", cells, [plan], **given).board_hash

    base = hash_of([make_cell()])
    unchanged = make_cell(
        seconds={"meta_test": 99.0},
        created="2030-01-01",
        device="other",
        git_commit="def",
        versions={},
        peak_memory_bytes=5,
        meta_parameters=7,
        note="a note",
    )
    assert hash_of([unchanged]) == base
    assert (
        hash_of([make_cell(), make_cell(version=2)], problems=[Problem("x.json", "torn")]) == base
    )
    ok = make_cell()
    assert ok.outcomes is not None
    other_loss = dataclasses.replace(ok.outcomes, loss=ok.outcomes.loss + 1)
    traced = dataclasses.replace(ok.outcomes, traces={"drift": np.zeros((3, 2))})
    changed = [
        hash_of([make_cell(accuracies=[0.5, 0.6, 0.75])]),
        hash_of([]),
        hash_of([make_cell(version=2)], make_plan(version=2)),
        hash_of([make_cell(status="timeout")]),
        hash_of([make_cell(status="crashed")]),
        hash_of([dataclasses.replace(ok, outcomes=other_loss)]),
        hash_of([dataclasses.replace(ok, outcomes=traced)]),
    ]
    assert len({base, *changed}) == 8


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
    assert not paired_difference(second, third).decided
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
    assert 0.4 < row["gap_low"] < 0.5 < row["gap_high"] < 0.6
    assert only_row(board, split="home", learner="vsml")["gap"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"data_hashes": {"meta_train/digits": "another", "meta_test/digits": "d2"}},
        {"device": "other"},
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


def test_notes_and_single_seeds_are_marked() -> None:
    cells = [make_cell(note="meta-trained at 8x8"), make_cell(learner="ridge", recipe=None)]
    board = build_board("desk", cells, [cell.plan for cell in cells])
    row = only_row(board, learner="vsml")
    assert (row["note"], row["seed_variance"]) == ("meta-trained at 8x8", "not measured")
    assert only_row(board, learner="ridge")["seed_variance"] == "not applicable"


def test_cells_of_one_split_on_other_lifetimes_are_refused() -> None:
    cells = [make_cell(learner="a"), make_cell(learner="b", seeds={"meta_test": [7, 8, 9]})]
    with pytest.raises(VsmlBenchError, match="not run on the same lifetimes"):
        build_board("desk", cells, [make_plan(learner="a"), make_plan(learner="b")])


def test_cells_of_one_split_on_other_data_are_refused() -> None:
    hashes = {"meta_train/digits": "whatever", "meta_test/digits": "d3"}
    cells = [make_cell(learner="a"), make_cell(learner="b", data_hashes=hashes)]
    with pytest.raises(VsmlBenchError, match="not run on the same meta-test data"):
        build_board("desk", cells, [make_plan(learner="a"), make_plan(learner="b")])


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


COUNTING = """
from vsml_bench.studies import Section
from vsml_bench.studies import Study

STUDY = Study(sections="counting_seeds:sections")

def sections(finished):
    rows = tuple((f.learner, len(f.cells), 0.5, None) for f in finished)
    return [Section("Seeds", "How many.", ("learner", "seeds", "half", "none"), rows)]
"""


def test_the_section_of_a_study_is_on_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(
        install(tmp_path, "counting_seeds", COUNTING, studies="counting = counting_seeds")
    )
    cells = [make_cell(seed=0), make_cell(seed=1), make_cell(learner="sgd", status="crashed")]
    plans = [cell.plan for cell in cells]
    board = build_board("desk", cells, plans, study="counting")
    assert [section.rows for section in board.sections] == [(("vsml", 2, 0.5, None),)]
    text = to_markdown(board)
    assert "## Seeds" in text and "| vsml      | 2       | 0.500" in text
    assert json.loads(to_json(board))["sections"][0]["rows"] == [["vsml", 2, 0.5, None]]
    without = build_board("desk", cells, plans)
    assert "sections" not in json.loads(to_json(without))
    assert without.board_hash == board.board_hash
