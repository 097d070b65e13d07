"""Where results say they come from: exactly this commit, and whether the tree was as committed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.test_merging import cell as made
from vsml_bench import paths, provenance
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import save_cell

IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, a tag and another commit, in place of this one."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for text in ("one", "two"):
        (folder / "code.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", text)
        if text == "one":
            git(folder, "tag", "v1")
    monkeypatch.setattr(paths, "home", lambda: folder)
    return folder


def test_a_clean_tree_is_its_commit_and_not_the_nearest_tag(home: Path) -> None:
    assert provenance.git_state() == (git(home, "rev-parse", "HEAD"), False)
    assert git(home, "rev-parse", "v1") != git(home, "rev-parse", "HEAD")


@pytest.mark.parametrize("staged", [False, True])
def test_a_changed_file_makes_it_dirty(home: Path, staged: bool) -> None:
    (home / "code.py").write_text("three")
    if staged:
        git(home, "add", ".")
    assert provenance.git_state() == (git(home, "rev-parse", "HEAD"), True)


def test_a_deleted_file_makes_it_dirty(home: Path) -> None:
    (home / "code.py").unlink()
    assert provenance.git_state()[1] is True


def test_results_beside_the_code_do_not(home: Path) -> None:
    (home / "runs").mkdir()
    (home / "runs" / "cell.json").write_text("{}")
    assert provenance.git_state()[1] is False


def test_notes_of_replays_do_not_and_a_replay_can_go_on(home: Path) -> None:
    folder = home / "results" / "desk"
    names = [replays.name_of(save_cell(folder / "cells", made(name))) for name in ("one", "two")]
    replays.note(folder, {names[0]: (1, None)})
    git(home, "add", ".")
    git(home, "commit", "--quiet", "-m", "notes")
    for name in names:
        replays.note(folder, {name: (1, None)})
    assert not any(found.git_dirty for found in replays.read(folder).values())
    assert replays.by_this_code(folder, 1, None) == {*names}
    (folder / "cells" / "other.json").write_text("{}")
    git(home, "add", ".")
    assert provenance.git_state()[1] is True, "cells do"


def test_outside_a_checkout_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    assert provenance.git_state() == ("", False)


def test_somebody_elses_repository_around_the_package_is_not_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".gitignore").write_text(".venv\n")
    installed = home / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("ours")
    monkeypatch.setattr(paths, "home", lambda: installed)
    assert provenance.git_state() == ("", False)


def test_without_git_there_is_no_commit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home / "nowhere"))
    assert provenance.git_state() == ("", False)


def test_versions() -> None:
    versions = provenance.versions()
    assert versions["python"].count(".") == 2 and versions["torch"][0].isdigit()


def test_memory() -> None:
    """In a process of its own: this one may hold freed memory that a new block would reuse."""
    code = """
import os
from vsml_bench import provenance
provenance.reset_peak_memory()
before = provenance.peak_memory_bytes()
block = bytearray(os.urandom(1)) * 200_000_000
assert provenance.peak_memory_bytes() > before + 100_000_000
assert len(block) == 200_000_000
"""
    subprocess.run([sys.executable, "-c", code], check=True)
