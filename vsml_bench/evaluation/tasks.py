"""A piece of work, and what becomes of it: a result as plain data, or why there is none."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import Status

WORKER = "vsml_bench.evaluation.worker"


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Elsewhere:
    """Another run does this piece of work, or has done it."""


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
    key: str = ""
    """What other tasks, and engines for several machines, know it by; "" where none needs to."""
    after: tuple[str, ...] = ()
    """Keys of tasks that it needs the files of. It begins when they have ended well. Where one of
    them ends as `Failure` or `Elsewhere`, so does this one, without having begun. A key of none of
    the tasks is of one that is done."""
    needs: tuple[Path, ...] = ()
    """Files of this machine that it reads, besides the data."""


def function_named(name: str) -> Callable[..., Any]:
    """See `Task.function`."""
    module, _, inside = name.rpartition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module or WORKER), inside)
    return found


def chains(tasks: Sequence[Task]) -> list[float]:
    """Seconds of the longest chain of tasks that each one begins, itself included. To start the
    longest chains first keeps all machines busy for longest."""
    found: dict[str, float] = {}
    after: dict[str, list[Task]] = {}
    for task in tasks:
        for key in task.after:
            after.setdefault(key, []).append(task)

    def length(task: Task) -> float:
        if not task.key or task.key not in found:
            longest = max(map(length, after.get(task.key, ())), default=0.0) if task.key else 0.0
            found[task.key] = task.expected_seconds + longest
        return found[task.key]

    return [length(task) for task in tasks]


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
