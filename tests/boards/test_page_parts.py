"""What the page adds to a board: trainings, figures of others, grids, speed, costs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.boards.factory import make_plan, run
from tests.boards.test_page import ACCURACIES, Reader, board_of, data_of
from vsml_bench import api, paths
from vsml_bench.boards import statistics
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.costs import AXES
from vsml_bench.boards.grids import grid
from vsml_bench.boards.groups import groups_of
from vsml_bench.boards.page.heat_map import heat_map
from vsml_bench.boards.page.index import entry, to_index
from vsml_bench.boards.page.origins import origins
from vsml_bench.boards.page.page import to_html
from vsml_bench.boards.page.pictures import quality_and_cost, to_svg
from vsml_bench.boards.page.second_hand import second_hand
from vsml_bench.boards.page.speed import Speed, read_speed
from vsml_bench.boards.page.standings import standings
from vsml_bench.boards.page.trainings import trainings
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell, path_of, save_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.meta_training.checkpoint import load_artifact
from vsml_bench.meta_training.records import Record, find_records, read_record
from vsml_bench.sides import TaskDistribution

CHECKPOINTS = paths.results() / "checkpoints"


@pytest.fixture(scope="module")
def board() -> Board:
    return board_of(ACCURACIES)


@pytest.mark.parametrize("name", ["vsml--mnist5k--seed0--4d9dc61f.safetensors", "sgd-mlp"])
def test_a_record_says_what_the_whole_checkpoint_says(name: str) -> None:
    path = next(CHECKPOINTS.glob(f"{name}*"))
    record, whole = read_record(path), load_artifact(path)
    assert (record.sha256, record.document) == (whole.sha256, whole.document)


def test_a_damaged_record_is_one_sentence_and_costs_itself(tmp_path: Path) -> None:
    whole = next(CHECKPOINTS.glob("vsml--*")).read_bytes()
    for content in (b"", whole[:100], b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"):
        path = tmp_path / "torn.safetensors"
        path.write_bytes(content)
        with pytest.raises(VsmlBenchError, match=r"^torn\.safetensors is not a complete "):
            read_record(path)
    plan = make_plan()
    (tmp_path / f"{plan.job.name}.safetensors").write_bytes(whole[:100])
    assert find_records([plan.job, plan.job], [tmp_path]) == {}


def test_records_and_published_cells_of_a_board(tmp_path: Path) -> None:
    """From the folder of results, and from a copy that anybody could have written."""
    own = paths.results() / "desk" / "cells"
    (tmp_path / "cells").mkdir()
    for path in own.glob("mnist5k-same--vsml--seed0--*"):
        shutil.copy(path, tmp_path / "cells")
    copied = api.stored_board("desk", tmp_path, learners=["vsml"], splits=["mnist5k-same"])
    (cell,) = (cell for row in copied.rows for cell in row.group.cells)
    assert [*copied.badges] == [path_of(tmp_path, cell).name]
    (name,) = trainings(copied)
    assert name == cell.provenance.checkpoint
    history = trainings(copied)[name].history
    assert [entry["step"] for entry in history] == sorted(entry["step"] for entry in history)
    assert history[0]["validation_loss"] == pytest.approx(np.log(10), abs=1e-3)
    beside = api.stored_board("desk", learners=["vsml"], splits=["mnist5k-same"])
    assert len(beside.badges) == len(beside.rows[0].group.cells) > 1


@pytest.mark.parametrize(("status", "mean"), [("ok", 0.0), ("diverged", None)])
def test_what_one_has_run_oneself_is_shown_and_not_the_published(
    status: Any,
    mean: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever came out, on whatever CPU, however long ago."""
    (path,) = (paths.results() / "desk" / "cells").glob("mnist5k-same--1-nn--seed0--*")
    cell = load_cell(path)
    assert cell.outcomes is not None
    wrong = Outcomes(np.zeros_like(cell.correct), cell.outcomes.loss)
    own = dataclasses.replace(
        cell,
        status=status,
        reason="" if status == "ok" else "the loss is NaN",
        outcomes=wrong if status == "ok" else None,
        provenance=dataclasses.replace(cell.provenance, device="another CPU", created="2000-01-01"),
    )
    monkeypatch.chdir(tmp_path)
    save_cell(tmp_path / "runs/desk/cells", own)
    found = api.stored_board("desk", learners=["1-nn"], splits=["mnist5k-same"])
    (row,) = found.rows
    assert (row["status"], row["mean"]) == (status, mean) and not found.borrowed


