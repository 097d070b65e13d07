"""What the tests of all baselines share: the learners, small streams, and the plain loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from tests.runners import on_cpu
from vsml_bench import paths
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, Shape
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.meta_training.objective import MetaGradient, meta_loss
from vsml_bench.protocols.online import Online
from vsml_bench.registry import find_learners

AnyLearner = TypeVar("AnyLearner", bound=Learner)

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


def resized(cls: type[AnyLearner], shape: Shape, config: Any, seed: int = 3) -> AnyLearner:
    """A learner of fixed shape made for another one, with fresh meta-parameters."""
    learner: AnyLearner = type(f"Small{cls.__name__}", (cls,), {"fixed_shape": shape})(config)
    learner.init_meta_parameters(generator(seed))
    return learner


def online_meta_gradient(
    learner: Learner, state: Any, inputs: Tensor, labels: Tensor
) -> MetaGradient:
    """Backpropagation through the lifetimes that start in `state`."""
    episode, protocol = Episode(inputs, labels), Online(len(labels))
    return backpropagate(learner, lambda given: meta_loss(on_cpu(given), state, episode, protocol))


def meta_train_briefly(
    learner: Learner,
    shape: Shape,
    updates: int,
    learning_rate: float,
    lifetime: int = 20,
    lifetimes: int = 24,
) -> list[float]:
    """The meta-losses of a short meta-training on easy streams. Their classes lie elsewhere in
    every lifetime, so that only learning within the lifetime helps."""
    optimizer = torch.optim.Adam(learner.parameters(), lr=learning_rate)
    losses = []
    for update in range(updates):
        inputs, labels = make_stream(shape, lifetime, lifetimes, seed=update, noise=0.3)
        state = fresh_state(learner, lifetimes, shape)
        losses.append(online_meta_gradient(learner, state, inputs, labels).loss)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
    return losses


def parameters_without_gradient(learner: Learner, shape: Shape) -> list[str]:
    """Names of meta-parameters that the meta-loss of a few steps does not depend on."""
    inputs, labels = make_stream(shape, 5, 3)
    online_meta_gradient(learner, fresh_state(learner, 3, shape), inputs, labels)
    return [
        name
        for name, parameter in learner.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
