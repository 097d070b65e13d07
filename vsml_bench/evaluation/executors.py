"""Who does the work: an executor is one method, from tasks to their results as they finish."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import Status
from vsml_bench.printing import progress_bar

POLL_SECONDS = 0.5
WORKER = "vsml_bench.evaluation.worker"
SERVER = "vsml_bench.evaluation.server"
"""What is imported before processes begin: PyTorch and the harness, and no learner."""


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Task:
    """One piece of work."""

    what: Any
    """That it is done for; handed back with the result."""
    function: str
    """Name of a function of `evaluation.worker`, or "module:function". Its last argument is a
    function to call with the share that is done."""
    arguments: tuple[Any, ...]
    """The others, which are sent to another process."""
    time_limit: float | None
    """Seconds."""
    expected_seconds: float
    """For the progress bar and for starting the longest first."""


class Executor(ABC):
    """A way to get tasks done."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """Yields each task's `what` with its result, or with a `Failure`, as they finish.

        title: of the progress bar; "" shows none.
        """


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Processes of this machine, side by side. Each task has a process of its own, which is forked
    from a clean server and can be killed: a hung cell costs its own time limit, nobody else's.
    Tasks without a limit, as meta-trainings are, are waited for."""

    jobs: int | None = None
    """Processes side by side, one thread each; None is one per core that this process may use."""
    progress: bool = True

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise VsmlBenchError(f"jobs: expected at least 1 process, found {self.jobs}.")

    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """See `Executor.run`."""
        if not tasks:
            return
        tasks = sorted(tasks, key=lambda task: -task.expected_seconds)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([SERVER])
        shares = context.Array("d", len(tasks), lock=False)
        total = sum(task.expected_seconds for task in tasks)
        bar = progress_bar(
            total,
            title,
            self.progress and bool(title),
            smoothing=0,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )
        workers = min(self.jobs or usable_cores(), len(tasks))
        with (
            bar,
            ProcessPool(
                workers,
                max_tasks=1,
                context=context,
                initializer=_begin,
                initargs=(shares, dict(os.environ)),
            ) as pool,
        ):
            futures: dict[Future[Any], int] = {
                pool.schedule(
                    _work, args=(index, task.function, task.arguments), timeout=task.time_limit
                ): index
                for index, task in enumerate(tasks)
            }
            pending = set(futures)
            try:
                while pending:
                    done, pending = wait(pending, POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        shares[futures[future]] = 1.0
                        task = tasks[futures[future]]
                        yield task.what, _outcome(future, task.time_limit)
                    finished = f"{len(tasks) - len(pending)} of {len(tasks)}"
                    bar.set_postfix_str(finished, refresh=False)
                    reached = sum(
                        task.expected_seconds * share
                        for task, share in zip(tasks, shares, strict=True)
                    )
                    bar.update(min(total, reached) - bar.n)
            finally:
                for future in pending:
                    future.cancel()
                pool.stop()


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _outcome(future: Future[Any], time_limit: float | None) -> Any:
    try:
        return future.result()
    except FutureTimeout:
        return Failure("timeout", f"killed after its time limit of {time_limit:g} s")
    except ProcessExpired as error:
        return Failure("crashed", f"its process ended with exit code {error.exitcode}")
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """What an error that ended a piece of work is recorded as."""
    text = str(error)
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "allocate memory" in text:  # the latter is how PyTorch's CPU allocator says it
        return Failure("out_of_memory", text or "out of memory")
    if isinstance(error, UnavailableError):
        return Failure("unavailable", text)
    if isinstance(error, DivergedError):
        return Failure("diverged", text)
    if isinstance(error, VsmlBenchError):
        return Failure("crashed", text)
    return Failure("crashed", f"{type(error).__name__}: {text}")


_shares: Any = None


def _begin(shares: Any, environment: dict[str, str]) -> None:
    """What a worker process does first. It takes over today's environment, since the server that it
    was forked from keeps that of the first run, and is to end with the server, which ends with the
    process that runs the tasks."""
    global _shares
    _shares = shares
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module(SERVER).end_with_parent()


def _work(index: int, function: str, arguments: tuple[Any, ...]) -> Any:
    def report(share: float) -> None:
        _shares[index] = share

    module, _, name = function.rpartition(":")
    return getattr(importlib.import_module(module or WORKER), name)(*arguments, report)