def test_a_training_has_no_number_that_json_lacks(board: Board) -> None:
    document = {"history": [{"step": 1, "loss": float("nan"), "validation_loss": 0.123456789}]}
    cell = run(make_plan(), checkpoint="c0ffee")
    found = build_board("desk", [cell], [cell.plan])
    found = dataclasses.replace(found, records={"c0ffee": Record("c0ffee", document)})
    assert trainings(found)["c0ffee"].history == ({"step": 1.0, "validation_loss": 0.123457},)
    data = data_of(to_html(found))
    assert data["trainings"].keys() == {"c0ffee"} and data["training"] is not None
    assert data["cells"][0][0]["training"] == (
        "vsml-bench meta-train --suite desk --split held-out --learner vsml --seed 0 --out again"
    )
    assert data_of(to_html(board))["training"] is None, "no record, no curve"


def test_accuracy_at_example_100_is_of_the_examples_about_it() -> None:
    rng = np.random.default_rng(3)
    correct = rng.random((2, 4, 200)) < 0.6
    cells = [run(make_plan(seed=s, steps=200, lifetimes=4), correct[s]) for s in (0, 1)]
    (row,) = build_board("desk", cells, [cell.plan for cell in cells]).rows
    part = statistics.lifetime_scores(correct[:, :, 90:110])
    expected = statistics.estimate(part, True, 20)
    assert row["at_100"] == pytest.approx(correct[:, :, 90:110].mean())
    assert (row["at_100_low"], row["at_100_high"]) == pytest.approx((expected.low, expected.high))
    short = run(make_plan(steps=109), rng.random((3, 109)) < 0.5)
    episodes = run(make_plan(stream=False, steps=200), rng.random((3, 200)) < 0.5)
    for cell in (short, episodes):
        (row,) = build_board("desk", [cell], [cell.plan]).rows
        assert row["at_100"] is None


def beside(learner: str, **side: Any) -> float | None:
    test = TaskDistribution(**{"datasets": ("mnist",), "partition": "test", **side})
    (group,) = groups_of([run(make_plan(learner=learner, test=test))])
    return second_hand().beside(group)


def test_figures_of_others_stand_beside_the_same_learner_on_the_same_data() -> None:
    assert beside("gpicl") == pytest.approx(0.737)
    assert beside("gpicl", datasets=("fashion_mnist",), size=28) == pytest.approx(0.622)
    assert beside("vsml", datasets=("mnist5k",), label_permutation=True) == pytest.approx(0.79)
    assert beside("vsml", datasets=("cifar10",)) is None, "not known"
    assert beside("gpicl", datasets=("mnist", "fashion_mnist")) is None
    assert beside("gpicl", projection=1.0) is None and beside("ridge") is None
    test = TaskDistribution(("mnist",), "test")
    page = to_html(
        build_board("desk", [of := run(make_plan(learner="gpicl", test=test))], [of.plan])
    )
    texts = " ".join(Reader(page).texts)
    assert "73.7" in texts and "Not measured here" in texts and "2212.04458" in texts


def grid_board(*names: str) -> Board:
    """Splits "TRAIN-to-TEST", for two learners, of which the second lacks the last."""
    sides = {
        name: TaskDistribution((), "train", size=size) for size, name in enumerate("abcdefg", 1)
    }
    plans = [
        make_plan(name, learner, train=sides[name[0]], test=sides[name[-1]])
        for name in names
        for learner in ("one", "two")
    ]
    return build_board("desk", [run(plan) for plan in plans[:-1]], plans)


