"""Work in killable processes: each way to fail costs one task and leaves the others alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.tasks import Failure, Task
from vsml_bench.orphans import STARTED_BY

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


class Own(BaseException):
    """Nobody else can import it where its module is a learner's."""


class Hostile(Exception):
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)

    def __str__(self) -> str:
        raise RuntimeError("no words")


def exits(order: str, report: Report) -> str:
    sys.exit(0)


def interrupts(order: str, report: Report) -> str:
    raise KeyboardInterrupt


def raises_its_own(order: str, report: Report) -> str:
    raise Own("mine")


def raises_hostilely(order: str, report: Report) -> str:
    raise Hostile


def returns_hostilely(order: str, report: Report) -> Any:
    return Hostile()


def leaves_at_once(order: str, report: Report) -> str:
    print("goodbye", flush=True)
    os._exit(0)


def kills_its_group(order: str, report: Report) -> str:
    os.killpg(0, signal.SIGKILL)
    return order


def closes_all(order: str, report: Report) -> str:
    os.closerange(0, 256)
    os._exit(3)


def stands_still(order: str, report: Report) -> str:
    report(0.5)
    os.kill(os.getpid(), signal.SIGSTOP)
    return order


def leaves_a_thread(order: str, report: Report) -> str:
    threading.Thread(target=time.sleep, args=(10_000,)).start()
    return order


def prints_much(order: str, report: Report) -> str:
    for _ in range(1_000):
        print("x" * 100_000)
    return order


def prints_forever(order: str, report: Report) -> str:
    while True:
        os.write(1, b"x" * 1_000_000)


def allocates(order: str, report: Report) -> str:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)) * 64)


def sleeping() -> int:
    """A child that sleeps."""
    child = os.fork()
    if not child:
        time.sleep(10_000)
    return child


def shares_its_memory(order: str, report: Report) -> str:
    """With three children, until it has been looked at twice: more does not fit into the pipe."""
    kept = bytearray(os.urandom(1 << 20)) * 512
    children = [sleeping() for _ in range(3)]
    os.write(1, b"x" * 4_000_000)
    return f"{order} {len(kept) >> 20} {len(children)}"


def leaves_children(order: str, report: Report) -> list[int]:
    """One child, and one that has left the session and lost its parent."""
    child = sleeping()
    reader, writer = os.pipe()
    if not os.fork():
        os.setsid()
        os.write(writer, str(sleeping()).encode())
        os._exit(0)
    return [child, int(os.read(reader, 16))]


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
        exits: Failure("crashed", "SystemExit: 0"),
        interrupts: Failure("crashed", "KeyboardInterrupt: "),
        raises_its_own: Failure("crashed", "Own: mine"),
        raises_hostilely: Failure("crashed", "Hostile: (its text cannot be made: RuntimeError)"),
        returns_hostilely: Failure(
            "crashed", "its process sent no result, but posix._exit, which is not plain data"
        ),
        leaves_at_once: Failure(
            "crashed", "its process ended with exit code 0; its last words: goodbye"
        ),
        kills_its_group: Failure("crashed", "its process ended with exit code -9"),
        closes_all: Failure("crashed", "its process ended with exit code 3"),
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


def test_work_without_progress_is_killed_and_other_work_is_not() -> None:
    slow = replace(task(fine), stall_limit=20.0)
    stalled = replace(task(stands_still), stall_limit=20.0)
    failure = Failure("timeout", "killed after 20 s without progress")
    assert run([slow, stalled], 2) == {"fine 1": "FINE", "stands_still 1": failure}


def test_what_is_printed_and_threads_left_behind_cost_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = run([task(prints_much), task(leaves_a_thread)], 2)
    assert found == {"prints_much 1": "prints_much", "leaves_a_thread 1": "leaves_a_thread"}
    assert capfd.readouterr() == ("", "")


def test_who_prints_for_ever_has_a_time_limit_as_others_have() -> None:
    failure = Failure("timeout", "killed after its time limit of 5 s")
    found = run([task(prints_forever, 5.0), task(fine)], 2)
    assert found == {"prints_forever 1": failure, "fine 1": "FINE"}


def test_memory_has_a_limit() -> None:
    """What processes share counts once, which the system can tell on Linux."""
    executor = LocalExecutor(2, progress=False, memory=15 * 10**8)
    tasks = [task(allocates), task(fine)]
    expected: dict[str, object] = {
        "allocates 1": Failure("out_of_memory", "killed above its memory limit of 1.5 GB"),
        "fine 1": "FINE",
    }
    if Path("/proc/self/smaps_rollup").exists():
        tasks.append(task(shares_its_memory))
        expected["shares_its_memory 1"] = "shares_its_memory 512 3"
    assert dict(executor.run(tasks, "test")) == expected


def test_children_end_with_the_task() -> None:
    (children,) = run([task(leaves_children)], 1).values()
    assert len(children) == 2
    assert not any(psutil.pid_exists(child) for child in children)


def test_what_else_the_program_forks_is_left_alone() -> None:
    other = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(10_000,))
    other.start()
    try:
        assert run([task(leaves_children), task(fine)], 2)["fine 1"] == "FINE"
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not Linux")
def test_a_server_whose_parent_is_gone_does_not_begin() -> None:
    program = "import sys, vsml_bench.evaluation.server; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, STARTED_BY: "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_tasks_no_processes() -> None:
    assert run([], 2) == {}


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(VsmlBenchError, match="jobs: expected at least 1 process, found 0"):
        LocalExecutor(0)
