"""`--help` and `--version` must be quick, so nothing heavy may be imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "numpy", "pandas", "scipy", "sklearn", "torchvision", "tqdm", "pebble"),
    "matplotlib",
)
PROGRAM = """
import sys
from vsml_bench.cli import main
try:
    main(sys.argv[1:])
finally:
    print("LOADED", *(name for name in {heavy} if name in sys.modules))
"""


def loaded(*arguments: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    shown, _, names = done.stdout.rpartition("LOADED")
    return shown, names.split()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["leaderboard", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    shown, names = loaded(*arguments)
    assert "vsml-bench" in shown and names == []


def test_neither_does_a_wrong_option() -> None:
    assert loaded("run", "--sute", "smoke")[1] == []


def test_the_check_can_fail() -> None:
    shown, names = loaded("list", "suites")
    assert "smoke" in shown and {"torch", "numpy"} <= set(names)
