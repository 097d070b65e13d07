"""Whatever a learner does to its process, it costs that learner alone, and every planned cell ends
with a record."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.odd import STAGES, odd
from tests.faults.runs import HONEST, assert_unharmed, begin, by_learner, run
from tests.harness import write_suite
from vsml_bench import api
from vsml_bench.evaluation.cell import Cell
from vsml_bench.evaluation.executors import LocalExecutor

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread", "quick_cards")

CRASHES = {
    "leaves with 0": "exit code 0",
    "leaves with 7": "exit code 7",
    "kills itself": "exit code -9",
    "segfaults": "exit code -11",
    "aborts": "exit code -6",
    "raises its own": "Own: mine",
    "raises without words": "Mute",
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
ENDS = ("exits with 0", "interrupts", "ends a generator")
"""Ways that Python means for whole programs."""


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


def test_what_ends_programs_ends_no_run(tmp_path: Path, alone: dict[str, Cell]) -> None:
    bad: list[Any] = [odd(tmp_path, stage, way) for stage in STAGES for way in ENDS]
    found, out = run(tmp_path, [*bad, *HONEST])
    assert found.code == 1
    cells = by_learner(out)
    assert_unharmed(cells, alone)
    assert {cells[name].status for name in set(cells) - {*HONEST}} == {"crashed"}
    assert len(cells) == len(STAGES) * len(ENDS) + len(HONEST)


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


def test_every_stage_has_limits(tmp_path: Path) -> None:
    """Of time without progress, and of memory."""
    ways = {"sleeps": "timeout", "stands still": "timeout", "allocates": "out_of_memory"}
    bad = [odd(tmp_path, stage, way) for stage in ("meta-training", "tuning") for way in ways]
    learners = [*bad, "chance"]
    suite = write_suite(
        tmp_path / "s.toml", ["digits-held-out"], learners, lifetimes=2, time_limit=40.0
    )
    executor = LocalExecutor(6, progress=False, memory=2 * 10**9)
    api.run(str(suite), out=tmp_path / "out", device="cpu", executor=executor)
    cells = by_learner(tmp_path / "out")
    assert cells.pop("chance").status == "ok"
    for name, cell in cells.items():
        (status,) = (s for way, s in ways.items() if name.startswith(way.replace(" ", "-")))
        assert cell.status == status, (name, cell.reason)
