"""Who does the work: an executor is one method, from tasks to their results as they finish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.processes import Child, machine_memory, start_server
from vsml_bench.evaluation.tasks import Elsewhere, Failure, Task, chains
from vsml_bench.owners import temporary_folder
from vsml_bench.progress import ProgressBar

POLL_SECONDS = 0.5
MEMORY_SHARE = 0.9
"""Of the machine's memory, for all processes together."""


class Executor(ABC):
    """A way to get tasks done."""

    shares_folders = True
    """Whether tasks see the folders that this process sees."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """Yields each task's `what` with its result, or with a `Failure`, as they finish. The
        order among tasks is that of `Task.after`, and otherwise free.

        title: of the progress bar; "" shows none.
        """

    def close(self) -> None:  # noqa: B027
        """Gives back what it holds, when no more tasks will come. Most hold nothing."""


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
        length = chains(tasks)
        tasks = [tasks[n] for n in sorted(range(len(tasks)), key=lambda n: -length[n])]
        context = start_server()
        shares = context.Array("d", len(tasks), lock=False)
        total = sum(task.expected_seconds for task in tasks)
        bar = work_bar(total, title, self.progress)
        workers = min(self.jobs or usable_cores(), len(tasks))
        memory = self.memory or int(MEMORY_SHARE * machine_memory() / workers)
        waiting = list(enumerate(tasks))
        undone = {task.key for task in tasks if task.key}
        without: dict[str, Failure | Elsewhere] = {}
        running: list[Child] = []
        with bar, temporary_folder() as folder:
            try:
                while waiting or running:
                    for index, task in list(waiting):
                        lacking = next((without[k] for k in task.after if k in without), None)
                        if lacking is not None:
                            waiting.remove((index, task))
                            without[task.key], shares[index] = lacking, 1.0
                            yield task.what, lacking
                        elif len(running) < workers and undone.isdisjoint(task.after):
                            waiting.remove((index, task))
                            child = Child(task, index, shares, folder, memory, context)
                            running.append(child)
                    if running:
                        sources = [source for child in running for source in child.sources]
                        wait(sources, POLL_SECONDS)
                    for child in list(running):
                        result = child.result()
                        if result is not Child.WORKING:
                            child.end()
                            running.remove(child)
                            shares[child.index] = 1.0
                            undone.discard(child.task.key)
                            if child.task.key and isinstance(result, Failure | Elsewhere):
                                without[child.task.key] = result
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


def work_bar(total: float, title: str, shown: bool) -> ProgressBar:
    """A bar for so many expected seconds of work; a title of "" shows none."""
    return ProgressBar(total, title, shown and bool(title))


def run_apart(
    function: str,
    *arguments: Any,
    stall_limit: float | None = None,
    echo: bool = True,
    side_by_side: int = 1,
) -> Any:
    """What one function returns, see `Task`, run in a process of its own while somebody watches.
    side_by_side: processes of this machine that do so at once, and share its memory.
    VsmlBenchError, or the kind of it that says why, where it fails."""
    task = Task(None, function, arguments, None, 1.0, stall_limit, echo)
    memory = int(MEMORY_SHARE * machine_memory() / side_by_side)
    ((_, found),) = LocalExecutor(1, progress=False, memory=memory).run([task], "")
    if not isinstance(found, Failure):
        return found
    kinds = {"unavailable": UnavailableError, "diverged": DivergedError}
    raise kinds.get(found.status, VsmlBenchError)(found.reason)


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its control group."""
    from joblib import cpu_count

    return int(cpu_count())
