"""Who does the work: an executor is one method, from tasks to their results as they finish."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.processes import Child, machine_memory, start_server
from vsml_bench.evaluation.tasks import Failure, Task
from vsml_bench.progress import ProgressBar

POLL_SECONDS = 0.5
MEMORY_SHARE = 0.9
"""Of the machine's memory, for all processes together."""


class Executor(ABC):
    """A way to get tasks done."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """Yields each task's `what` with its result, or with a `Failure`, as they finish.

        title: of the progress bar; "" shows none.
        """


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Processes of this machine, side by side. Each task has a process of its own, forked from a
    clean server. A task that hangs, grows or dies costs itself and nobody else, and what it started
    ends with it."""

    jobs: int | None = None
    """Processes side by side, one thread each; None is one per core that this process may use."""
    progress: bool = True
    memory: int | None = None
    """Bytes that a task and its children may use; None is an equal share of the machine's."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise VsmlBenchError(f"jobs: expected at least 1 process, found {self.jobs}.")

    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """See `Executor.run`."""
        if not tasks:
            return
        tasks = sorted(tasks, key=lambda task: -task.expected_seconds)
        context = start_server()
        shares = context.Array("d", len(tasks), lock=False)
        total = sum(task.expected_seconds for task in tasks)
        bar = ProgressBar(total, title, self.progress and bool(title))
        workers = min(self.jobs or usable_cores(), len(tasks))
        memory = self.memory or int(MEMORY_SHARE * machine_memory() / workers)
        waiting = deque(enumerate(tasks))
        running: list[Child] = []
        with bar, tempfile.TemporaryDirectory(prefix="vsml-bench-") as folder:
            try:
                while waiting or running:
                    while waiting and len(running) < workers:
                        index, task = waiting.popleft()
                        running.append(Child(task, index, shares, Path(folder), memory, context))
                    wait([source for child in running for source in child.sources], POLL_SECONDS)
                    for child in list(running):
                        result = child.result()
                        if result is not Child.WORKING:
                            child.end()
                            running.remove(child)
                            shares[child.index] = 1.0
                            yield child.task.what, result
                    finished = f"{len(tasks) - len(waiting) - len(running)} of {len(tasks)}"
                    reached = sum(
                        task.expected_seconds * share
                        for task, share in zip(tasks, shares, strict=True)
                    )
                    bar.reach(min(total, reached), finished)
            finally:
                for child in running:
                    child.end()


def run_apart(function: str, *arguments: Any, stall_limit: float | None = None) -> Any:
    """What one function returns, see `Task`, run in a process of its own while somebody watches.
    VsmlBenchError, or the kind of it that says why, where it fails."""
    task = Task(None, function, arguments, None, 1.0, stall_limit, echo=True)
    ((_, found),) = LocalExecutor(1, progress=False).run([task], "")
    if not isinstance(found, Failure):
        return found
    kinds = {"unavailable": UnavailableError, "diverged": DivergedError}
    raise kinds.get(found.status, VsmlBenchError)(found.reason)


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its control group."""
    from joblib import cpu_count

    return int(cpu_count())
