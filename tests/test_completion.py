"""Completion in shells, by argcomplete's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vsml_bench import cli, completion, registry


def complete(line: str, folder: Path) -> tuple[list[str], str]:
    """What a shell is told, and the modules that were imported for it."""
    told = folder / "told"
    protocol = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vsml_bench"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **protocol},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "" and "Traceback" not in done.stderr
    return [word.strip() for word in told.read_text("utf-8").splitlines()], done.stderr


CASES = {
    "vsml-bench ": list(cli.VERBS),
    "vsml-bench run --pol": ["--policy"],
    "vsml-bench leaderboard --suite sm": ["smoke"],
    "vsml-bench plan --suite smoke --split digits-to": ["digits-to-random"],
    "vsml-bench run --suite smoke --add-learner m": ["majority", "maml", "mine.py"],
    "vsml-bench data fetch km": ["kmnist"],
    "vsml-bench explain digits-h": ["digits-held-out"],
}


@pytest.mark.parametrize("line", CASES)
def test_words_are_completed_without_pytorch(line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    words, imported = complete(line, tmp_path)
    assert set(words) >= set(CASES[line])
    assert all(word.startswith(line.rpartition(" ")[2]) for word in words)
    modules = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "argcomplete" in modules and "torch" not in modules


def test_all_learners_are_offered() -> None:
    assert set(completion.learner_names()) == set(registry.learners())


def test_shells_that_ask_every_program_find_the_mark() -> None:
    assert "PYTHON_ARGCOMPLETE_OK" in Path(cli.__file__).read_text("utf-8")[:1024]
