"""Replay sees what no declaration does: each change of a number's origin, C++ code included."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.copies import copy_of_package, replace
from tests.harness import LEARNER, call, write, write_split, write_suite
from vsml_bench import paths, printing
from vsml_bench.errors import DivergedError
from vsml_bench.evaluation.cell import load_cell, save_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.replay import drift

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

RECIPE = """
[recipes.vsml]
phases = [{steps = 3, lifetime = 10, learning_rate = 0.3}]
lifetimes = 2
validation_lifetimes = 2
"""


@dataclass(frozen=True)
class Stored:
    """Three cells and a meta-training, and a copy of the package to replay them with."""

    folder: Path
    copy: Path
    cache: Path

    def verify(self, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code, and the reports by a short name."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "vsml_bench", "verify", str(self.folder), "--json"),
                *("--replay", "1", "--steps", "60", "--jobs", "1", *options),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(self.copy),
                "XDG_CACHE_HOME": str(self.cache),
                "OMP_NUM_THREADS": "1",
            },
            cwd=self.copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        found = json.loads(done.stdout)
        assert found["intact"] == 4 and not found["damaged"]
        return done.returncode, {_short(report["file"]): report for report in found["replayed"]}


def _short(file: str) -> str:
    folder, name = file.split("/")
    return "training" if folder == "checkpoints" else name.partition("--")[0]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("stored")
    splits = [
        write_split(folder / "noise.toml", more="label_noise = 0.5"),
        write_split(folder / "projection.toml", more="projection = 1.0"),
    ]
    floors = write_suite(folder / "floors.toml", [*splits], ["nearest-mean"], lifetimes=2, steps=60)
    vsml = write_suite(folder / "vsml.toml", ["digits-held-out"], [], lifetimes=2, steps=60)
    vsml.write_text(vsml.read_text().replace("learners = []", 'learners = ["vsml"]') + RECIPE)
    for suite in (floors, vsml):
        done = call("run", "--suite", suite, "--out", folder / "out", "--device", "cpu", "--quiet")
        assert done.code == 0, done
    yield Stored(folder / "out", folder / "copy", folder / "cache")


EDITS = {
    "nothing": ("vectors.h", "", "", set()),
    "a mean that is a sum": (
        "vsml/fast/messages.h",
        "load(sums + u * N + n) / number",
        "load(sums + u * N + n)",
        {"digits-held-out"},
    ),
    "a gate's offset": (
        "vsml/fast/sub_rnn.h",
        "GATE_OFFSET = 5.0f",
        "GATE_OFFSET = 4.5f",
        {"digits-held-out"},
    ),
    "a transposed projection": (
        "data/transforms.py",
        "inputs.flatten(1) @ projection)",
        "inputs.flatten(1) @ projection.T)",
        {"projection"},
    ),
    "one seed for all fresh states": (
        "protocols/evaluation.py",
        "generator(seed)",
        "generator(0)",
        {"digits-held-out", "training"},
    ),
    "scored by noisy labels": (
        "data/episodes.py",
        "return self.labels if self.targets is None else self.targets",
        "return self.labels",
        {"noise"},
    ),
    "a bound of logits": (
        "vsml/network.py",
        "LOGIT_BOUND = 100.0",
        "LOGIT_BOUND = 1.0",
        {"digits-held-out"},
    ),
}
"""Name -> file, what it says, what it is to say, and which records no longer replay."""


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_no_declaration_knows_of(stored: Stored, name: str) -> None:
    file, old, new, expected = EDITS[name]
    shutil.rmtree(stored.copy, ignore_errors=True)
    copy_of_package(stored.copy)
    if old:
        replace(stored.copy / "vsml_bench" / file, old, new)
    code, reports = stored.verify()
    failing = {name for name, report in reports.items() if report["reason"]}
    assert failing == expected, reports
    assert code == (1 if expected else 0)
    assert len(reports) == 4 and not any(report["impossible"] for report in reports.values())
    for which, report in reports.items():
        assert report["difference"] == 0.0 or old
        assert report["steps"] == (3 if which == "training" else 60)


def test_traces_are_replayed_of_whole_lifetimes(tmp_path: Path) -> None:
    """The introspection study's board is made of them."""
    (path,) = (paths.results() / "introspection/cells").glob("mnist5k-held-out--1-nn--*")
    cell = load_cell(path)
    assert cell.outcomes is not None and cell.outcomes.traces
    traces = dict(cell.outcomes.traces)
    traces["confidence"] = np.full_like(traces["confidence"], 0.5)
    forged = Outcomes(cell.correct, cell.outcomes.loss, traces)
    for name, outcomes in (("whole", cell.outcomes), ("forged", forged)):
        save_cell(tmp_path / name / "cells", dataclasses.replace(cell, outcomes=outcomes))
    command = ["--replay", "1", "--steps", "20", "--jobs", "1", "--json"]
    done = call("verify", tmp_path / "whole", *command)
    assert done.code == 0 and done.json["replayed"][0]["steps"] == cell.correct.shape[1]
    done = call("verify", tmp_path / "forged", *command)
    assert done.code == 1
    assert done.json["replayed"][0]["reason"].endswith("measured besides differs: confidence")


