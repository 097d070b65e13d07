"""Who does the work: an executor is one method, from tasks to their results as they finish."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from typing import Any

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import Status
from vsml_bench.printing import progress_bar

POLL_SECONDS = 0.5
WORKER = "vsml_bench.evaluation.worker"
SERVER = "vsml_bench.evaluation.server"
"""What is imported before processes begin: PyTorch and the harness, and no learner."""
LAST_WORDS = 1_500
"""Characters of a process's output that are kept, for the record of its failure."""
MEMORY_SHARE = 0.9
"""Of the machine's memory, for all processes together."""


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
    stall_limit: float | None = None
    """Seconds without a larger share done: the limit of work whose length nobody knows."""
    echo: bool = False
    """Whether what it prints is shown, on standard error."""


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
        bar = progress_bar(
            total,
            title,
            self.progress and bool(title),
            smoothing=0,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )
        workers = min(self.jobs or usable_cores(), len(tasks))
        memory = self.memory or int(MEMORY_SHARE * machine_memory() / workers)
        waiting = deque(enumerate(tasks))
        running: list[_Child] = []
        with bar, tempfile.TemporaryDirectory(prefix="vsml-bench-") as folder:
            try:
                while waiting or running:
                    while waiting and len(running) < workers:
                        index, task = waiting.popleft()
                        running.append(_Child(task, index, shares, Path(folder), memory, context))
                    wait([source for child in running for source in child.sources], POLL_SECONDS)
                    for child in list(running):
                        result = child.result()
                        if result is not _Child.WORKING:
                            child.end()
                            running.remove(child)
                            shares[child.index] = 1.0
                            yield child.task.what, result
                    finished = f"{len(tasks) - len(waiting) - len(running)} of {len(tasks)}"
                    bar.set_postfix_str(finished, refresh=False)
                    reached = sum(
                        task.expected_seconds * share
                        for task, share in zip(tasks, shares, strict=True)
                    )
                    bar.update(min(total, reached) - bar.n)
            finally:
                for child in running:
                    child.end()


