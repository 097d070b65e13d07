"""Dask does the work, on this machine or on others: workers send sealed bytes, and this process
writes them, so that work which Dask does twice does no harm and nobody shares a folder."""

from __future__ import annotations

import contextlib
import queue
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.dask_cluster import Tls, cluster
from vsml_bench.evaluation.executors import (
    MEMORY_SHARE,
    POLL_SECONDS,
    Executor,
    usable_cores,
    work_bar,
)
from vsml_bench.evaluation.processes import machine_memory
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.tasks import Elsewhere, Failure, Task, chains
from vsml_bench.storage import canonical_json, sha256_hex, write_atomically

if TYPE_CHECKING:
    from distributed import Client, Future

    from vsml_bench.evaluation.dask_worker import Reply

RETRIES = 2
"""Of a task that ends in an exception, which is never the learner's."""
ATTEMPTS = 10
"""Before a task is blamed for the deaths of its workers. Dask gives up after a few each time, and
counts deaths that others were the reason for."""
GATHER_SECONDS = 30.0


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
        bar = work_bar(sum(task.expected_seconds for task in tasks), title, self.progress)
        with bar, contextlib.closing(_Run(client, tasks, memory)) as run:
            run.submit_all()
            while run.open:
                yield from run.next_results()
                bar.set_postfix_str(f"{len(tasks) - len(run.open)} of {len(tasks)}", refresh=False)
                bar.update(min(bar.total, run.reached()) - bar.n)


