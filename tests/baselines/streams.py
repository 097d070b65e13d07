"""What the tests of all baselines share: the learners, small streams, and the plain loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vsml_bench import paths
from vsml_bench.learner import Learner, Shape
from vsml_bench.registry import LearnerEntry, find_learners

FILES = sorted(paths.baselines().glob("*.py"))
KNOWN: list[LearnerEntry] = [entry for file in FILES for entry in find_learners(str(file))]
ENTRIES = [entry for entry in KNOWN if not entry.unavailable]
"""Those whose packages are installed here."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh_state(learner: Learner, lifetimes: int, shape: Shape, seed: int = 1) -> Any:
    return learner.init_state(lifetimes, shape, generator(seed))


def make_stream(
    shape: Shape, steps: int, lifetimes: int, seed: int = 2, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Gaussian classes, in the default dtype: inputs [T, E, *shape.inputs], labels [T, E]."""
    source = generator(seed)
    centres = torch.randn(lifetimes, shape.classes, *shape.inputs, generator=source)
    labels = torch.randint(shape.classes, (steps, lifetimes), generator=source)
    inputs = centres[torch.arange(lifetimes), labels]
    return inputs + noise * torch.randn(inputs.shape, generator=source), labels


def loop(learner: Learner, state: Any, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
    """What `unroll` has to equal: predict, then observe, one step after the other."""
    logits = []
    for x_t, y_t in zip(inputs, labels, strict=True):
        logits_t, state = learner.predict(state, x_t)
        logits.append(logits_t)
        state = learner.observe(state, y_t)
    return torch.stack(logits), state


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 as the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
