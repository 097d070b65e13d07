"""What a learner's process leaves, prints, is called and imports stays with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.odd import HEAD, odd
from tests.faults.runs import HONEST, assert_unharmed, begin, by_learner, run
from tests.harness import LEARNER, call, install, refusal, write, write_split, write_suite
from vsml_bench.evaluation.cell import Cell

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread", "quick_cards")

LEAVES = (
    HEAD
    + """
def leaves(detached):
    pid = os.fork()
    if pid == 0:
        if detached:
            os.setsid()
        time.sleep(600)
        os._exit(0)
    with open(os.environ["VSML_TEST_PIDS"], "a") as pids:
        print(pid, file=pids)


class Leaves(Base):
    variants = {"leaves": Config("leaves"), "leaves and dies": Config("dies")}

    def predict(self, state, inputs):
        if state.steps.max() == 10 and not READING:
            for detached in (False, True):
                leaves(detached)
            print("{[ garbage", flush=True)
            print("a clue" + 100_000 * " and more", file=sys.stderr, flush=True)
            if self.config.how == "dies":
                os._exit(3)
        return super().predict(state, inputs)
"""
)


@dataclass(frozen=True)
class Left:
    """What a run wrote, and the processes that its learners began."""

    out: str
    err: str
    pids: tuple[int, ...]
    cells: dict[str, Cell]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("left")
    file = write(folder / "leaves.py", LEAVES)
    suite = write_suite(folder / "s.toml", ["digits-held-out"], [file], lifetimes=2)
    out, err = folder / "stdout", folder / "stderr"  # no pipes, which what is left would hold open
    with pytest.MonkeyPatch.context() as patch, out.open("w") as to, err.open("w") as errors:
        patch.setenv("VSML_TEST_PIDS", str(folder / "pids"))
        begin("run", "--suite", suite, "--out", folder / "out", "--json", to=to, err=errors).wait()
    pids = tuple(int(pid) for pid in (folder / "pids").read_text().split())
    yield Left(out.read_text(), err.read_text(), pids, by_learner(folder / "out"))
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def test_the_one_ends_well_and_the_other_does_not(left: Left) -> None:
    assert {name: cell.status for name, cell in left.cells.items()} == {
        "leaves": "ok",
        "leaves and dies": "crashed",
    }


def test_what_learners_print_is_not_in_the_output(left: Left) -> None:
    assert len(json.loads(left.out)["cells"]) == 2
    assert "a clue" not in left.err


def test_the_last_words_of_a_crash_are_in_its_record_and_are_few(left: Left) -> None:
    reason = left.cells["leaves and dies"].reason
    assert "exit code 3" in reason and "and more" in reason and len(reason) < 5_000


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_no_process_outlives_a_run(left: Left) -> None:
    assert len(left.pids) >= 4
    assert not [pid for pid in left.pids if is_alive(pid)]


NAMED = (
    LEARNER
    + """
class Named(Base):
    variants = {NAME: Config("")}
"""
)


@pytest.mark.parametrize(
    "name", ["../../X", "/tmp/../X", "..", ".", "a/b", "a\\b", "~/X", "-x", "x\ny", "", " "]
)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    work = tmp_path / "one" / "two" / "work"
    file = write(work / "named.py", NAMED.replace("NAME", repr(name)))
    found, out = run(work, [file])
    assert found.code in (0, 2), found
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and work not in path.parents]
    inside = {p for p in work.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    extra = {p for p in inside if p.parent != out / "cells"} - {file, work / "s.toml"}
    assert not extra


@pytest.mark.parametrize("key", ["suite", "split"])
@pytest.mark.parametrize("name", ["../../X", "/tmp/X", ".."])
def test_files_name_themselves(key: str, name: str, tmp_path: Path) -> None:
    """A `name` inside is refused, so that none can lead out of a folder."""
    line = f'name = "{name}"\n'
    split = write_split(tmp_path / "mine.toml")
    suite = write_suite(tmp_path / "s.toml", [split], ["chance"])
    which = suite if key == "suite" else split
    which.write_text(line + which.read_text())
    refusal(call("run", "--suite", suite, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


IMPORTED = (
    HEAD
    + """
with open(os.environ["VSML_TEST_PIDS"], "a") as log:
    print(os.getpid(), "reads" if READING else "runs", file=log)


class Mine(Base):
    variants = {"mine": Config("")}
"""
)


def test_a_learner_is_imported_by_its_own_processes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSML_TEST_PIDS", str(tmp_path / "pids"))
    file = write(tmp_path / "mine.py", IMPORTED)
    _, out = run(tmp_path, ["chance", file, "majority"])
    suite = tmp_path / "s.toml"
    for verb in (("plan",), ("leaderboard", "--results", out)):
        assert call(*verb, "--suite", suite).code == 0
    assert call("explain", file).code == 0
    pids, why = zip(*map(str.split, (tmp_path / "pids").read_text().splitlines()), strict=True)
    assert str(os.getpid()) not in pids
    # its card; its cell, in which the contract is checked; and a witness of its audit
    assert why == ("reads", "runs", "runs", "runs")


@pytest.mark.parametrize("kind", ["float64", "exits"])
def test_an_installed_learner_changes_no_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, Cell]
) -> None:
    way = {"float64": "changes settings", "exits": "exits with 0"}[kind]
    text = (
        HEAD
        + f"""
goes({way!r})
class Mine(Base):
    variants = {{"{kind}-mine": Config("")}}
"""
    )
    name = f"stranger_{kind}"
    site = install(tmp_path / "site", name, text, learners=f"mine = {name}")
    monkeypatch.syspath_prepend(site)
    _, out = run(tmp_path, [*HONEST, f"{kind}-mine"])
    assert_unharmed(by_learner(out), alone)


@pytest.mark.parametrize("way", ["exits with 0", "interrupts", "raises no Exception"])
@pytest.mark.parametrize(
    ("stage", "verb"),
    [
        ("import", ("check",)),
        ("fresh state", ("check",)),
        ("meta-training", ("meta-train", "--split", "digits-held-out", "--quiet", "--learner")),
    ],
)
def test_no_verb_ends_well_where_its_learner_did_not(
    stage: str, verb: tuple[str, ...], way: str, tmp_path: Path
) -> None:
    file = odd(tmp_path, stage, way)
    assert call(*verb, file).code in (1, 2)
