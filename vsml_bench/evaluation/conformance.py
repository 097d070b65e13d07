"""A quick look at a learner before any work: does one step give what the contract says?"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Shape
from vsml_bench.registry import LearnerEntry
from vsml_bench.seeds import generator

LIFETIMES = 3
SECONDS = 60.0
PROBES = (Shape((1, 4, 4), 5), Shape((6,), 2))
"""An image and a vector, neither with a size that equals another by chance."""


def probe(entry: LearnerEntry) -> None:
    """Runs two steps on made-up data; VsmlBenchError, naming learner and method, where shapes,
    dtypes or the state are not as the contract says, or a method fails or does not end."""
    with _time_limit(f"learner '{entry.name}' ({entry.origin})"):
        _probe(entry)


@contextlib.contextmanager
def _time_limit(where: str) -> Iterator[None]:
    """Ends Python code that runs too long, where the system can (the main thread, on POSIX)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*details: object) -> None:
        raise VsmlBenchError(
            f"{where}: two steps on made-up data took more than {SECONDS} s; does a loop never end?"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _probe(entry: LearnerEntry) -> None:
    learner = entry.create(seed=0)
    for shape in PROBES if learner.fixed_shape is None else (learner.fixed_shape,):
        if learner.fixed_shape is None and _kind(shape) not in learner.input_kinds:
            continue
        where = f"learner '{entry.name}' ({entry.origin})"
        inputs = torch.randn(2, LIFETIMES, *shape.inputs, generator=generator(1))
        labels = torch.randint(shape.classes, (2, LIFETIMES), generator=generator(2))
        method = "init_state"
        try:
            with torch.no_grad():
                state = learner.init_state(LIFETIMES, shape, generator(3))
                _check_state(state, where, method)
                for x_t, y_t in zip(inputs, labels, strict=True):
                    method = "predict"
                    logits, state = learner.predict(state, x_t)
                    _check_logits(logits, (LIFETIMES, shape.classes), f"{where}: {method}()")
                    method = "observe"
                    state = learner.observe(state, y_t)
                    _check_state(state, where, method)
                method = "unroll"
                start = learner.init_state(LIFETIMES, shape, generator(3))
                logits, _ = learner.unroll(start, inputs, labels)
                _check_logits(logits, (2, LIFETIMES, shape.classes), f"{where}: {method}()")
        except VsmlBenchError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise VsmlBenchError(
                f"{where}: {method}() fails on inputs {shape.inputs} with {shape.classes} classes: "
                f"{type(error).__name__}: {reason}"
            ) from error


def _kind(shape: Shape) -> str:
    return "image" if len(shape.inputs) == 3 else "vector"


def _check_logits(logits: object, expected: tuple[int, ...], where: str) -> None:
    if not isinstance(logits, Tensor):
        raise VsmlBenchError(
            f"{where} must return logits as a tensor, not {type(logits).__name__}."
        )
    if tuple(logits.shape) != expected or not logits.is_floating_point():
        raise VsmlBenchError(
            f"{where} must return floating-point logits of shape {list(expected)}, found "
            f"{logits.dtype} of shape {list(logits.shape)}."
        )


def _check_state(state: object, where: str, method: str) -> None:
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor) or leaf.shape[:1] != (LIFETIMES,):
            found = f"shape {list(leaf.shape)}" if isinstance(leaf, Tensor) else repr(leaf)
            raise VsmlBenchError(
                f"{where}: {method}() must return a state of tensors whose leading axis is the "
                f"{LIFETIMES} lifetimes asked for, found {found}."
            )
