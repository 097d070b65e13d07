"""Claims of work, and what processes that are gone have left."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from vsml_bench import owners
from vsml_bench.owners import Claim, is_abandoned, kept, sweep, temporary_name


def ended() -> str:
    """The word for a process of this machine that has ended."""
    program = "from vsml_bench.owners import own; print(own())"
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def elsewhere() -> str:
    return "0123456789ab-1-1"


def reused() -> str:
    """A process with the number of this one, which began at another time."""
    return f"{owners.own().rpartition('-')[0]}-1"


def test_one_of_many_takes_a_claim(tmp_path: Path) -> None:
    taken: list[bool] = []
    claims = [Claim(tmp_path / "cell.json") for _ in range(16)]
    threads = [threading.Thread(target=lambda c=c: taken.append(c.take())) for c in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 15 + [True]
    assert sum(not claim.is_others() for claim in claims) == 1
    for claim in claims:
        claim.release()
    assert not list(tmp_path.iterdir())


def test_a_claim_is_taken_again_after_it_was_given_back_and_not_after_the_work_is_done(
    tmp_path: Path,
) -> None:
    one, other, late = (Claim(tmp_path / "cell.json") for _ in range(3))
    with kept([one]):
        assert one.take() and one.take() and not other.take()
    assert other.take()
    (tmp_path / "cell.json").write_text("{}")
    other.release()
    assert not late.take() and late.is_done() and not late.is_others()
    assert Claim(tmp_path / "cell.json").take()  # who wants it made anew


@pytest.mark.parametrize("owner", [ended, reused])
def test_a_claim_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, owner: object) -> None:
    claim = Claim(tmp_path / "cell.json")
    claim.path.write_text(f"{owner()}.0123")  # type: ignore[operator]
    assert not claim.is_others() and claim.take()


@pytest.mark.parametrize("text", [f"{elsewhere()}.0123", "", "torn"])
def test_a_claim_that_nothing_is_known_of_lasts_while_it_is_young(
    tmp_path: Path, text: str
) -> None:
    claim = Claim(tmp_path / "cell.json")
    claim.path.write_text(text)
    assert claim.is_others() and not claim.take()
    os.utime(claim.path, (0, 0))
    assert not claim.is_others() and claim.take()


def test_what_living_processes_and_people_own_is_not_swept(tmp_path: Path) -> None:
    kept_ = [temporary_name(".tmp"), "cell.json", ".hidden", f".{elsewhere()}.0123.tmp"]
    gone = [f".{ended()}.0123.tmp", f".{reused()}.0123.tmp", ".old.tmp"]
    for name in (*kept_, *gone):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".old.tmp", (0, 0))
    folder = tmp_path / f".{ended()}.fetch-0123.tmp"
    (folder / "got").mkdir(parents=True)
    dead = Claim(tmp_path / "a.json").path
    dead.write_text(f"{ended()}.0123")
    alive = Claim(tmp_path / "b.json")
    assert alive.take()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept_, alive.path.name}
    sweep(tmp_path / "absent")


def test_no_claim_is_taken_over_while_it_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Claim(tmp_path / "a.json").path.write_text(f"{ended()}.0123")
    folder = os.open(tmp_path, os.O_RDONLY)  # which `Claim.take` locks

    def judged(path: Path, owner: str) -> bool:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return is_abandoned(path, owner)

    monkeypatch.setattr(owners, "is_abandoned", judged)
    sweep(tmp_path)
    os.close(folder)
    assert not list(tmp_path.iterdir())


KILLED = """
import os
from vsml_bench.owners import temporary_folder

with temporary_folder() as folder:
    (folder / "file").touch()
    print(folder.name, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_temporary_folder_goes_with_its_process_or_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = {"vsml-bench-0", "vsml-bench-kernel-x", f"vsml-bench-{elsewhere()}.0123"}
    for name in others:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (tmp_path / killed.stdout.strip() / "file").is_file() and killed.returncode == -9
    with owners.temporary_folder() as folder, owners.temporary_folder() as second:
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, second.name, *others}
    assert {path.name for path in tmp_path.iterdir()} == others


def test_owners_name_neither_host_nor_user() -> None:
    assert re.fullmatch("[0-9a-f]{12}-[0-9]+-[0-9]+", owners.own())
