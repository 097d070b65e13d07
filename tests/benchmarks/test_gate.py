"""`make asv-compare` lets an unchanged commit pass and fails on one that is slower."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vsml_bench import paths

BENCHMARK = "online.Online.time_run.*gpicl"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
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


@pytest.mark.timed
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
    both_times = slower.stdout.count("PERFORMANCE DECREASED")
    assert both_times == 2, slower.stdout + slower.stderr


NOISE = r"""#!/bin/sh
# asv for whom something is slower in the first run, and in the second one if ALWAYS is set
echo "$@" >> calls
if [ "$(wc -l < calls)" -gt 1 ] && [ -z "$ALWAYS" ]; then exit 0; fi
echo "| Change   | Before [a] <main~1>   | After [b] <main>   |   Ratio | Benchmark |"
echo "|----------|-----------------------|--------------------|---------|-----------|"
echo "| +        | 161±10ms | 217±10ms | 1.35 | few.Shot.time_run('vsml-deep', 64) |"
echo "| -        | 161±10ms | 100±10ms | 0.62 | few.Shot.time_run('gpicl', 64)     |"
exit 1
"""


@pytest.mark.parametrize("always", [False, True])
def test_what_seems_slower_is_measured_again_by_itself(
    always: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asv").write_text(NOISE, encoding="utf-8")
    (tmp_path / "asv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(paths.home()))
    monkeypatch.setenv("ALWAYS", "1" if always else "")
    options = ("--bench", "online", "--factor", "2", "a", "b")
    done = run(tmp_path, sys.executable, "-m", "benchmarks.asv", "compare", *options)
    assert done.returncode == int(always), done.stdout + done.stderr
    first, second = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert first == "continuous --interleave-rounds --bench online --factor 2 a b"
    pattern = second.split()[3] + " " + second.split()[4]  # the name has a space
    assert re.search(pattern.replace("\\ ", " "), "few.Shot.time_run('vsml-deep', 64)")
    assert not re.search(pattern, "few.Shot.time_run('gpicl', 64)")
