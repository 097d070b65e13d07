"""What a case of the speed table is, and what cases share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from vsml_bench import execution
from vsml_bench.acceleration import Runner, accelerate
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, Shape
from vsml_bench.meta_training.objective import Objective, meta_loss
from vsml_bench.protocols.protocol import Protocol

Run: TypeAlias = Callable[[], Any]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    reference: str
    """What vsml-bench is compared with."""
    unit: str
    """What is counted, per second."""
    count: int
    """Of these, in one run."""
    goal: float | None
    """How many times as fast as the reference it should be."""
    flops: float | None
    """Floating-point operations of one run that no implementation can do without; None where the
    bound is the reference itself."""
    sides: Callable[[], tuple[Callable[[], Run], Callable[[], Run]]]
    """Ours and the reference."""
    threads: int | None = None
    """None is one per core."""


def random_episode(steps: int, lifetimes: int, shape: Shape) -> Episode:
    """Normal inputs [T, E, *shape.inputs], uniform labels [T, E]."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(steps, lifetimes, *shape.inputs, generator=generator)
    return Episode(inputs, torch.randint(shape.classes, (steps, lifetimes), generator=generator))


def runner_of(learner: Learner, steps: int = 0) -> Runner:
    """The learner as it is run on a CPU for so many steps."""
    return accelerate(learner, execution.Execution(CPU, torch.get_num_threads()), steps)


def without_gradients(run: Run) -> Run:
    """The run as evaluations are, without gradients."""

    def inferred() -> Any:
        with execution.without_gradients():
            return run()

    return inferred


def objective_of(
    runner: Runner, episode: Episode, protocol: Protocol, state: Callable[[], Any]
) -> Objective:
    """The meta-loss of an episode, from the states that `state` makes."""
    return lambda learner: meta_loss(runner, state(), episode, protocol)
