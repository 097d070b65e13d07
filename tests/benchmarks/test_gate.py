"""`make asv-compare` lets an unchanged commit pass and fails on one that is slower."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vsml_bench import paths

BENCHMARK = "online.Online.time_run.*gpicl"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HOME": str(folder.parent),  # where asv keeps what it knows of machines
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{
            f"GIT_{who}_{what}": "test@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def commit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    done = run(folder, "git", "commit", "--quiet", "--all", "--message", "a change")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with a commit of its own that holds the working tree, and the environment the tests
    run in."""
    if not (paths.home() / ".git").exists():
        pytest.skip("needs a git checkout")
    folder = tmp_path / "checkout"
    done = run(tmp_path, "git", "clone", "--quiet", str(paths.home()), str(folder))
    assert done.returncode == 0, done.stderr
    for name in ("benchmarks", "vsml_bench", "baselines"):
        shutil.copytree(paths.home() / name, folder / name, dirs_exist_ok=True)
    for name in ("Makefile", "asv.conf.json"):
        shutil.copy(paths.home() / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "the working tree")
    return folder


def test_gate(checkout: Path) -> None:
    gate = (
        "make",
        "--assume-old=.venv/.installed",
        "asv-compare",
        "BASE=HEAD~1",
        f"BENCH={BENCHMARK}",
        "FACTOR=2",
    )
    commit(checkout, "baselines/gpicl.py", '"""GPICL: ', '"""GPICL, ')
    unchanged = run(checkout, *gate)
    if "No matching distribution" in unchanged.stdout + unchanged.stderr:
        pytest.skip("asv cannot make an environment: no package index")
    assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr
    assert "BENCHMARKS NOT SIGNIFICANTLY CHANGED" in unchanged.stdout

    work = "        layers, blocks = state.layers, []\n"
    commit(checkout, "baselines/gpicl.py", work, work + "        sum(range(10_000_000))\n")
    slower = run(checkout, *gate)
    assert slower.returncode != 0
    assert "PERFORMANCE DECREASED" in slower.stdout, slower.stdout + slower.stderr