class _Run:
    """Tasks that are with the cluster. They are known by their numbers."""

    def __init__(self, client: Client, tasks: Sequence[Task], memory: int | None) -> None:
        from vsml_bench.evaluation.dask_worker import Terms, here

        self.client, self.tasks = client, tasks
        self.terms = Terms(here(), memory, f"vsml-bench-{uuid.uuid4().hex}")
        token = sha256_hex(canonical_json(here()))[:8]
        self.keys = [
            f"{task.key}-{_device(task)}-{token}"
            if task.key
            else f"{task.function}-{uuid.uuid4().hex}"
            for task in tasks
        ]
        self.priorities = chains(tasks)
        self.open = set(range(len(tasks)))
        self.futures: dict[int, Future[bytes]] = {}
        self.shares = [0.0] * len(tasks)
        self._sent, self._deaths = [0] * len(tasks), [0] * len(tasks)
        self._numbers = {task.key: n for n, task in enumerate(tasks) if task.key}
        self._by_key: dict[str, int] = {}
        self._after: dict[int, list[int]] = {}
        for n in range(len(tasks)):
            for before in self._before(n):
                self._after.setdefault(before, []).append(n)
        self._early: set[int] = set()
        self._without: dict[str, set[str]] = {}
        self._files: dict[Path, Future[bytes]] = {}
        self._done: queue.SimpleQueue[tuple[int, Future[bytes]]] = queue.SimpleQueue()
        self._begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._taken: list[Any] = []

    def submit_all(self) -> None:
        """Sends all tasks to the scheduler, where they stay, and go on, should this process die.
        One that comes after it finds what was done."""
        self.client.subscribe_topic(self.terms.topic, self._hear)
        self._check_devices()
        known = set(self.client.list_datasets())
        for n in range(len(self.tasks)):
            self._submit(n, known=self.keys[n] in known)
        kept: dict[Any, Future[bytes]] = {
            self.keys[n]: self.futures[n] for n, task in enumerate(self.tasks) if task.key
        }
        if kept:
            self.client.publish_dataset(kept, override=True)

    def close(self) -> None:
        """Takes back what is not done."""
        if self.client.status == "running":
            self.client.unsubscribe_topic(self.terms.topic)
        self._taken += [self.keys[n] for n in self.open if self.tasks[n].key]
        self._forget()
        for future in (*self.futures.values(), *self._files.values()):
            future.release()

    def reached(self) -> float:
        """Expected seconds of what is done."""
        shares = (self.shares[n] if n in self.open else 1.0 for n in range(len(self.tasks)))
        return sum(t.expected_seconds * s for t, s in zip(self.tasks, shares, strict=True))

    def next_results(self) -> list[tuple[Any, Any]]:
        """What has come in, with `what` it is of; after a while, nothing."""
        found: list[tuple[Any, Any]] = []
        with contextlib.suppress(queue.Empty):
            n, future = self._done.get(timeout=POLL_SECONDS)
            if n in self.open and self.futures.get(n) is future:
                found = self._take(n, future)
        with contextlib.suppress(queue.Empty):
            self._save_begun(self._begun.get_nowait())
        if not found:
            self._forget()
        return found

    def _before(self, n: int) -> list[int]:
        return [self._numbers[k] for k in self.tasks[n].after if k in self._numbers]

    def _submit(self, n: int, known: bool = False, workers: Sequence[str] = ()) -> None:
        from distributed import Future

        from vsml_bench.evaluation.dask_worker import perform

        key = self.keys[n] + (f"~{self._sent[n]}" if self._sent[n] else "")
        self._by_key[key] = n
        if known:
            future: Future[bytes] = Future(key, self.client)
        else:
            task = replace(self.tasks[n], what=None, needs=(), after=())
            given = [self._file(path) for path in self.tasks[n].needs]
            given += [self.futures[before] for before in self._before(n)]
            future = self.client.submit(
                perform,
                task,
                self.terms,
                *given,
                key=key,
                priority=round(self.priorities[n]),
                retries=RETRIES,
                # rather there; a worker that goes must not leave a task waiting for it
                workers=list(workers) or None,
                allow_other_workers=bool(workers),
                resources=_resources(self.tasks[n]),
                pure=False,
            )
        self.futures[n] = future
        future.add_done_callback(lambda done: self._done.put((n, done)))

    def _file(self, path: Path) -> Future[bytes]:
        """A file's content, sent once. As a task it can be had again when its worker dies."""
        from vsml_bench.evaluation.dask_worker import a_file

        if path not in self._files:
            data = path.read_bytes()
            key = f"file-{sha256_hex(data)[:16]}-{path.name}"
            self._files[path] = self.client.submit(a_file, path.name, data, key=key)
        return self._files[path]

    def _take(self, n: int, future: Future[bytes]) -> list[tuple[Any, Any]]:
        if not self.open.isdisjoint(self._before(n)):
            self._early.add(n)  # whether this counts depends on what is still to come in
            return []
        reply = self._reply(n, future)
        if reply is None:
            return []
        if getattr(reply.result, "status", "") == "unavailable":
            without = self._without.setdefault(reply.result.reason, set())
            without.add(reply.worker)
            others = sorted(set(self.client.nthreads()) - without)
            if others and reply.worker:
                self._again(n, others)
                return []
        return self._settle(n, self._written(n, reply))

    def _reply(self, n: int, future: Future[bytes]) -> Reply | None:
        """None where the task has to be waited for once more."""
        from distributed import KilledWorker

        from vsml_bench.evaluation.dask_worker import Reply, opened

        if self.client.status != "running":
            raise VsmlBenchError(
                "the Dask scheduler has gone; what was finished is kept, so start it and run again."
            )
        if future.status == "finished":
            try:
                return opened(future.result(timeout=GATHER_SECONDS))
            except Exception:  # its worker has just died, and another does it again
                future.add_done_callback(lambda done: self._done.put((n, done)))
                return None
        error = future.exception() if future.status == "error" else None
        if error is not None and not isinstance(error, KilledWorker):
            return Reply(Failure("crashed", f"{type(error).__name__}: {error}"), "")
        self._deaths[n] += 1
        if self._deaths[n] < ATTEMPTS:
            self._again(n)
            return None
        return Reply(Failure("crashed", "its worker died, each time that it was tried"), "")

    def _again(self, n: int, workers: Sequence[str] = ()) -> None:
        """Once more, with all that waits for it."""
        self._sent[n] += 1
        self._early.discard(n)
        self.futures[n].release()
        self._submit(n, workers=workers)
        for later in self._after.get(n, ()):
            if later in self.open:
                self._again(later)

    def _written(self, n: int, reply: Reply) -> Any:
        """The result, with files where the task's own process would have put them."""
        if not isinstance(reply.result, Path):
            return reply.result
        folder = _folder(self.tasks[n])
        for name, data in reply.files.items():
            write_atomically(folder / Path(name).name, data)
        for path in folder.glob(f".{reply.result.stem}.partial*"):
            path.unlink(missing_ok=True)
        (folder / f"{reply.result.stem}.partial.safetensors").unlink(missing_ok=True)
        return folder / reply.result.name

    def _settle(self, n: int, result: Any) -> list[tuple[Any, Any]]:
        self.open.discard(n)
        self._taken.append(self.keys[n])
        found = [(self.tasks[n].what, result)]
        waiting = [later for later in self._after.get(n, ()) if later in self.open]
        if isinstance(result, Failure | Elsewhere):
            for later in waiting:
                if later in self.open:
                    found += self._settle(later, result)
        for later in self._early.intersection(waiting) & self.open:
            self._early.discard(later)
            self._done.put((later, self.futures[later]))
        if n not in self._after:
            self.futures.pop(n).release()
        return found

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        n = self._by_key.get(event[1]["key"])
        if n is not None and "share" in event[1]:
            self.shares[n] = float(event[1]["share"])
        elif n is not None:
            self._begun.put(n)

    def _save_begun(self, n: int) -> None:
        """Keeps the checkpoint of a meta-training under way."""
        from vsml_bench.evaluation.dask_worker import BEGUN

        if n in self.open:
            for name, data in (self.client.get_metadata([self.futures[n].key, BEGUN], {})).items():
                if name.endswith(".partial.safetensors"):
                    write_atomically(_folder(self.tasks[n]) / Path(name).name, data)

    def _forget(self) -> None:
        """Has the scheduler keep no longer what was taken."""
        taken, self._taken = self._taken, []
        if taken and self.client.status == "running":
            self.client.unpublish_dataset(taken)

    def _check_devices(self) -> None:
        """VsmlBenchError where tasks would wait for ever for a GPU."""
        if any(map(_resources, self.tasks)):
            found = self.client.run(_own_resources).values()
            if not any(each.get("GPU", 0) >= 1 for each in found):
                raise VsmlBenchError(
                    "--device cuda: no Dask worker has a GPU to give; start each that has one with "
                    '--resources "GPU=1".'
                )


def _own_resources(dask_worker: Any) -> dict[str, float]:
    return dict(dask_worker.state.total_resources)


def _setting(task: Task) -> Setting | None:
    return next((each for each in task.arguments if isinstance(each, Setting)), None)


def _folder(task: Task) -> Path:
    """Where its files belong."""
    setting = _setting(task)
    return setting.folders[0] if setting is not None else Path()


def _device(task: Task) -> str:
    setting = _setting(task)
    return f"{setting.device}-{setting.precision}" if setting is not None else "cpu"


def _resources(task: Task) -> dict[str, float] | None:
    setting = _setting(task)
    wanted = setting is not None and setting.device == "cuda" and bool(task.key)
    return {"GPU": 1.0} if wanted else None
