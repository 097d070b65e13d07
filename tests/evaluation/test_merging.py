"""Results of several folders in one: nothing is lost, nothing is decided silently."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.boards.factory import RECIPE, make_plan, run
from tests.harness import call, refusal
from vsml_bench.boards.board import build_board
from vsml_bench.config import as_plain
from vsml_bench.evaluation.cell import Cell, load_cells, path_of, save_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.meta_training.checkpoint import load_artifact, save_checkpoint
from vsml_bench.storage import seal, write_atomically

pytestmark = pytest.mark.usefixtures("nothing_here")


def cell(
    learner: str = "ridge", *, flips: int = 0, louder: float = 0.0, seed: int = 0, **given: Any
) -> Cell:
    """Three lifetimes of 200 steps. flips: decisions that are others. louder: of each loss."""
    correct = np.arange(600).reshape(3, 200) % 3 > 0
    correct.flat[:flips] ^= True
    recipe = given.pop("recipe", None)
    made = run(make_plan("held-out", learner, seed, steps=200, recipe=recipe), correct, **given)
    if made.outcomes is None:
        return made
    return replace(made, outcomes=Outcomes(correct, np.full(correct.shape, 0.7 + louder)))


def folder(place: Path, *cells: Cell) -> Path:
    for one in cells:
        save_cell(place / "cells", one)
    return place


def merge(out: Path, *folders: Path) -> Any:
    outcome = call("merge", *folders, "--out", out, "--json")
    assert outcome.code == (1 if outcome.json["problems"] else 0)
    return outcome.json


def test_shards_make_the_whole_in_any_order(tmp_path: Path) -> None:
    """Some cells are in several folders, equal, or as near as rounding makes them, or failed."""
    cells = [cell(f"l{n}") for n in range(6)]
    crashed = cell("l0", status="crashed", reason="killed")
    near = [cell("l1", flips=2), cell("l1", louder=0.004, created="2025-01-02", device="other")]
    shards = [
        folder(tmp_path / "a", cells[1], cells[2], crashed),
        folder(tmp_path / "b", cells[0], cells[2], cells[3], near[0]),
        folder(tmp_path / "c", cells[4], cells[5], near[1]),
    ]
    hashes, contents = set(), set()
    for index, order in enumerate(itertools.permutations(shards)):
        out = tmp_path / f"out{index}"
        assert merge(out, *order)["written"] == 6
        found, problems = load_cells(out / "cells")
        assert not problems and all(one.status == "ok" for one in found)
        hashes.add(build_board("desk", found, [one.plan for one in found]).board_hash)
        contents.add(tuple(path.read_bytes() for path in sorted((out / "cells").iterdir())))
    assert len(hashes) == len(contents) == 1
    assert cells[2] in found and near[1] in found  # of equals the newest


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (cell(flips=9), "9 of 600 decisions differ (on some CPU)"),
        (cell(louder=0.5, device="X"), "a loss is off by 0.5 nats (on X and some CPU)"),
        (cell(status="diverged", reason="NaN"), "one is diverged, the other ok"),
        (cell(seeds={"meta_test": [1, 2, 4]}, flips=1), "other seeds"),
        (cell(data_hashes={"meta_test/digits": "d3"}, flips=1), "their data are others"),
    ],
    ids=lambda value: value.split()[-1] if isinstance(value, str) else "",
)
def test_another_outcome_is_a_conflict_and_nothing_is_written(
    other: Cell, words: str, tmp_path: Path
) -> None:
    one = folder(tmp_path / "one", cell(), cell("fine"))
    two = folder(tmp_path / "two", other)
    for order in ((one, two), (two, one)):
        found = merge(tmp_path / "out", *order)
        ((file, problem),) = found["problems"].items()
        assert words in problem and path_of(two, other).name in file
        assert str(one) in file + problem and str(two) in file + problem
        assert not (tmp_path / "out").exists()
    assert "Nothing was written" in call("merge", one, two, "--out", tmp_path / "out").out


def test_scores_of_two_models_of_gpu_do_not_mix(tmp_path: Path) -> None:
    made = cell()
    of = [
        replace(made, provenance=replace(made.provenance, processor="cuda", device=device))
        for device in ("NVIDIA A100", "NVIDIA H200")
    ]
    first, second = (folder(tmp_path / name, each) for name, each in zip("ab", of, strict=True))
    ((_, problem),) = merge(tmp_path / "out", first, second)["problems"].items()
    assert "NVIDIA A100 and NVIDIA H200" in problem and "folders of their own" in problem
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays_byte_for_byte(tmp_path: Path) -> None:
    own, newer = cell(), cell(flips=1, created="2026-01-01")
    out = folder(tmp_path / "out", own)
    before = path_of(out / "cells", own).read_bytes()
    found = merge(out, folder(tmp_path / "b", newer, cell("more")))
    assert (found["cells"], found["written"]) == (2, 1)
    assert path_of(out / "cells", own).read_bytes() == before
    assert merge(out, out, tmp_path / "b")["written"] == 0
    failed = folder(tmp_path / "failed", cell(status="timeout", reason="slow"))
    assert merge(out, failed)["given_way"] == [str(path_of(failed / "cells", own))]
    ((_, problem),) = merge(failed, out)["problems"].items()
    assert "timeout" in problem and "nothing is overwritten" in problem


def test_damaged_and_ill_fitting_records_are_named(tmp_path: Path) -> None:
    whole = folder(tmp_path / "a", cell())
    (path,) = (whole / "cells").iterdir()
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    assert "was changed" in str(merge(tmp_path / "out", whole)["problems"])
    orphan = cell(recipe=RECIPE, checkpoint="ab" * 32)
    assert "is not here" in str(merge(tmp_path / "out", folder(tmp_path / "b", orphan))["problems"])
    assert "neither cells/ nor checkpoints/" in refusal(
        call("merge", tmp_path, "--out", tmp_path / "out")
    )
    assert not (tmp_path / "out").exists()


def of_job(recipe: Any = None) -> dict[str, Any]:
    """What a record says that it is of."""
    job = make_plan("held-out", "t", 0, recipe=recipe).job
    said = {"job": as_plain(job.published()), "identity": job.identity()}
    return {**said, "data_hashes": {}, "adopted": []}


def record(
    place: Path, seconds: float, accuracy: float = 0.5, best: int = 1, points: Any = (0, 1)
) -> str:
    """A tuning record; its SHA-256."""
    trials = [{"values": {"r": r}, "accuracy": accuracy - abs(r - best)} for r in points]
    document = {
        **of_job(),
        **{
            "seconds": seconds,
            "best": {"r": best},
            "trials": [{**trial, "loss": "1.0"} for trial in trials],
        },
    }
    write_atomically(place / "checkpoints" / "t--d--seed0--12345678.json", seal(document))
    return load_artifact(place / "checkpoints" / "t--d--seed0--12345678.json").sha256


def test_two_machines_that_tuned_alike_keep_both_records(tmp_path: Path) -> None:
    """Their cells name them by their hashes, which cover seconds."""
    first, second, third = (tmp_path / name for name in "abc")
    folder(first, cell("x", recipe=RECIPE, checkpoint=record(first, 1.0)))
    folder(second, cell("y", recipe=RECIPE, checkpoint=record(second, 2.0)))
    record(third, 3.0)  # nobody names it
    for index, order in enumerate(itertools.permutations((first, second, third))):
        out = tmp_path / f"out{index}"
        assert merge(out, *order)["artifacts"] in (2, 3)
        assert call("verify", out).code == 0
        assert merge(out, *order)["written"] == 0
    record(third, 1.0, best=0)
    assert "tuning chose other values" in str(merge(tmp_path / "o", first, third)["problems"])
    record(third, 1.0, points=(0, 1, 2))
    assert "tuning tried other values" in str(merge(tmp_path / "o", first, third)["problems"])
    record(third, 1.0, accuracy=0.6)
    assert "accuracies" in str(merge(tmp_path / "o", first, third)["problems"])


def test_other_meta_parameters_are_a_conflict(tmp_path: Path) -> None:
    document = {**of_job(RECIPE), "first_losses": []}
    for name, value, seconds in (("a", 1.0, 1.0), ("b", 1.0, 2.0), ("c", 1.5, 1.0)):
        path = tmp_path / name / "checkpoints" / "v--d--seed0--12345678.safetensors"
        save_checkpoint(path, {"w": torch.tensor([value])}, {**document, "seconds": seconds})
    assert merge(tmp_path / "out", tmp_path / "a", tmp_path / "b")["artifacts"] == 1
    found = merge(tmp_path / "out", tmp_path / "c")
    assert "its meta-parameters are others" in str(found["problems"])
