"""What a Dask worker does with a task: the same process with the same limits as on one machine, in
a folder of its own, and what comes out goes back as sealed bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from distributed import get_worker
from distributed.utils import sync

from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import MEMORY_SHARE, POLL_SECONDS
from vsml_bench.evaluation.processes import Child, machine_memory, start_server
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.tasks import Failure, Task, plain
from vsml_bench.provenance import versions
from vsml_bench.storage import sha256_hex

PARTIAL = "*.partial.safetensors"
"""Of unfinished meta-trainings."""
TOLD_EVERY = 1.0
"""Seconds between two words on how far a task is."""
AGAIN = "~"
"""Stands in the key of a task that was sent before, in front of how often."""
REPLY, BEGUN = "reply", "begun"
"""Under a task's key the scheduler keeps these of a meta-training: the outcome, and the last
checkpoint with its name. They outlive the worker."""


@dataclass(frozen=True)
class Terms:
    """What a driver asks of all workers."""

    versions: Mapping[str, str]
    """That results may depend on, see `here`."""
    memory: int | None
    """Bytes that a task and its children may use; None is the worker's own limit."""
    topic: str
    """Of the events that say how far tasks are."""


@dataclass(frozen=True)
class Reply:
    """What came of a task."""

    result: Any
    """The path of a file is its name."""
    worker: str
    """Its address."""
    files: dict[str, bytes] = field(default_factory=dict)
    """That were made, by their names."""
    begun: bool = True
    """False where something that it needs could not be made, which the result then says."""


def sealed(reply: Reply) -> bytes:
    """The reply as bytes that carry their SHA-256."""
    data = pickle.dumps(reply)
    return hashlib.sha256(data).digest() + data


def opened(data: bytes) -> Reply:
    """The reply, read as plain data; a `Failure` in it where the bytes are no reply."""
    stated, rest = data[:32], data[32:]
    if hashlib.sha256(rest).digest() != stated:
        return Reply(Failure("crashed", "its reply was damaged on the way"), "")
    found = plain(io.BytesIO(rest))
    return found if isinstance(found, Reply) else Reply(found, "")


def a_file(name: str, data: bytes) -> bytes:
    """A file of the driver's, for tasks that need it."""
    return sealed(Reply(None, "", {name: data}))


@lru_cache(maxsize=1)
def here() -> dict[str, str]:
    """Versions on this machine of all that runs tasks, and of the harness's own code its hash."""
    from importlib.metadata import version

    found = {**versions(), **{name: version(name) for name in ("dask", "distributed")}}
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for folder in (package, paths.baselines()):
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".cpp", ".h")):
            digest.update(f"{path.relative_to(folder)} {sha256_hex(path.read_bytes())}".encode())
    return {**found, "code of vsml-bench": digest.hexdigest()[:12]}


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, by name; "" for nothing."""
    return ", ".join(
        f"{name} {found.get(name, 'missing')} instead of {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    )


def perform(task: Task, terms: Terms, *given: bytes) -> bytes:
    """Does the task in a child process and returns the sealed reply.

    given: replies with files that it needs. Whatever a learner does is in the reply; an exception
    is this machine's fault, and Dask may try again.
    """
    worker = get_worker()
    key = str(worker.get_current_task())
    wrong = differing(terms.versions, here())
    if wrong:  # a worker that came later
        return sealed(Reply(Failure("unavailable", f"a worker has {wrong}."), worker.address))
    trains = task.function == "train"
    if trains and (reply := _kept(worker, key, REPLY)):
        return bytes(reply)  # made before, by a worker that is gone
    files: dict[str, bytes] = {}
    for each in map(opened, given):
        if isinstance(each.result, Failure):
            return sealed(Reply(each.result, worker.address, begun=False))
        files.update(each.files)
    if trains and (begun := _kept(worker, key, BEGUN)):
        files.update(begun)
    with tempfile.TemporaryDirectory(prefix="vsml-bench-", dir=worker.local_directory) as place:
        folder = Path(place) / "checkpoints"
        folder.mkdir()
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
        result = _watched(_at(task, folder), terms, worker, key, folder)
        made = {}
        if isinstance(result, Path):
            made = {result.name: result.read_bytes()}
            result = Path(result.name)
    reply = sealed(Reply(result, worker.address, made))
    if trains and made:
        _keep(worker, key, REPLY, reply)
    return reply


def _at(task: Task, folder: Path) -> Task:
    """The task with this machine's folders: for checkpoints, and for data where the driver's does
    not exist here."""

    def moved(argument: Any) -> Any:
        if not isinstance(argument, Setting):
            return argument
        root = argument.root if argument.root is not None and argument.root.is_dir() else None
        return replace(argument, folders=(folder,), root=root)

    return replace(task, arguments=tuple(map(moved, task.arguments)))


def _watched(task: Task, terms: Terms, worker: Any, key: str, folder: Path) -> Any:
    # Nannies start workers as daemons, which multiprocessing lets have no children. It only means
    # that they would end children when they exit, which these do by themselves.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    context = start_server()
    shares = context.Array("d", 1, lock=False)
    memory = worker.memory_manager.memory_limit or int(MEMORY_SHARE * machine_memory())
    memory = terms.memory or memory // worker.state.nthreads
    seen: dict[Path, int] = {path: path.stat().st_mtime_ns for path in folder.glob(PARTIAL)}
    told, when = 0.0, time.monotonic()
    child = Child(task, 0, shares, folder.parent, memory, context)
    try:
        while (result := child.result()) is Child.WORKING:
            wait(child.sources, POLL_SECONDS)
            if not _wanted(worker, key):
                raise VsmlBenchError("nobody wants it any more")
            if shares[0] > told and time.monotonic() - when > TOLD_EVERY:
                told, when = shares[0], time.monotonic()
                worker.log_event(terms.topic, {"key": key, "share": told})
            for path in folder.glob(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # it has just become the whole
                    if seen.get(path) != (written := path.stat().st_mtime_ns):
                        seen[path] = written
                        _keep(worker, key, BEGUN, {path.name: path.read_bytes()})
                        worker.log_event(terms.topic, {"key": key, "begun": path.name})
    finally:
        child.end()
    return result


def _wanted(worker: Any, key: str) -> bool:
    """Whether the scheduler has not taken the task back, as it does when a driver leaves."""
    found = worker.state.tasks.get(key)
    return found is not None and found.state != "cancelled"


def place_of(key: str, what: str) -> list[str]:
    """Where the scheduler keeps something of a task, however often it was tried."""
    return [key.partition(AGAIN)[0], what]


def _keep(worker: Any, key: str, what: str, value: Any) -> None:
    sync(worker.loop, worker.scheduler.set_metadata, keys=place_of(key, what), value=value)


def _kept(worker: Any, key: str, what: str) -> Any:
    where = place_of(key, what)
    return sync(worker.loop, worker.scheduler.get_metadata, keys=where, default=None)
