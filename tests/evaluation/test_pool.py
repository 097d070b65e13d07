"""Work in killable processes: each way to fail costs one task and leaves the others alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from vsml_bench.errors import DivergedError, UnavailableError
from vsml_bench.evaluation.pool import Failure, Task, run_tasks

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


def test_every_failure_has_its_status_and_siblings_finish():
    functions = {
        loops_forever: "timeout",
        is_killed: "crashed",
        runs_out_of_memory: "out_of_memory",
        lacks_data: "unavailable",
        diverges: "diverged",
        breaks: "crashed",
        fine: None,
    }
    tasks = [
        Task(function.__name__, function, 4.0 if status == "timeout" else None, 1.0)
        for function, status in functions.items()
    ]
    results = dict(run_tasks(tasks, jobs=2, title="test", progress=False))
    assert set(results) == {function.__name__ for function in functions}
    for function, status in functions.items():
        result = results[function.__name__]
        if status is None:
            assert result == "FINE"
        else:
            assert isinstance(result, Failure) and result.status == status
            assert result.reason
    assert results["loops_forever"].reason == "killed after its time limit of 4 s"
    assert "wrong shape" in results["breaks"].reason


def when_started(order: str, report: Report) -> int:
    return time.monotonic_ns()


def test_longest_first():
    tasks = [Task(str(seconds), when_started, None, seconds) for seconds in (1.0, 3.0, 2.0)]
    started = dict(run_tasks(tasks, 1, "test", progress=False))
    assert sorted(started, key=started.__getitem__) == ["3.0", "2.0", "1.0"]


def test_no_tasks_no_processes():
    assert list(run_tasks([], 2, "test", progress=False)) == []
