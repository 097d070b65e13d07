"""Mixed precision is an option of a run, and a label of what it makes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vsml_bench
from tests.boards.factory import make_cell
from tests.conftest import Finished
from tests.harness import call
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, load_cell, load_cells, save_cell
from vsml_bench.evaluation.replay import replay_cell
from vsml_bench.evaluation.runner import CostModel, RunOptions, RunReport, _Run
from vsml_bench.execution import Execution
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.registry import find_learner
from vsml_bench.suites import find_split

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

SPLIT = "digits-held-out"


def test_a_run_in_mixed_precision_stands_beside_that_in_float32(
    finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished.folder, folder)
    arguments = ["--suite", finished.suite, "--split", SPLIT, "--learner", "vsml", "--seed", 0]
    command = ["run", *arguments, "--out", folder, "--jobs", 1, "--quiet", "--device", "cpu"]
    first = call(*command, "--precision", "bfloat16")
    assert first.code == 0 and "1 cells: 0 reused, 1 run now" in first.out, first
    assert "1 reused" in call(*command, "--precision", "bfloat16").out
    assert "1 reused" in call(*command).out

    by_precision = {
        cell.provenance.precision: cell
        for cell in load_cells(folder / "cells")[0]
        if cell.plan.place == (SPLIT, "vsml", 0)
    }
    full, mixed = by_precision["float32"], by_precision["bfloat16"]
    assert full.key == mixed.key and full.provenance.checkpoint == mixed.provenance.checkpoint
    off = np.abs(_loss(full) - _loss(mixed)).max()
    # Above what orders of addition make of float32, so that no code computed in it; below what
    # another learner would show.
    assert 1e-4 < off < 0.2

    rows = call("leaderboard", *arguments, "--results", folder, "--format", "json").json["rows"]
    device = full.provenance.device
    assert sorted(row["device"] for row in rows) == [device, f"{device}, bfloat16"]


def test_a_cell_in_mixed_precision_is_replayed_whole(finished: Finished, tmp_path: Path) -> None:
    """In few steps, what another machine rounds otherwise would weigh too much."""
    arguments = ["--suite", finished.suite, "--split", SPLIT, "--learner", "vsml", "--seed", 0]
    shutil.copytree(finished.folder / "checkpoints", tmp_path / "checkpoints")
    command = ("run", *arguments, "--out", tmp_path, "--jobs", 1, "--quiet", "--device", "cpu")
    assert call(*command, "--precision", "bfloat16").code == 0
    (cell,) = load_cells(tmp_path / "cells")[0]
    found = replay_cell(cell, cell.plan, (tmp_path / "checkpoints",), None, [0], 5)
    assert (found.lifetimes, found.steps) == cell.correct.shape and not found.reason


def test_only_matrix_products_lose_digits() -> None:
    split = find_split(SPLIT)
    sampler = EpisodeSampler(split.meta_test)
    scores = {
        (name, precision): evaluate(
            find_learner(name).create(seed=0),
            sampler,
            [1, 2],
            Online(20),
            Execution(torch.device("cpu"), 1, precision),
        ).loss
        for name in ("gpicl", "sgd-mlp")
        for precision in ("float32", "bfloat16")
    }
    off = np.abs(scores["gpicl", "float32"] - scores["gpicl", "bfloat16"]).max()
    assert 1e-5 < off < 0.1
    # It is written in sums of products.
    np.testing.assert_array_equal(scores["sgd-mlp", "float32"], scores["sgd-mlp", "bfloat16"])


def test_a_cell_is_kept_for_each_manner(tmp_path: Path) -> None:
    full = make_cell()
    manners = [("cpu", "bfloat16"), ("cuda", "float32"), ("cuda", "bfloat16")]
    others = [
        replace(full, provenance=replace(full.provenance, processor=kind, precision=precision))
        for kind, precision in manners
    ]
    path, *beside = [save_cell(tmp_path, cell) for cell in (full, *others)]
    assert [other.name.removeprefix(path.stem) for other in beside] == [
        "--bfloat16.json",
        "--cuda.json",
        "--cuda-bfloat16.json",
    ]
    cells, problems = load_cells(tmp_path)
    assert not problems
    kept = {(c.provenance.processor, c.provenance.precision) for c in cells}
    assert kept == {("cpu", "float32"), *manners}


def test_a_run_takes_nothing_from_another_model_of_gpu(tmp_path: Path) -> None:
    made = make_cell()
    first, second = (
        replace(made, provenance=replace(made.provenance, processor="cuda", device=device))
        for device in ("NVIDIA A100", "NVIDIA H200")
    )
    path = save_cell(tmp_path / "cells", first)
    options = RunOptions(tmp_path, tmp_path, device="cpu", policy="always")
    keeping = _Run(options, CostModel([]), RunReport())
    with pytest.raises(VsmlBenchError, match=r"run on NVIDIA A100, and this is NVIDIA H200; .*out"):
        keeping._keep(second.plan, second)
    assert load_cell(path) == first
    keeping._keep(first.plan, first)
    assert keeping.report.cells == [first]


@pytest.mark.parametrize(("device", "reused"), [("cpu", 1), ("cuda", 0)])
def test_a_run_reuses_cells_of_its_own_kind_of_device(
    device: str, reused: int, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda")
    suite, folder, chosen = str(finished.suite), finished.folder, ["nearest-mean"]
    report = vsml_bench.run(suite, out=folder, splits=[SPLIT], learners=chosen, policy="never")
    assert (report.reused, len(report.missing)) == (reused, 1 - reused)


def test_another_precision_is_refused(finished: Finished) -> None:
    with pytest.raises(VsmlBenchError, match="unknown precision 'float8'; did you"):
        vsml_bench.run(str(finished.suite), precision="float8", out=finished.folder / "none")
    assert not (finished.folder / "none").exists()


def _loss(cell: Cell) -> np.ndarray:
    assert cell.outcomes is not None
    return cell.outcomes.loss
