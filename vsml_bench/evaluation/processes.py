"""Tasks in processes of their own: how they are forked, watched, heard and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from multiprocessing import forkserver, popen_forkserver, util
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from vsml_bench.evaluation.tasks import Failure, Task, function_named, outcome, plain
from vsml_bench.orphans import STARTED_BY, end_with_parent
from vsml_bench.owners import new_temporary_folder

SERVER = "vsml_bench.evaluation.server"
"""What is imported before processes begin: PyTorch and the harness, and no learner."""
LONGEST_PLACE = 71
"""Characters of a folder's path in which there may be sockets."""
READS = 16
"""Of a process's output in a row, before others are looked after."""
LAST_WORDS = 1_500
"""Characters of a process's output that are kept, for the record of its failure."""


class _Popen(popen_forkserver.Popen):
    def _launch(self, process: Any) -> None:
        """As Python does it, but for the server."""
        start_server()  # which somebody may have ended
        others = forkserver.connect_to_new_process
        forkserver.connect_to_new_process = _server(os.getpid()).connect_to_new_process
        try:
            super()._launch(process)  # type: ignore[misc]
        finally:
            forkserver.connect_to_new_process = others


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process: Any) -> Any:
        return _Popen(process)


class _Context(ForkServerContext):
    Process = _Process


@lru_cache(maxsize=1)
def _server(pid: int) -> Any:
    """The server of that process, which is this one. It is not the one that all of a program share:
    what descends from it is the harness's, and may be ended."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload([SERVER])
    return server


def start_server() -> ForkServerContext:
    """Has the server begin to import what tasks need, unless it has, and returns at once. What is
    done meanwhile costs no time."""
    with _begins_or_ends:
        if not _lives(_server(os.getpid())._forkserver_pid):
            _begin_server()
    return _Context()


def _begin_server() -> None:
    begun = threading.Event()

    def begin() -> None:
        try:
            with _in(_place(os.getpid())):
                _server(os.getpid()).ensure_running()
        finally:
            begun.set()
        if threading.current_thread() is not threading.main_thread():
            threading.Event().wait()  # since a process ends with the thread that began it

    if threading.current_thread() is threading.main_thread():
        begin()
    else:
        threading.Thread(target=begin, daemon=True).start()
        begun.wait()


def _lives(pid: int | None) -> bool:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@lru_cache(maxsize=1)
def _place(pid: int) -> Path:
    """A folder that lasts as long as that process, which is this one."""
    folder = new_temporary_folder(LONGEST_PLACE)
    util.Finalize(None, _leave, (folder,), exitpriority=-101)  # after what is inside of it
    return folder


def _leave(folder: Path) -> None:
    """Removes the folder after the server, which may still import, has left it."""
    server = _server(os.getpid())._forkserver_pid
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        if server is not None:
            os.kill(server, signal.SIGTERM)
            os.waitpid(server, 0)
    shutil.rmtree(folder, ignore_errors=True)


def machine_memory() -> int:
    """Bytes that the processes of this machine, or of this control group, may use."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return total


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Has Python processes that are started now begin in that folder, which is empty. They import
    from where they begin, and in the working folder a file of the user's may be called like a
    module of Python's."""
    before, path = os.open(".", os.O_RDONLY), os.environ.get("PYTHONPATH")
    os.environ[STARTED_BY] = str(os.getpid())
    temporary = tempfile.tempdir
    try:
        if path is not None:  # may name folders of the working folder
            found = [os.path.abspath(part) for part in path.split(os.pathsep) if part]
            os.environ["PYTHONPATH"] = os.pathsep.join(found)
        tempfile.tempdir = str(folder)
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        del os.environ[STARTED_BY]
        tempfile.tempdir = temporary
        if path is not None:
            os.environ["PYTHONPATH"] = path


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
_begins_or_ends = threading.RLock()
"""So that no thread takes what another has just begun for something left behind."""


class Child:
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
        """Of the process and all that it started. What is resident is quick to ask for, but counts
        shared pages in each process, among them those of the server. So each process is asked for
        its share of them where that decides."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self._process.pid)
            family = (own, *own.children(recursive=True))
            resident = _total(family, lambda process: int(process.memory_info().rss))
            return resident if resident <= self._memory else _total(family, _share_of_pages)
        return 0

    def _listen(self) -> None:
        """Keeps the last of what it has printed; not all at once, since it may print for ever."""
        for _ in range(READS):
            if self._output.closed:
                return
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


def _total(processes: Iterable[Any], size: Callable[[Any], int]) -> int:
    import psutil

    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += size(process)
    return total


def _share_of_pages(process: Any) -> int:
    """Bytes of a process, where what n processes share counts as an n-th; what is resident where
    the system does not tell."""
    try:
        words = Path(f"/proc/{process.pid}/smaps_rollup").read_text().split()
        return int(words[words.index("Pss:") + 1]) * 1024
    except (OSError, ValueError):  # not Linux, or it has just ended
        return int(process.memory_info().rss)


def _kill_strays() -> None:
    """Kills what tasks that ended have left behind. The server adopts it (`server`)."""
    import psutil

    strays: Sequence[Any] = (None,)
    while strays:  # what dies leaves its own children behind
        strays = ()
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(_server(os.getpid())._forkserver_pid)
            strays = [child for child in server.children() if child.pid not in _pids]
        for stray in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                stray.kill()
        psutil.wait_procs(strays)


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
    end_with_parent(signal.SIGKILL)
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
