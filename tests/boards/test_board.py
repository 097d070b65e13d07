"""Boards as wholes: every planned cell, the hash, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boards.factory import make_cell, make_plan, only_row
from tests.harness import install
from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import to_csv, to_json, to_markdown
from vsml_bench.boards.statistics import estimate
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem

HIGH, LOW = [0.8, 0.85, 0.9, 0.85], [0.3, 0.35, 0.4, 0.35]
SPLITS, LEARNERS, SEEDS = ("home", "held-out"), ("vsml", "sgd"), (0, 1, 2)
DEVICES: tuple[dict[str, Any], ...] = (
    {"device": "A"},
    {"device": "B"},
    {"device": "G", "processor": "cuda"},
)
PLANS = [make_plan(s, learner, k) for s in SPLITS for learner in LEARNERS for k in SEEDS]


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
                    **draw(st.sampled_from(DEVICES)),
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
def test_every_planned_cell_has_a_row_and_no_mean_leaves_out_a_failure(cells: list[Cell]) -> None:
    board = build_board("desk", cells, PLANS)
    planned_keys = {p.place[:2]: set() for p in PLANS}  # type: ignore[var-annotated]
    for p in PLANS:
        planned_keys[p.place[:2]].add(p.key)
    assert {(row["split"], row["learner"]) for row in board.rows} == set(planned_keys)
    for row in board.rows:
        assert set(row["keys"]) == planned_keys[row["split"], row["learner"]]
        assert row["seeds_planned"] == len(SEEDS)
        assert (row["status"] == "ok") == (row["seeds_ok"] == len(SEEDS)) == (row["reason"] == "")
        scored = row["status"] in ("ok", "partial")
        assert scored == (row["mean"] is not None) == (row["seeds_ok"] == row["seeds"] > 0)
        assert (
            (row["ci_low"] is None)
            == (row["rank"] is None)
            == (row["early"] is None)
            == (not scored)
        )
        failed = row["status"] not in ("ok", "partial", "missing")
        assert failed == any(cell.status != "ok" for cell in row.group.cells)


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
            shown = any(cell.provenance.device in row["device"].split(" / ") for row in rows)
            assert shown or (*cell.plan.place, cell.key) in stale


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
    expected = estimate(np.array(learners["vsml"]), True, 20)
    assert row["mean"] == pytest.approx(expected.mean, abs=1e-9)
    assert row["ci_low"] == pytest.approx(expected.low, abs=1e-9)
    assert row["ci_high"] == pytest.approx(expected.high, abs=1e-9)
    assert (row["seeds"], row["lifetimes"], row["steps"], row["status"]) == (2, 4, 20, "ok")
    assert (row["metric"], row["relation"]) == ("cumulative_accuracy", "unseen_tasks")
    assert row["seed_variance"] == "measured"
    assert row["meta_parameters"] == 2384


def test_a_row_of_zeros_is_a_row() -> None:
    row = build_board("desk", [make_cell(accuracies=[0.0, 0.0])], [make_plan()]).rows[0]
    assert (row["mean"], row["ci_low"], row["status"]) == (0.0, 0.0, "ok")
    assert row["ci_high"] == round(1.959963984540054**2 / (40 + 1.959963984540054**2), 9)
    assert '"mean": 0.0' in to_json(
        build_board("desk", [make_cell(accuracies=[0.0, 0.0])], [make_plan()])
    )


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
