"""Runs of honest learners and others side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness import Outcome, call, write_suite
from vsml_bench.evaluation.cell import Cell, load_cells

HONEST = ("chance", "ridge", "majority", "1-nn")


def run(folder: Path, learners: list[Any], jobs: int = 2, **suite: Any) -> tuple[Outcome, Path]:
    out = folder / "out"
    file = write_suite(
        folder / "s.toml", ["digits-held-out"], learners, lifetimes=2, time_limit=15.0, **suite
    )
    found = call("run", "--suite", file, "--out", out, "--jobs", jobs, "--device", "cpu", "--json")
    return found, out


def by_learner(out: Path) -> dict[str, Cell]:
    return {cell.plan.learner: cell for cell in load_cells(out / "cells")[0]}


def assert_unharmed(beside: dict[str, Cell], alone: dict[str, Cell]) -> None:
    for name in HONEST:
        assert beside[name].status == "ok", beside[name].reason
        assert beside[name].outcomes == alone[name].outcomes, name


def begin(*arguments: object, to: Any, err: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vsml_bench", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=to,
        stderr=err,
        text=True,
    )
