"""Whatever a learner does to its process, it costs that learner alone, and every planned cell ends
with a record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ask
from tests.faults.odd import HEAD, STAGES, odd
from tests.harness import (
    LEARNER,
    Outcome,
    call,
    install,
    refusal,
    write,
    write_split,
    write_suite,
)
from vsml_bench import cards
from vsml_bench.evaluation.cell import Cell, load_cells

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

HONEST = ("chance", "ridge", "majority", "1-nn")
CRASHES = {
    "leaves with 7": "exit code 7",
    "kills itself": "exit code -9",
    "segfaults": "exit code -11",
    "aborts": "exit code -6",
    "raises its own": "Own: mine",
    "raises without words": "no words",
    "raises hostilely": "Hostile",
    "writes to a dead child": "BrokenPipeError: no reader",
    "stops an iteration": "StopIteration",
    "recurses": "RecursionError",
}
"""Ways that end a cell with `crashed`, and what the reason says."""
OTHERS = {
    "is out of memory": "out_of_memory",
    "asks for too much": "out_of_memory",
    "sleeps": "timeout",
    "holds the GIL": "timeout",
    "stands still": "timeout",
    "ignores signals": "timeout",
}
"""Other ways -> status."""
FINISH = ("patches the harness", "changes settings", "leaves a thread", "closes files")
"""Ways after which a cell may be finished or not, which is its own business."""
ENDS = ("exits with 0", "exits with words", "interrupts", "ends a generator")
"""Ways that Python means for whole programs."""


@pytest.fixture(autouse=True)
def quick_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cards, "_ask", ask)


def run(folder: Path, learners: list[Any], jobs: int = 2, **suite: Any) -> tuple[Outcome, Path]:
    out = folder / "out"
    file = write_suite(
        folder / "s.toml", ["digits-held-out"], learners, lifetimes=2, time_limit=15.0, **suite
    )
    found = call("run", "--suite", file, "--out", out, "--jobs", jobs, "--device", "cpu", "--json")
    return found, out


def by_learner(out: Path) -> dict[str, Cell]:
    return {cell.plan.learner: cell for cell in load_cells(out / "cells")[0]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """The honest learners without company."""
    found, out = run(tmp_path_factory.mktemp("alone"), list(HONEST))
    assert found.code == 0, found
    return by_learner(out)


def assert_unharmed(beside: dict[str, Cell], alone: dict[str, Cell]) -> None:
    for name in HONEST:
        assert beside[name].status == "ok", beside[name].reason
        assert beside[name].outcomes == alone[name].outcomes, name


@pytest.mark.parametrize("last", [False, True], ids=["honest first", "honest last"])
def test_a_cell_that_goes_wrong_costs_itself_alone(
    last: bool, tmp_path: Path, alone: dict[str, Cell]
) -> None:
    ways = [*CRASHES, *OTHERS, *FINISH]
    bad: list[Any] = [odd(tmp_path, "prediction", way) for way in ways]
    found, out = run(tmp_path, [*bad, *HONEST] if last else [*HONEST, *bad], jobs=6)
    assert found.code == 1
    cells = by_learner(out)
    assert len(cells) == len(ways) + len(HONEST) == len(found.json["cells"])
    assert_unharmed(cells, alone)
    for way, words in CRASHES.items():
        cell = cells[f"{way}-prediction".replace(" ", "-")]
        assert cell.status == "crashed" and words in cell.reason, (way, cell.reason)
    for way, status in OTHERS.items():
        cell = cells[f"{way}-prediction".replace(" ", "-")]
        assert cell.status == status, (way, cell.reason)


@pytest.mark.xfail(strict=True, reason="an exit code of 0 is waited for until the time is up")
def test_a_process_that_leaves_with_0_has_crashed(tmp_path: Path) -> None:
    _, out = run(tmp_path, [odd(tmp_path, "prediction", "leaves with 0")])
    (cell,) = by_learner(out).values()
    assert cell.status == "crashed" and "exit code 0" in cell.reason


@pytest.mark.xfail(strict=True, reason="SystemExit and its like are raised in the main process")
@pytest.mark.parametrize("way", ENDS)
def test_what_ends_programs_ends_no_run(way: str, tmp_path: Path, alone: dict[str, Cell]) -> None:
    bad: list[Any] = [odd(tmp_path, stage, way) for stage in STAGES]
    found, out = run(tmp_path, [*bad, *HONEST])
    assert found.code == 1
    cells = by_learner(out)
    assert_unharmed(cells, alone)
    assert {cells[name].status for name in set(cells) - {*HONEST}} == {"crashed"}
    assert len(cells) == len(STAGES) + len(HONEST)


def begin(*arguments: object, to: Any, err: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vsml_bench", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=to,
        stderr=err,
        text=True,
    )


@pytest.mark.xfail(strict=True, reason="the thread that takes results dies of what it unpickles")
def test_an_exception_that_is_known_to_the_learner_alone(tmp_path: Path) -> None:
    """What no other process can rebuild. Where the run is lost, its first traceback ends the test,
    since the run itself would never end."""
    bad = [
        odd(tmp_path, "prediction", "raises no Exception"),
        odd(tmp_path, "meta-training", "raises its own"),
        odd(tmp_path, "tuning", "raises its own"),
    ]
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [*bad, "chance"], lifetimes=2)
    run_it = ("run", "--suite", suite, "--out", tmp_path / "out", "--json")
    with begin(*run_it, to=subprocess.PIPE, err=subprocess.PIPE) as process:
        assert process.stderr is not None and process.stdout is not None
        try:
            for line in process.stderr:
                assert "Traceback" not in line, "the run is lost"
            cells = {c["learner"]: c["status"] for c in json.loads(process.stdout.read())["cells"]}
        finally:
            process.kill()
    assert cells.pop("chance") == "ok" and list(cells.values()) == ["crashed"] * 3


@pytest.mark.xfail(strict=True, reason="results of worker processes are pickles")
def test_what_a_learners_process_sends_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "executed"
    monkeypatch.setenv("VSML_TEST_MARK", str(mark))
    found, out = run(tmp_path, [odd(tmp_path, "meta-training", "raises hostilely"), "chance"])
    assert not mark.exists()
    assert found.code == 1 and sorted(c.status for c in by_learner(out).values()) == [
        "crashed",
        "ok",
    ]


@pytest.mark.parametrize(
    ("field", "value", "way", "status"),
    [
        ("ready_limit", 5.0, "sleeps", "timeout"),
        ("ready_limit", 5.0, "stands still", "timeout"),
        ("memory_limit", 2 * 10**9, "allocates", "out_of_memory"),
    ],
)
@pytest.mark.parametrize("stage", ["meta-training", "tuning"])
@pytest.mark.xfail(strict=True, reason="only meta-tests have a limit of time, and none of memory")
def test_every_stage_has_limits(
    field: str, value: float, way: str, status: str, stage: str, tmp_path: Path
) -> None:
    """The field that sets one is first asked for, since without it nothing would end."""
    probe = write_suite(tmp_path / "p.toml", ["digits-held-out"], ["chance"])
    limit = f"{field} = {value}\n"
    probe.write_text(probe.read_text() + limit)
    assert call("plan", "--suite", probe).code == 0
    found, out = run(tmp_path, [odd(tmp_path, stage, way), "chance"], more=limit)
    assert found.code == 1
    cells = by_learner(out)
    assert cells.pop("chance").status == "ok"
    assert [cell.status for cell in cells.values()] == [status]


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


@pytest.mark.xfail(strict=True, reason="workers write to the standard output of the run")
def test_what_learners_print_is_not_in_the_output(left: Left) -> None:
    assert len(json.loads(left.out)["cells"]) == 2
    assert "a clue" not in left.err


@pytest.mark.xfail(strict=True, reason="what a worker printed is not kept")
def test_the_last_words_of_a_crash_are_in_its_record_and_are_few(left: Left) -> None:
    reason = left.cells["leaves and dies"].reason
    assert "exit code 3" in reason and "and more" in reason and len(reason) < 5_000


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.xfail(strict=True, reason="children of workers outlive them")
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
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and work not in path.parents]
    assert all("cache" in path.parts for path in outside)
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
    assert why == ("reads", "runs")


@pytest.mark.parametrize("kind", ["float64", "exits"])
@pytest.mark.xfail(strict=True, reason="every worker imports all learners that are installed")
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


@pytest.mark.xfail(strict=True, reason="these verbs run the learner in the main process")
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