MINE = """
class Mine(Base):
    variants = {"mine": Config("x")}
"""


def test_a_learner_whose_file_is_not_here_cannot_be_replayed(tmp_path: Path) -> None:
    """That is no failure, and is said; beside its file it replays, and edited it does not."""
    mine = write(tmp_path / "his" / "mine.py", LEARNER + MINE)
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [mine], lifetimes=1)
    assert call("run", "--suite", suite, "--out", tmp_path / "out", "--quiet").code == 0
    verify = ("verify", tmp_path / "out", "--replay", 1, "--jobs", 1, "--json")
    absent = call(*verify)
    (report,) = absent.json["replayed"]
    assert absent.code == 0 and not report["reason"]
    assert "mine.py, is not in the working folder" in report["impossible"]
    shutil.copy(mine, "mine.py")
    for edited in (False, True):
        if edited:
            replace(Path("mine.py"), "torch.rand(", "torch.randn(")
        found = call(*verify)
        (report,) = found.json["replayed"]
        assert (found.code, bool(report["reason"])) == (edited, edited), report
        assert not report["impossible"]


THEN = [2.0, 1.0, *[0.5] * 23]


def shifted(losses: list[float], off: list[float]) -> list[float]:
    """The losses, off by these shares of 1 + themselves."""
    return [loss + share * (1 + loss) for loss, share in zip(losses, off, strict=False)]


@pytest.mark.parametrize(
    ("off", "said"),
    [
        ([0.0] * 5 + [0.01] * 20, ""),
        ([0.0] * 4 + [0.002] + [0.0] * 20, "of the first updates are off by 0.002"),
        ([0.0] * 5 + [0.05] * 20, "off by 0.04 on average"),
        ([0.0] * 5 + [float("nan")] * 20, "off by nan"),
    ],
)
def test_rounding_may_grow_in_a_meta_training_and_nothing_may_begin_otherwise(
    off: list[float], said: str
) -> None:
    now = shifted(THEN, off)
    _, reason, rounding = drift(now, THEN, lambda updates, draw: now[:updates])
    assert said in reason and bool(said) == bool(reason) and not rounding


