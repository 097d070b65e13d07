"""What must be quick imports nothing heavy: `--help` next to nothing, and what shows what there is
neither PyTorch nor a learner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    *("torch", "numpy", "pandas", "scipy", "sklearn", "torchvision", "rich", "psutil"),
    "altair",
)
PROGRAM = """
import sys
from vsml_bench.cli import main
try:
    main(sys.argv[1:])
finally:
    print("LOADED", *sys.modules)
"""


def loaded(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the modules that its process has imported in the end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    shown, _, names = done.stdout.rpartition("LOADED")
    return shown, set(names.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["leaderboard", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    shown, names = loaded(*arguments)
    assert "vsml-bench" in shown and names.isdisjoint(HEAVY)


def test_neither_does_a_wrong_option() -> None:
    assert loaded("run", "--sute", "smoke")[1].isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "learners"],
        ["list", "datasets"],
        ["plan", "--suite", "desk"],
        ["leaderboard", "--suite", "desk"],
        ["explain", "vsml"],
        ["explain", "desk"],
    ],
    ids=" ".join,
)
def test_what_shows_what_there_is_needs_no_torch_and_no_learner(arguments: list[str]) -> None:
    shown, names = loaded(*arguments)
    assert shown.strip() and "vsml_bench.cards" in names
    assert "torch" not in names and learners(names) == set()


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """Checkpoints are read with PyTorch."""
    shown, names = loaded("verify", str(tmp_path))
    assert "0 files intact" in shown and {"torch", "numpy"} <= names
    assert learners(names)


def learners(modules: set[str]) -> set[str]:
    """Those that define learners, or what learners are."""
    own = {"vsml_bench.learner", "vsml_bench.registry"}
    return {
        name
        for name in modules
        if name in own or name.startswith(("vsml_bench_plugin_", "vsml_bench.vsml"))
    }
