"""Work in killable processes: each way to fail costs one task and leaves the others alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.executors import Failure, LocalExecutor, Task

Report = Callable[[float], None]


def fine(order: str, report: Report) -> str:
    report(0.5)
    return order.upper()


def loops_forever(order: str, report: Report) -> str:
    while True:
        pass


def is_killed(order: str, report: Report) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return order


def runs_out_of_memory(order: str, report: Report) -> str:
    raise MemoryError


def lacks_data(order: str, report: Report) -> str:
    raise UnavailableError("no data here")


def diverges(order: str, report: Report) -> str:
    raise DivergedError("loss nan")


def breaks(order: str, report: Report) -> str:
    raise ValueError("wrong shape")


def refuses(order: str, report: Report) -> str:
    raise VsmlBenchError("bad input")


def task(function: Callable[..., Any], limit: float | None = None, seconds: float = 1.0) -> Task:
    name = function.__name__
    return Task(f"{name} {seconds:g}", f"{__name__}:{name}", (name,), limit, seconds)


def run(tasks: list[Task], jobs: int) -> dict[str, Any]:
    return dict(LocalExecutor(jobs, progress=False).run(tasks, "test"))


def test_every_failure_has_its_status_and_siblings_finish() -> None:
    failures = {
        loops_forever: Failure("timeout", "killed after its time limit of 3 s"),
        is_killed: Failure("crashed", "its process ended with exit code -9"),
        runs_out_of_memory: Failure("out_of_memory", "out of memory"),
        lacks_data: Failure("unavailable", "no data here"),
        diverges: Failure("diverged", "loss nan"),
        breaks: Failure("crashed", "ValueError: wrong shape"),
        refuses: Failure("crashed", "bad input"),
    }
    tasks = [task(function, 3.0 if function is loops_forever else None) for function in failures]
    results = run([*tasks, task(fine)], jobs=2)
    expected = {f"{function.__name__} 1": failure for function, failure in failures.items()}
    assert results == {**expected, "fine 1": "FINE"}


def what_is_seen(order: str, report: Report) -> tuple[int, int, int, str]:
    began = time.monotonic_ns()
    return began, time.monotonic_ns(), os.getpid(), os.environ["VSML_TEST_ENVIRONMENT"]


def test_one_job_is_one_process_after_the_other_the_longest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All see today's environment, whatever it was when the first process of all was begun."""
    monkeypatch.setenv("VSML_TEST_ENVIRONMENT", "of this test")
    found = run([task(what_is_seen, seconds=seconds) for seconds in (1.0, 3.0, 2.0)], jobs=1)
    order = sorted(found, key=found.__getitem__)
    assert order == ["what_is_seen 3", "what_is_seen 2", "what_is_seen 1"]
    seen = [found[name] for name in order]
    assert all(one[1] < next_[0] for one, next_ in pairwise(seen))
    assert len({process for _, _, process, _ in seen} - {os.getpid()}) == 3
    assert {environment for *_, environment in seen} == {"of this test"}


def test_no_tasks_no_processes() -> None:
    assert run([], 2) == {}


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(VsmlBenchError, match="jobs: expected at least 1 process, found 0"):
        LocalExecutor(0)
