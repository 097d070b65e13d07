"""The learner's side of an audit: a process that gets each label after its prediction has left, and
the runner that asks it from afar."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsml_bench.data.distributions import largest
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.runner import Setting
from vsml_bench.execution import decide, without_gradients
from vsml_bench.learner import Shape
from vsml_bench.meta_training.artifact import ready
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.orphans import end_with_parent
from vsml_bench.protocols.evaluation import fresh_states


class Broken(VsmlBenchError):
    """A witness that said something else than what it was asked."""


class Distant:
    """What protocols take for a `Runner`; the learner is at the other end of a pipe. Its state is
    there as well, and a number here, which counts the steps."""

    def __init__(self, connection: Connection, classes: int) -> None:
        self._connection, self._classes, self._now = connection, classes, 0

    def tell(self, what: Any) -> None:
        """Sends data that the learner may know."""
        self._connection.send(what)

    def step(self, state: int, inputs: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """See `Runner.step`."""
        logits, state = self.predict(state, inputs)
        return logits, self.observe(state, labels)

    def predict(self, state: int, inputs: Tensor) -> tuple[Tensor, int]:
        """See `Learner.predict`."""
        return self._ask("predict", state, inputs), self._next()

    def observe(self, state: int, labels: Tensor) -> int:
        """See `Learner.observe`."""
        self._ask("observe", state, labels)
        return self._next()

    def unroll(self, state: int, inputs: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """See `Learner.unroll`: one step after the other."""
        logits = []
        for x_t, y_t in zip(inputs, labels, strict=True):
            answer, state = self.step(state, x_t, y_t)
            logits.append(answer)
        return torch.stack(logits), state

    def adapt(self, state: int, inputs: Tensor, labels: Tensor) -> int:
        """See `Learner.adapt`: all at once, since all of it is learned from."""
        self._ask("adapt", state, inputs, labels)
        return self._next()

    def answer(self, state: int, queries: Tensor) -> Tensor:
        """See `Learner.answer`: one after the other."""
        return torch.stack([self._ask("answer", state, query[None]) for query in queries])

    def _next(self) -> int:
        self._now += 1
        return self._now

    def _ask(self, method: str, state: int, *examples: Tensor) -> Tensor:
        """Logits [1, K]; zeros where the method has none."""
        if state != self._now:
            raise RuntimeError("it goes back to an earlier state")
        self._connection.send((method, [part.numpy() for part in examples]))
        said = self._connection.recv_bytes(1 << 24)
        if said[:1] != b"=":
            raise Broken(said[1:].decode(errors="replace"))
        if method in ("observe", "adapt"):
            return torch.zeros(1, self._classes)
        if len(said) != 1 + 4 * self._classes:
            raise Broken("it gave logits of another shape")
        return torch.tensor(np.frombuffer(said, np.float32, offset=1))[None]


def testify(job: Job, setting: Setting, connection: Connection) -> None:
    """What a witness does: it runs the learner, and has nothing but what it is sent."""
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, 4096)
    os.setsid()
    end_with_parent(signal.SIGKILL)
    with suppress(EOFError, OSError):
        try:
            _answer(job, setting, connection)
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:500]
            connection.send_bytes(b"!" + text.encode(errors="replace"))
    os._exit(0)


def _answer(job: Job, setting: Setting, connection: Connection) -> None:
    execution = decide(setting.device, setting.threads)
    hashes: dict[str, str] = {}
    if job.makes_artifact and job.side.datasets:  # not trained on made-up examples
        hashes = EpisodeSampler(largest(job.side), root=setting.root).content_hashes
    learner = ready(job, find_artifact(job, setting.folders), hashes).learner
    learner = learner.to(execution.device).eval()
    seed, shape = connection.recv()
    assert isinstance(shape, Shape)
    with without_gradients():
        state = fresh_states(learner, [seed], shape, execution.device)
        while True:
            method, arrays = connection.recv()
            examples = [torch.from_numpy(part).to(execution.device) for part in arrays]
            logits = None
            if method == "predict":
                logits, state = learner.predict(state, *examples)
            elif method == "answer":
                logits = learner.answer(state, *examples)
            else:
                state = getattr(learner, method)(state, *examples)
            said = b"" if logits is None else logits.float().cpu().contiguous().numpy().tobytes()
            connection.send_bytes(b"=" + said)
