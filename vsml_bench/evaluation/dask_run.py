"""Tasks that are with a Dask cluster: how they are sent, heard of, tried again and taken."""

from __future__ import annotations

import contextlib
import platform
import queue
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import POLL_SECONDS
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
GONE = frozenset({"error", "cancelled", "lost"})
"""States of a future that no task can take its input from."""


class DaskRun:
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
        self._only: dict[int, tuple[set[str], Reply]] = {}
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
            self._submit(n, known=self._name(n) in known)
        kept: dict[Any, Future[bytes]] = {
            self._name(n): self.futures[n] for n, task in enumerate(self.tasks) if task.key
        }
        if kept:
            self.client.publish_dataset(kept, override=True)
            # Taken by a driver that died before it could say so.
            owner = self._name(0).partition("/")[0]
            self._taken += [name for name in known - kept.keys() if name.startswith(f"{owner}/")]

    def close(self) -> None:
        """Takes back what is not done."""
        if self.client.status == "running":
            self.client.unsubscribe_topic(self.terms.topic)
        self._taken += [self._name(n) for n in self.open]
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
            found = self._stranded()
        return found

    def _name(self, n: int) -> str:
        """What the scheduler keeps the task for: the results in one folder."""
        owner = sha256_hex(f"{platform.node()} {_folder(self.tasks[n]).absolute()}")[:12]
        return f"vsml-bench-{owner}/{self.keys[n]}"

    def _before(self, n: int) -> list[int]:
        return [self._numbers[k] for k in self.tasks[n].after if k in self._numbers]

    def _submit(self, n: int, known: bool = False, workers: Sequence[str] = ()) -> None:
        from vsml_bench.evaluation.dask_worker import AGAIN, perform

        key = self.keys[n] + (f"{AGAIN}{self._sent[n]}" if self._sent[n] else "")
        self._by_key[key] = n
        if known:
            future: Future[bytes] = self.client.get_dataset(self._name(n))
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
                # Nowhere else: where others are allowed, they steal it.
                workers=list(workers) or None,
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
            key = f"file-{sha256_hex(data)[:16]}-{uuid.uuid4().hex[:8]}-{path.name}"
            self._files[path] = self.client.submit(a_file, path.name, data, key=key)
        return self._files[path]

    def _take(self, n: int, future: Future[bytes]) -> list[tuple[Any, Any]]:
        if not self.open.isdisjoint(self._before(n)):
            self._early.add(n)  # whether this counts depends on what is still to come in
            return []
        reply = self._reply(n, future)
        if reply is None:
            return []
        if getattr(reply.result, "status", "") == "unavailable" and reply.worker:
            self._without.setdefault(reply.result.reason, set()).add(reply.worker)
            return self._try_elsewhere(n, reply)
        return self._settle(n, self._written(n, reply))

    def _try_elsewhere(self, n: int, reply: Reply) -> list[tuple[Any, Any]]:
        """On workers that have not said that they lack what it needs; the reply is the result where
        all have."""
        self._only.pop(n, None)
        others = set(self.client.nthreads()) - self._without[reply.result.reason]
        if not others:
            return self._settle(n, reply.result)
        self._only[n] = others, reply
        self._again(n, sorted(others))
        return []

    def _stranded(self) -> list[tuple[Any, Any]]:
        """Tries those once more whose chosen workers have all gone."""
        found = []
        if self._only:
            alive = set(self.client.nthreads())
            for n, (workers, reply) in list(self._only.items()):
                if n in self.open and workers.isdisjoint(alive):
                    found += self._try_elsewhere(n, reply)
        return found

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
        self._renew_needs(n)
        self._sent[n] += 1
        self._early.discard(n)
        self.futures[n].release()
        self._submit(n, workers=workers)
        for later in self._after.get(n, ()):
            if later in self.open:
                self._again(later)

    def _renew_needs(self, n: int) -> None:
        """Sends again what the task needs, where that was done but died with its worker, and Dask
        gave it up when it died once more. Whatever needs it would fail at once, each time."""
        for before in self._before(n):
            if before not in self.open and self.futures[before].status in GONE:
                self._sent[before] += 1
                self._submit(before)
        for path in self.tasks[n].needs:
            if path in self._files and self._files[path].status in GONE:
                del self._files[path]

    def _written(self, n: int, reply: Reply) -> Any:
        """The result, with files where the task's own process would have put them."""
        if not isinstance(reply.result, Path):
            return reply.result
        folder = _folder(self.tasks[n])
        for name, data in reply.files.items():
            write_atomically(folder / Path(name).name, data)
        (folder / f"{reply.result.stem}.partial.safetensors").unlink(missing_ok=True)
        return folder / reply.result.name

    def _settle(self, n: int, result: Any) -> list[tuple[Any, Any]]:
        self.open.discard(n)
        self._only.pop(n, None)
        self._taken.append(self._name(n))
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
        from vsml_bench.evaluation.dask_worker import BEGUN, place_of

        if n in self.open:
            found = self.client.get_metadata(place_of(self.keys[n], BEGUN), {})
            for name, data in found.items():
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
