"""Schedules worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.test_executors import breaks, fine
from tests.harness import call, refusal
from vsml_bench import paths
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.makespan import longest_chain, makespan
from vsml_bench.evaluation.tasks import Failure, Task, chains


def work(key: str, hours: float, *after: str) -> Task:
    return Task(key, "", (), None, hours * 3600, key=key, after=after)


TASKS = [
    work("train", 4.0),
    work("cell of it", 1.0, "train"),
    work("another of it", 2.0, "train"),
    work("long", 3.0),
    work("short", 2.0),
    work("of what is done", 1.0, "a training that is there"),
]


def test_a_task_counts_with_what_waits_for_it() -> None:
    assert [seconds / 3600 for seconds in chains(TASKS)] == [6.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    assert [task.key for task in longest_chain(TASKS)] == ["train", "another of it"]
    assert longest_chain([]) == []


def test_hours_of_so_many_workers() -> None:
    """Two: train until 4 beside long until 3, then short until 5; another of it 4 to 6; of two that
    take an hour one 5 to 6, and the other 6 to 7."""
    found = [makespan(TASKS, workers) for workers in (1, 2, 3, 100)]
    assert [each.hours for each in found] == [13.0, 7.0, 6.0, 6.0]
    assert [each.worker_hours for each in found] == [13.0, 14.0, 18.0, 600.0]
    assert [each.busy for each in found] == [1.0, 13 / 14, 13 / 18, 13 / 600]
    assert makespan([], 3).hours == 0.0


def test_the_plan_says_what_so_many_workers_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the times of published cells: VSML's on a GPU are a hundredth of those on a CPU."""
    (tmp_path / "precision").mkdir()
    (tmp_path / "precision/cells").symlink_to(paths.results() / "precision/cells")
    monkeypatch.setattr(paths, "results", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["plan", "--suite", "smoke", "--learner", "vsml", "--workers", "1,2,64"]
    cpu, gpu = call(*command, "--json").json, call(*command, "--gpu", "h200", "--json").json
    assert [each["workers"] for each in cpu["makespans"]] == [1, 2, 64]
    hours = [each["hours"] for each in cpu["makespans"]]
    assert hours[0] > hours[1] >= hours[2]
    # two splits and two seeds, which share a meta-training each
    assert (cpu["tasks"], cpu["unknown"], len(cpu["chain"])) == (6, 0, 2)
    assert hours[2] == pytest.approx(sum(task["seconds"] for task in cpu["chain"]) / 3600)
    assert gpu["device"].startswith("NVIDIA H200") and gpu["makespans"][0]["hours"] < hours[0]
    assert "Longest chain" in call(*command).out
    assert "NVIDIA H200" in refusal(call(*command, "--gpu", "h2000"))
    assert "number from 1 on" in refusal(call("plan", "--suite", "smoke", "--workers", "0"))
    assert "number from 1 on" in refusal(call("plan", "--suite", "smoke", "--workers", "many"))


def test_what_waits_is_begun_after_what_it_waits_for_or_not_at_all() -> None:
    def task(function: object, key: str, *after: str) -> Task:
        name = getattr(function, "__name__", "")
        return Task(key, f"{fine.__module__}:{name}", (key,), None, 1.0, key=key, after=after)

    tasks = [
        task(breaks, "first"),
        task(fine, "second", "first"),
        task(fine, "third", "second"),
        task(fine, "other", "what is done"),
        task(fine, "last", "other"),
    ]
    found = list(LocalExecutor(2, progress=False).run(tasks, ""))
    failure = Failure("crashed", "ValueError: wrong shape")
    results: dict[str, object] = dict(found)
    assert results.pop("other") == "OTHER" and results.pop("last") == "LAST"
    assert results == dict.fromkeys(("first", "second", "third"), failure)
    order = [what for what, _ in found]
    assert order.index("other") < order.index("last")