@pytest.mark.parametrize(
    ("off", "moved", "said", "asked"),
    [
        ([0.0] * 4 + [0.01] * 21, [0.0] * 3 + [0.006] * 22, "", [5] * 3),
        ([0.0] * 4 + [0.01] * 21, [0.0] * 3 + [0.004] * 22, "updates are off by 0.01", [5] * 16),
        ([0.0] * 3 + [0.01] * 22, [0.0] * 4 + [0.5] * 21, "updates are off by 0.01", [5] * 16),
        ([0.0] * 5 + [0.05] * 20, [0.0] * 5 + [0.03] * 20, "", [25] * 3),
        ([0.0] * 5 + [0.05] * 20, [0.0] * 5 + [0.02] * 20, "by 0.04 on average", [25] * 16),
        ([0.0] * 4 + [0.05] * 21, [0.0] * 4 + [0.03] * 21, "", [5] * 3 + [25] * 3),
    ],
)
def test_what_a_meta_training_magnifies_it_may_be_off_by(
    off: list[float], moved: list[float], said: str, asked: list[int]
) -> None:
    """The third draw moves that far, the others not at all; no more updates are made of them than
    the question needs."""
    lengths: list[int] = []
    now = shifted(THEN, off)

    def again(updates: int, draw: int) -> list[float]:
        lengths.append(updates)
        return shifted(now, moved)[:updates] if draw == 2 else now[:updates]

    _, reason, rounding = drift(now, THEN, again)
    assert said in reason and bool(said) == bool(reason)
    assert lengths == asked
    assert rounding == pytest.approx(0.0 if said else max(moved[: asked[-1]]))


def test_of_a_short_meta_training_no_more_updates_are_asked_for_than_it_has() -> None:
    now = [2.0, 1.0, 0.6]

    def again(updates: int, draw: int) -> list[float]:
        return now[:updates] if updates <= 3 else pytest.fail("it has three updates")

    _, reason, _ = drift(now, [2.0, 1.0, 0.5], again)
    assert "first updates are off by 0.0667" in reason


def test_a_draw_that_diverges_explains_nothing() -> None:
    def again(updates: int, draw: int) -> list[float]:
        raise DivergedError("meta-training diverged")

    now = shifted(THEN, [0.0] * 4 + [0.01] * 21)
    assert "first updates are off by 0.01" in drift(now, THEN, again)[1]


CHAOTIC = """
from vsml_bench.recipes import Phase, Recipe


class Chaotic(Base):
    # A logistic map between the meta-parameters and the logits: each turn doubles a rounding. Its
    # equation is in a file that no identity knows of.
    variants = {"chaotic": Config("x")}
    recipe = Recipe((Phase(6, 10, 0.001),), lifetimes=2, validation_lifetimes=2)

    def __init__(self, config):
        super().__init__(config)
        self.start = torch.nn.Parameter(torch.empty(10))

    def init_meta_parameters(self, generator):
        with torch.no_grad():
            self.start.uniform_(0.1, 0.9, generator=generator)

    def predict(self, state, inputs):
        turned = self.start
        for _ in range(18):
            turned = eval(EQUATION)
        return 0 * state.logits + 5 * turned[: state.logits.shape[1]], state
"""


def test_a_meta_training_that_magnifies_rounding_replays_by_that_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same equation in another order is another rounding, another equation is none."""
    equation = write(tmp_path / "equation", "3.99 * turned * (1 - turned)")
    reading = f"EQUATION = open({str(equation)!r}).read()\n"
    write(Path("mine.py"), LEARNER + reading + CHAOTIC)
    trained = call(
        *("meta-train", "--split", "digits-held-out", "--learner", "mine.py", "--seed", 0),
        *("--out", tmp_path / "out" / "checkpoints", "--device", "cpu", "--quiet"),
    )
    assert trained.code == 0, trained

    def replayed() -> dict[str, Any]:
        found = call("verify", tmp_path / "out", "--replay", "--jobs", 1, "--json")
        (report,) = found.json["replayed"]
        assert found.code == bool(report["reason"])
        return dict(report)

    same = replayed()
    assert not same["reason"] and same["difference"] == same["rounding"] == 0, same
    write(equation, "3.99 * (turned - turned * turned)")
    reordered = replayed()
    assert not reordered["reason"] and reordered["difference"] > 1e-3, reordered
    assert reordered["difference"] <= 2 * reordered["rounding"]
    printing.replays([reordered])
    said = capsys.readouterr().out
    assert f"moves a meta-loss by {reordered['rounding']:.2g}\n1 records replay, 0 do not" in said
    write(equation, "3.9 * turned * (1 - turned)")
    other = replayed()
    assert "first updates are off" in other["reason"] and not other["rounding"], other