def test_a_grid_is_what_has_two_sides_of_either_kind() -> None:
    of = grid_board("a-to-d", "a-to-e", "a-to-f", "b-to-d", "b-to-e", "c-to-d")
    found = grid(of, ["two", "one"])
    assert found is not None
    assert (found.meta_train, found.meta_test) == (("a", "b"), ("d", "e")), "f and c meet one"
    assert [s.learner for s in found.squares] == ["two"] * 4 + ["one"] * 4
    (square,) = (
        s for s in found.squares if (s.learner, s.meta_train, s.meta_test) == ("one", "b", "e")
    )
    (row,) = (r for r in of.rows if (r.group.learner, r.group.split) == ("one", "b-to-e"))
    assert (square.accuracy, square.low) == (row.group.estimate.mean, row.group.estimate.low)
    drawn = to_svg(heat_map(found))
    assert drawn.count('aria-roledescription="rect mark"') >= 8 and drawn == to_svg(heat_map(found))
    page = to_html(of)
    assert 'data-picture="grid"' in page and page == to_html(of)


@pytest.mark.parametrize(
    "names",
    [["a-to-d", "a-to-e", "a-to-f"], ["a-to-d", "b-to-d"], ["a-to-d", "b-to-e"], ["a-to-d"]],
)
def test_less_than_two_by_two_is_no_grid(names: list[str]) -> None:
    assert grid(grid_board(*names), ["one", "two"]) is None


def test_a_link_leads_to_the_measured_commit_that_is_nearest() -> None:
    speed = Speed({"a1": "2026-11-01T12:00:00+00:00", "b2": "2026-11-20T00:00:00+00:00"})
    assert speed.link("a1", "2026-11-30").address.endswith("?commits=a1")
    assert speed.link("zz", "2026-11-02").address.endswith("?commits=a1")
    assert speed.link("zz", "2026-11-19").address.endswith("?commits=b2")
    assert "nearest" in speed.link("zz", "2026-11-19").text


def test_speed_is_linked_in_a_site_and_nowhere_else(board: Board, tmp_path: Path) -> None:
    assert read_speed(tmp_path) is None
    pages = paths.results() / "speed" / "pages"
    speed = read_speed(pages)
    assert speed is not None
    page = to_html(board, speed)
    (cell, *_) = data_of(page)["cells"][0]
    folder, _, place = cell["speed"]["address"].partition("/")
    assert folder == "speed" and (pages / place.partition("#")[0]).is_file()
    benchmark, _, commit = place.partition("#")[2].partition("?commits=")
    index = json.loads((pages / "index.json").read_text())
    assert benchmark in index["benchmarks"] and commit in index["revision_to_hash"].values()
    links = [attributes.get("href") for tag, attributes in Reader(page).tags if tag == "a"]
    assert "speed/index.html" in links
    assert "speed/index.html" not in to_html(board)
    assert {o.speed for row in board.rows for o in origins(row.group, {})} == {None}
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(VsmlBenchError, match="make asv-pages"):
        read_speed(tmp_path)


def test_every_cost_has_a_picture_with_its_own_front(board: Board) -> None:
    placed = standings(board)
    page = data_of(to_html(board))
    assert [*page["costs"]] == [c for c in AXES if c != "meta_train_seconds"], "none took any"
    for cost, picture in page["costs"].items():
        rows = picture["datasets"]["learners"]
        assert {row["learner"]: row["cost"] for row in rows} == {
            s.label: pytest.approx(getattr(s.cost, cost)) for s in placed if s.label != "chance"
        }
        assert {row["front"] for row in rows} == ({"some CPU"} if AXES[cost].time else {""})
        assert picture["datasets"]["front"][-1]["learner"] == "vsml", "none is better"
    assert quality_and_cost([dataclasses.replace(s, cost=None) for s in placed]) is None


def test_the_index_links_every_board(board: Board) -> None:
    of = entry(board, "A & B")
    assert (of.learners, of.splits, of.best) == (3, 3, "vsml, sgd (65.0 %)")
    page = to_index([of], speed=True)
    links = [attributes["href"] for tag, attributes in Reader(page).tags if tag == "a"]
    assert links == ["desk.html", "speed/index.html"]
    assert "A &amp; B" in page


def test_the_citation_names_the_board(board: Board) -> None:
    page = to_html(board)
    assert f"note = {{board 'desk', hash {board.board_hash}}}" in "".join(Reader(page).texts)
