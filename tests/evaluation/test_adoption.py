"""Stale records that replay are filed under today's identity; those that do not stay."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.harness import Outcome, call
from vsml_bench.evaluation.cell import Cell, load_cell, load_cells, path_of, save_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.replay import replay_cell
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.verification import adopt_cell

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

SMOKE = ("--suite", "smoke", "--split", "digits-held-out", "--learner", "nearest-mean")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one cell of a shipped suite."""
    folder = tmp_path_factory.mktemp("fresh")
    done = call("run", *SMOKE, "--out", folder, "--jobs", 1, "--device", "cpu", "--quiet")
    assert done.code == 0, done
    return folder


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "results"))


def only(folder: Path) -> Cell:
    (cell,), problems = load_cells(folder / "cells")
    assert not problems
    return cell


def age(folder: Path, **changes: Any) -> Path:
    """Has the cell come from an earlier version of the learner; its new path."""
    cell = only(folder)
    path_of(folder / "cells", cell).unlink()
    plan = cell.plan
    card = dataclasses.replace(plan.job.learner, version=0)
    old = dataclasses.replace(plan, job=dataclasses.replace(plan.job, learner=card))
    return save_cell(
        folder / "cells", dataclasses.replace(cell, plan=old, identity=old.identity(), **changes)
    )


def adopt(folder: Path) -> Outcome:
    return call("verify", folder, "--replay", 1, "--adopt", "--jobs", 1, "--json")


def test_what_replays_is_adopted_with_a_line_that_says_so(folder: Path) -> None:
    before = only(folder)
    old = age(folder)
    stale = load_cell(old)
    done = adopt(folder)
    assert done.code == 0, done
    after = only(folder)
    assert not old.exists() and after.key == before.key
    assert after.outcomes == before.outcomes or (
        before.outcomes is not None
        and after.outcomes is not None
        and (after.correct == before.correct).all()
        and (after.outcomes.loss == before.outcomes.loss).all()
    )
    (line,) = after.provenance.adopted
    assert line.formerly == stale.key[:16] and line.largest_difference == 0.0
    assert (line.lifetimes, line.steps) == (1, 60) and line.date.count("-") == 2
    assert dataclasses.replace(after.provenance, adopted=()) == before.provenance
    kept = path_of(folder / "cells", after).read_bytes()
    assert adopt(folder).code == 0
    assert path_of(folder / "cells", only(folder)).read_bytes() == kept, "twice is once"


def test_what_does_not_replay_stays_and_is_listed(folder: Path) -> None:
    outcomes = only(folder).outcomes
    assert outcomes is not None
    wrong = Outcomes(np.logical_not(outcomes.correct), outcomes.loss, outcomes.traces)
    old = age(folder, outcomes=wrong)
    kept = old.read_bytes()
    done = adopt(folder)
    (report,) = done.json["replayed"]
    assert done.code == 1 and "60 of 60 decisions differ" in report["reason"]
    assert report["file"] == f"cells/{old.name}"
    assert [path.name for path in (folder / "cells").iterdir()] == [old.name]
    assert old.read_bytes() == kept


def test_a_kill_between_saving_and_removing_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """Both files are there then, and the next adoption ends what was begun."""
    old = age(folder)
    copy = shutil.copy(old, tmp_path / "kept")
    assert adopt(folder).code == 0
    first = only(folder)
    shutil.copy(copy, old)
    cells, problems = load_cells(folder / "cells")
    assert len(cells) == 2 and not problems
    assert adopt(folder).code == 0
    again = only(folder)
    assert not old.exists() and again.key == first.key
    assert len(again.provenance.adopted) == 1


def test_today_s_record_is_not_replaced(folder: Path) -> None:
    """Neither by a stale failure nor by a stale score; both stay, and are named."""
    fresh = only(folder)
    kept = path_of(folder / "cells", fresh).read_bytes()
    failed = age(folder, status="crashed", reason="it did", outcomes=None)
    (folder / "cells" / path_of(folder, fresh).name).write_bytes(kept)
    done = adopt(folder)
    assert done.code == 0 and failed.exists()
    assert "is there already" in str(done.json["replayed"])
    assert path_of(folder / "cells", fresh).read_bytes() == kept


def test_two_that_become_one_record_are_not_both_adopted(folder: Path) -> None:
    """Of two generations, by two processes at once: the other outcome is not lost."""
    cell, setting = only(folder), Setting((), None, "cpu", "", ("", False))
    path_of(folder / "cells", cell).unlink()
    old = []
    for version in (-1, -2):
        identity = copy.deepcopy(cell.identity)
        identity["learner"]["version"] = version
        card = dataclasses.replace(cell.plan.job.learner, version=version)
        plan = dataclasses.replace(cell.plan, job=dataclasses.replace(cell.plan.job, learner=card))
        old.append(
            save_cell(folder / "cells", dataclasses.replace(cell, plan=plan, identity=identity))
        )
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda path: adopt_cell(path, setting, [0], cell.plan), old))
    first, second = sorted(done, key=lambda replay: replay.impossible)
    assert first.lifetimes == 1 and "is there already" in second.impossible
    assert len(load_cells(folder / "cells")[0]) == 2


def test_a_plan_for_shorter_lifetimes_takes_over_nothing(folder: Path) -> None:
    cell = only(folder)
    shorter = dataclasses.replace(cell.plan.protocol, numbers={"steps": 30}, predictions=30)
    plan = dataclasses.replace(cell.plan, protocol=shorter)
    assert "60 predictions a lifetime, not 30" in replay_cell(cell, plan, (), None, [0]).reason
    longer = dataclasses.replace(cell.plan.protocol, numbers={"steps": 90}, predictions=90)
    plan = dataclasses.replace(cell.plan, protocol=longer)
    assert "60 predictions a lifetime, not 90" in replay_cell(cell, plan, (), None, [0]).reason


def test_a_failure_is_run_again_and_not_adopted(folder: Path) -> None:
    old = age(folder, status="diverged", reason="the loss is not finite", outcomes=None)
    (report,) = adopt(folder).json["replayed"]
    assert report["impossible"] == "it is diverged; run it again" and old.exists()


def test_an_interrupted_meta_training_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    train = ("meta-train", "--split", "digits-held-out", "--learner", "fast-weight-programmer")
    phases = ("--recipe", "phases=[{steps=2, lifetime=5, learning_rate=0.01}]")
    done = call(*train, *phases, "--out", tmp_path / "checkpoints", "--quiet", "--device", "cpu")
    assert done.code == 0, done
    (whole,) = (tmp_path / "checkpoints").iterdir()
    partial = whole.with_name(whole.name.replace(".safetensors", ".partial.safetensors"))
    whole.rename(partial)
    done = adopt(tmp_path)
    assert done.code == 0 and done.json["replayed"] == []
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [partial.name]
