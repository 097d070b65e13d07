"""Dask does the work, on this machine or on others: workers send sealed bytes, and this process
writes them, so that work which Dask does twice does no harm and nobody shares a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.dask_cluster import Tls, cluster
from vsml_bench.evaluation.dask_run import DaskRun
from vsml_bench.evaluation.executors import MEMORY_SHARE, Executor, usable_cores, work_bar
from vsml_bench.evaluation.processes import machine_memory
from vsml_bench.evaluation.tasks import Task

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class DaskExecutor(Executor):
    """Workers of a Dask cluster, each with a process for each task as on one machine."""

    address: str = ""
    """Of the scheduler, as HOST:PORT; "" is a cluster on this machine."""
    jobs: int | None = None
    """Workers of a cluster on this machine; None is one per core that this process may use."""
    progress: bool = True
    tls: Tls | None = None
    insecure: bool = False
    """Whether a cluster that others can reach is used without TLS."""
    memory: int | None = None
    """Bytes that a task and its children may use; None is what its Dask worker may."""

    shares_folders = False

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise VsmlBenchError(f"jobs: expected at least 1 worker, found {self.jobs}.")

    @cached_property
    def _held(self) -> contextlib.ExitStack:
        return contextlib.ExitStack()

    @cached_property
    def client(self) -> Client:
        """Of the cluster, which is started or joined for it."""
        jobs = self.jobs or usable_cores()
        return self._held.enter_context(
            cluster(self.address, jobs, self.tls, self.insecure, self.progress)
        )

    def close(self) -> None:
        """Leaves the cluster, and ends one on this machine."""
        self._held.close()
        for name in ("_held", "client"):
            self.__dict__.pop(name, None)

    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        """See `Executor.run`. Tasks stand after those that they wait for."""
        if not tasks:
            return
        memory, client = self.memory, self.client
        if memory is None and not self.address:
            memory = int(MEMORY_SHARE * machine_memory() / (self.jobs or usable_cores()))
        total = sum(task.expected_seconds for task in tasks)
        bar = work_bar(total, title, self.progress)
        with bar, contextlib.closing(DaskRun(client, tasks, memory)) as run:
            run.submit_all()
            while run.open:
                yield from run.next_results()
                finished = f"{len(tasks) - len(run.open)} of {len(tasks)}"
                bar.reach(min(total, run.reached()), finished)