def start_server() -> ForkServerContext:
    """Has the server begin to import what tasks need, unless it has, and returns at once. What is
    done meanwhile costs no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([SERVER])
    with _safe_path():
        forkserver.ensure_running()
    return context


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


def machine_memory() -> int:
    """Bytes that the processes of this machine, or of this control group, may use."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return total


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Has Python processes that are started now not import from the working folder, where a file of
    the user's may be called like a module of Python's (from Python 3.11 on)."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def _no_main_program() -> Iterator[None]:
    """Has processes that are started now not run the main program again, which they need nothing
    of: a script needs no `if __name__ == "__main__"`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_pids: set[int] = set()
"""Of all tasks under way: what else descends from the server was left behind."""
_begins_or_ends = threading.Lock()
"""So that no thread takes what another has just begun for something left behind."""


class _Child:
    """A task under way, in a process of its own."""

    WORKING = object()

    def __init__(
        self, task: Task, index: int, shares: Any, folder: Path, memory: int, context: Any
    ) -> None:
        self.task, self.index, self._shares, self._memory = task, index, shares, memory
        self._to = folder / str(index)
        self._words = b""
        self._output, output = context.Pipe(duplex=False)
        os.set_blocking(self._output.fileno(), False)
        arguments = (shares, index, task.function, task.arguments, self._to, output)
        self._process = context.Process(target=_work, args=(*arguments, dict(os.environ)))
        with _begins_or_ends, _no_main_program():
            self._process.start()
            _pids.add(self._process.pid)
        output.close()
        self._began = self._moved = time.monotonic()
        self._share = 0.0

    @property
    def sources(self) -> list[Any]:
        """What is ready when there is something to look at."""
        return [self._process.sentinel, *([] if self._output.closed else [self._output])]

    def result(self) -> Any:
        """What the task returned, a `Failure`, or `WORKING`."""
        ended = wait([self._process.sentinel], 0)
        self._listen()
        if ended:
            return self._returned()
        now, limit, stall = time.monotonic(), self.task.time_limit, self.task.stall_limit
        if self._shares[self.index] > self._share:
            self._share, self._moved = self._shares[self.index], now
        if limit is not None and now - self._began > limit:
            return Failure("timeout", f"killed after its time limit of {limit:g} s")
        if stall is not None and now - self._moved > stall:
            return Failure("timeout", f"killed after {stall:g} s without progress")
        if self._bytes() > self._memory:
            limit_gb = self._memory / 1e9
            return Failure("out_of_memory", f"killed above its memory limit of {limit_gb:.3g} GB")
        return self.WORKING

    def end(self) -> None:
        """Ends the process, and all that it started."""
        self._process.kill()
        self._process.join()
        _pids.discard(self._process.pid)
        self._output.close()
        with _begins_or_ends:
            _kill_strays()

    def _bytes(self) -> int:
        import psutil

        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self._process.pid)
            for process in (own, *own.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        return total

    def _listen(self) -> None:
        """Keeps the last of what it has printed."""
        while not self._output.closed:
            try:
                words = os.read(self._output.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not words:
                self._output.close()
            if self.task.echo:
                print(words.decode(errors="replace"), end="", file=sys.stderr, flush=True)
            self._words = (self._words + words)[-4 * LAST_WORDS :]

    def _returned(self) -> Any:
        try:
            with self._to.open("rb") as file:
                return plain(file)
        except FileNotFoundError:
            words = self._words.decode(errors="replace").strip()[-LAST_WORDS:]
            reason = f"its process ended with exit code {self._process.exitcode}"
            return Failure("crashed", f"{reason}; its last words: {words}" if words else reason)


def _kill_strays() -> None:
    """Kills what tasks that ended have left behind. The server adopts it (`server`)."""
    import psutil

    strays: Sequence[Any] = (None,)
    while strays:  # what dies leaves its own children behind
        strays = ()
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
            strays = [child for child in server.children() if child.pid not in _pids]
        for stray in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                stray.kill()
        psutil.wait_procs(strays)


def plain(file: Any) -> Any:
    """What `outcome` gave, or a `Failure` where that is no plain data."""
    try:
        return _Plain(file).load()
    except Exception as error:
        return Failure("crashed", f"its process sent no result, but {error}")


def outcome(function: Callable[..., Any], *arguments: Any) -> bytes:
    """What the function returns, or a `Failure` that says why it returns nothing, for `plain`."""
    try:
        result = function(*arguments)
    except BaseException as error:
        result = failure_of(error)
    return pickle.dumps(result)


class _Plain(pickle.Unpickler):
    """Reads results, which come from processes that nobody trusts: data, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        """Dataclasses of the harness, paths and arrays; UnpicklingError for all else."""
        package = module.partition(".")[0]
        if package in ("vsml_bench", "pathlib", "numpy"):
            found = super().find_class(module, name)
            arrays = name in ("_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype")
            of_paths = package == "pathlib" and isinstance(found, type)
            if is_dataclass(found) or of_paths or (package == "numpy" and arrays):
                return found
        raise pickle.UnpicklingError(f"{module}.{name}, which is not plain data")


def failure_of(error: BaseException) -> Failure:
    """What an error that ended a piece of work is recorded as."""
    try:
        text = str(error)
    except Exception as second:
        text = f"(its text cannot be made: {type(second).__name__})"
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


def function_named(name: str) -> Callable[..., Any]:
    """See `Task.function`."""
    module, _, inside = name.rpartition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module or WORKER), inside)
    return found


def _work(
    shares: Any,
    index: int,
    function: str,
    arguments: tuple[Any, ...],
    to: Path,
    output: Connection,
    environment: dict[str, str],
) -> None:
    """What a task's process does. It takes over today's environment, since the server that it was
    forked from keeps that of the first run. It ends with the server, which ends with the process
    that runs the tasks, and it has a session of its own: what it sends to its process group, and
    what a terminal sends, reaches nobody else. It ends at once, whatever threads are left."""
    os.setsid()
    importlib.import_module(SERVER).end_with_parent(signal.SIGKILL)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)

    def report(share: float) -> None:
        shares[index] = share

    result = outcome(function_named(function), *arguments, report)
    os.umask(0o077)  # whatever the task has made of it
    part = to.with_suffix(".part")
    part.write_bytes(result)
    part.rename(to)
    os._exit(0)
