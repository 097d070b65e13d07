"""A Dask scheduler and workers of this machine, as a user starts them: processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    # Dask blames a task at the first death of its worker.
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Cluster:
    """Two workers, each with a nanny that starts it again when it dies, as daemons are."""

    address: str
    start: Callable[[], subprocess.Popen[bytes]]

    def __post_init__(self) -> None:
        self._started = self.start()

    @property
    def nannies(self) -> psutil.Process:
        """The process that they are in. Nannies give up when a worker dies before it has begun;
        then who looks after the machine starts them again."""
        if self._started.poll() is not None:
            self._started = self.start()
        return psutil.Process(self._started.pid)

    def worker_of(self, task: int) -> psutil.Process:
        """The worker that a task's process, by its id, is of."""
        above = psutil.Process(task).parents()
        (found,) = (process for process in above if process.ppid() == self.nannies.pid)
        return found


@contextlib.contextmanager
def two_workers(folder: Path) -> Iterator[Cluster]:
    """What is started here ends here."""
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": path}
    dask = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    with contextlib.ExitStack() as ends:

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*dask, *arguments],
                env=environment,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            ends.callback(_end, process)
            return process

        file = folder / "scheduler.json"
        scheduler = start("scheduler", *local, "--port", "0", "--scheduler-file", str(file))
        while not file.is_file() or not file.read_text():
            assert scheduler.poll() is None
            threading.Event().wait(0.1)
        address = json.loads(file.read_text())["address"]
        workers = (
            *("worker", address, *local, "--nworkers", "2", "--nthreads", "1"),
            *("--memory-limit", "1.5GB", "--local-directory", str(folder)),
        )
        yield Cluster(address.removeprefix("tcp://"), partial(start, *workers))


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()
