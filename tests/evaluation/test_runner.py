"""Running cells in worker processes: what is made, reused, refused, and what a failure costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import Finished
from tests.harness import LOOPS, ODD, call, refusal, write, write_suite
from vsml_bench.evaluation.cell import load_cell, load_cells
from vsml_bench.meta_training.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

SCORED = ("digits-held-out", "digits-to-random")


def test_every_planned_cell_is_there(finished: Finished) -> None:
    assert finished.run.code == 0, finished.run
    cells, problems = load_cells(finished.cells)
    assert not problems
    places = {c.plan.place: c.status for c in cells}
    one_seed = ("nearest-mean", "chance", "reader", "writer")
    expected = {(s, "vsml", seed) for s in (*SCORED, "to-kmnist") for seed in (0, 1)}
    expected |= {(s, name, 0) for s in (*SCORED, "to-kmnist") for name in one_seed}
    assert set(places) == expected
    for (split, _, _), status in places.items():
        assert status == ("ok" if split in SCORED else "unavailable")
    assert "18 cells: 0 reused, 18 run now, 0 failed, 6 unavailable, 0 not run." in finished.run.out
    assert finished.run.out.count("unavailable (6): ") == 1, "the reason, once"


def test_jobs_run_side_by_side(finished: Finished) -> None:
    """Reader and writer wait for one another, so that one process alone would never end them."""
    statuses = {
        c.plan.learner: c.status
        for c in load_cells(finished.cells)[0]
        if c.plan.learner in ("reader", "writer") and c.plan.split.name in SCORED
    }
    assert statuses == {"reader": "ok", "writer": "ok"}


def test_an_unavailable_cell_says_why_and_has_no_number(finished: Finished) -> None:
    cells = [c for c in load_cells(finished.cells)[0] if c.plan.split.name == "to-kmnist"]
    assert len(cells) == 6
    for cell in cells:
        assert cell.outcomes is None and "kmnist" in cell.reason


def test_cells_record_where_they_come_from(finished: Finished) -> None:
    cells = {c.plan.place: c for c in load_cells(finished.cells)[0]}
    checkpoints = {
        load_checkpoint(path).document["identity"]["seed"]: load_checkpoint(path)
        for path in (finished.folder / "checkpoints").glob("*.safetensors")
    }
    assert set(checkpoints) == {0, 1}
    pinned = {split: cells[split, "chance", 0].provenance.seeds["meta_test"] for split in SCORED}
    for (split, learner, seed), cell in cells.items():
        if split not in SCORED:
            continue
        provenance = cell.provenance
        assert cell.correct.shape == (9, 30)
        assert provenance.threads == 1 and provenance.state_floats > 0
        assert provenance.seconds["meta_test"] > 0 and provenance.peak_memory_bytes > 1_000_000
        assert provenance.seeds["meta_test"] == pinned[split], "lifetimes must be paired"
        assert provenance.seeds["meta_train"] == seed
        if learner == "vsml":
            assert provenance.meta_parameters == 2384
            assert provenance.checkpoint == checkpoints[seed].sha256
        else:
            assert provenance.meta_parameters == 0 and provenance.checkpoint is None
    for seeds in pinned.values():
        assert len(set(seeds)) == 9
    assert not set(pinned[SCORED[0]]) & set(pinned[SCORED[1]])
    weights = [checkpoints[seed].tensors for seed in (0, 1)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_second_run_reuses_everything(finished: Finished) -> None:
    def written() -> dict[Path, tuple[int, int]]:
        found = ((path, path.stat()) for path in finished.folder.rglob("*") if path.is_file())
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found}

    before = written()
    again = call("run", "--suite", finished.suite, "--out", finished.folder, "--json")
    assert again.code == 0 and again.json["reused"] == len(again.json["cells"]) == 18
    assert written() == before


def test_a_second_run_from_empty_gives_the_same_board(finished: Finished, tmp_path: Path) -> None:
    """One process this time: the number of processes must not change a score either."""
    chosen = ["--learner", "vsml", "--learner", "nearest-mean", "--suite", finished.suite]
    out = tmp_path / "out"
    run = call("run", *chosen, "--out", out, "--jobs", 1, "--quiet", "--device", "cpu")
    assert run.code == 0, run
    boards = [
        call("leaderboard", *chosen, "--results", folder, "--format", "json").json
        for folder in (finished.folder, out)
    ]
    assert boards[0]["board_hash"] == boards[1]["board_hash"]
    assert [r["mean"] for r in boards[0]["rows"]] == [r["mean"] for r in boards[1]["rows"]]
    mine, theirs = (
        {cell.plan.place: cell for cell in load_cells(folder / "cells")[0]}
        for folder in (out, finished.folder)
    )
    assert len(mine) == 9
    for place, cell in mine.items():
        assert cell.key == theirs[place].key and cell.outcomes == theirs[place].outcomes, place


def test_a_failing_learner_costs_its_own_cell_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = write(tmp_path / "odd.py", ODD)
    learners = ["nearest-mean", odd]
    suite = write_suite(tmp_path / "odd.toml", ["digits-held-out"], learners, lifetimes=2)
    out = tmp_path / "out"
    command = ["run", "--suite", suite, "--out", out]
    run = call(*command, "--jobs", 2, "--quiet")
    assert run.code == 1 and run.err == ""
    cells = {c.plan.learner: c for c in load_cells(out / "cells")[0]}
    assert {name: cell.status for name, cell in cells.items()} == {
        "nearest-mean": "ok",
        "diverges": "diverged",
        "crashes": "crashed",
        "kills": "crashed",
        "lacks": "unavailable",
    }
    assert cells["diverges"].reason == "the loss is not finite from step 5 on"
    assert cells["crashes"].reason.endswith("ValueError: the sixth example is too much\n")
    assert cells["kills"].reason == "its process ended with exit code -9"
    assert cells["lacks"].reason == "no such package here"
    for name in ("diverges", "crashes", "kills"):
        assert f"{name} on digits-held-out, seed 0: {cells[name].status}: " in run.out
    board = call("leaderboard", "--suite", suite, "--results", out, "--format", "json").json
    rows = {row["learner"]: row for row in board["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        name: cell.status for name, cell in cells.items()
    }
    assert [name for name, row in rows.items() if row["mean"] is not None] == ["nearest-mean"]

    # Failures are results too: they are reused, and still end in a failing exit code.
    later = call(*command, "--policy", "never", "--json")
    assert later.code == 1 and later.json["reused"] == 5

    # What may have been the machine's fault is tried again, and so is what lacked something.
    monkeypatch.setenv("VSML_TEST_PACKAGE", "installed")
    again = call(*command, "--jobs", 2, "--json").json
    assert again["reused"] == 2
    assert {cell["learner"]: cell["status"] for cell in again["cells"]} == {
        **{name: cell.status for name, cell in cells.items()},
        "lacks": "ok",
    }


def test_what_loops_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    loops = write(tmp_path / "loops.py", LOOPS)
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [loops], time_limit=3.0)
    run = call("run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--quiet")
    assert run.code == 1 and "loops on digits-held-out, seed 0: timeout: " in run.out
    (cell,) = load_cells(tmp_path / "out" / "cells")[0]
    assert (cell.status, cell.outcomes) == ("timeout", None)
    assert cell.reason == "killed after its time limit of 3 s"


def test_policies(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.folder, out)
    chosen = ["--suite", finished.suite, "--out", out, "--split", "digits-held-out", "--jobs", 1]
    floors = [*chosen, "--learner", "chance", "--learner", "nearest-mean"]
    stored = {
        load_cell(p).plan.learner: p for p in (out / "cells").glob("digits-held-out--*seed0*")
    }
    inode = {name: path.stat().st_ino for name, path in stored.items()}

    stored["chance"].unlink()
    never = call("run", *floors, "--policy", "never", "--json")
    assert never.code == 1 and [c["learner"] for c in never.json["cells"]] == ["nearest-mean"]
    assert not stored["chance"].exists()

    missing = call("run", *floors, "--policy", "only-missing", "--json")
    assert missing.err == "" and missing.code == 0 and missing.json["reused"] == 1
    assert stored["chance"].exists()
    assert stored["nearest-mean"].stat().st_ino == inode["nearest-mean"]

    always = call("run", *floors, "--policy", "always", "--json")
    assert always.code == 0 and always.json["reused"] == 0
    assert stored["nearest-mean"].stat().st_ino != inode["nearest-mean"]

    # Seed 0 of VSML is meta-trained already, seed 1 no more: only the former is run.
    for seed in (0, 1):
        next((out / "cells").glob(f"digits-held-out--vsml--seed{seed}*")).unlink()
    next((out / "checkpoints").glob("vsml--digits--seed1*")).unlink()
    cached = call("run", *chosen, "--learner", "vsml", "--policy", "only-cached")
    assert cached.code == 1
    assert "2 cells: 0" not in cached.out
    assert "1 cells: 0 reused, 1 run now, 0 failed, 0 unavailable, 1 not run." in cached.out
    assert len(list((out / "checkpoints").glob("vsml*"))) == 1


def test_an_unwritable_folder_is_refused_before_any_work(
    finished: Finished, tmp_path: Path
) -> None:
    file = write(tmp_path / "file", "kept")
    said = refusal(call("run", "--suite", finished.suite, "--out", file / "out", "--quiet"))
    assert "cannot write into the folder" in said and "choose another folder" in said
    assert file.read_text() == "kept" and not list((tmp_path / "here").iterdir())


def test_damaged_cells_are_refused_and_left_in_place(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.folder, out)
    cell = next((out / "cells").glob("digits-held-out--chance*"))
    document = json.loads(cell.read_text())
    document["plan"]["lifetimes"] = 8
    cell.write_text(json.dumps(document))
    changed = cell.read_bytes()
    said = refusal(call("run", "--suite", finished.suite, "--out", out, "--quiet"))
    assert cell.name in said and "was changed after it was written" in said
    assert cell.read_bytes() == changed
    board = call(
        "leaderboard", "--suite", finished.suite, "--results", out, "--format", "json"
    ).json
    assert [problem["file"] for problem in board["problems"]] == [cell.name]
    row = next(
        r for r in board["rows"] if (r["split"], r["learner"]) == ("digits-held-out", "chance")
    )
    assert row["status"] == "missing" and row["mean"] is None


def test_damaged_checkpoints_are_refused_and_left_in_place(
    finished: Finished, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.folder / "checkpoints", out / "checkpoints")
    checkpoint = next((out / "checkpoints").glob("*seed0*"))
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    chosen = ["--learner", "vsml", "--seed", 0, "--split", "digits-held-out"]
    said = refusal(call("run", "--suite", finished.suite, "--out", out, "--quiet", *chosen))
    assert checkpoint.name in said and "does not match its SHA-256" in said
    assert checkpoint.read_bytes() == bytes(data)
    assert not list((out / "cells").glob("*"))
