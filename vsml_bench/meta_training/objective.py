"""What meta-updates are taken from, and what is minimised: the meta-loss on lifetimes of tasks, or
on made-up examples of an algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from torch import Tensor

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Recipe, State
from vsml_bench.meta_training.schedule import Update
from vsml_bench.protocols.protocol import Protocol, stepwise_loss

if TYPE_CHECKING:
    from vsml_bench.meta_training.job import Job


class MetaLoss(NamedTuple):
    """What a learner made of some lifetimes."""

    loss: Tensor  # mean cross-entropy over lifetimes and scored predictions, nats []
    accuracy: Tensor  # of the same predictions []
    logits: Tensor | None = None  # [T, E, K], where there are lifetimes of tasks
    state: State = None  # at the end of these lifetimes


class MetaGradient(NamedTuple):
    """What an engine says of one meta-update; the gradient itself is in the parameters' `.grad`."""

    loss: float  # of the meta-parameters, or the mean over a population around them
    accuracy: float


Objective: TypeAlias = Callable[[Learner], MetaLoss]
"""The lifetimes of one meta-update, waiting for a learner. It draws the fresh states itself, for
they may depend on the meta-parameters, and from the same seeds at every call."""


def meta_loss(runner: Runner, state: State, episode: Episode, protocol: Protocol) -> MetaLoss:
    """The mean cross-entropy of the predictions that the protocol scores, each made before its
    label was seen, if ever."""
    logits, labels, state, _ = protocol.run(runner, state, episode)
    loss = stepwise_loss(logits, labels).mean()
    accuracy = (logits.argmax(-1) == labels).to(loss.dtype).mean()
    return MetaLoss(loss, accuracy, logits, state)


@dataclass(frozen=True)
class Lifetimes:
    """An `Objective`: lifetimes of tasks, each a function of its seed. They are sampled when they
    are lived, so that a large population need not have all of them at once."""

    runner: Runner
    protocol: Protocol
    seeds: Sequence[int]
    sample: Callable[[Sequence[int]], Episode]
    """The lifetimes of some seeds, [T, E, ...]."""
    fresh: Callable[[Learner, Sequence[int]], State]
    """The states that these lifetimes start from."""

    def __call__(self, learner: Learner) -> MetaLoss:
        """The meta-loss of all of them."""
        return meta_loss(self.runner, self.fresh_states(learner), self.episode, self.protocol)

    def fresh_states(self, learner: Learner) -> State:
        """What all of them start from."""
        return self.fresh(learner, self.seeds)

    @cached_property
    def episode(self) -> Episode:
        """All of them."""
        return self.sample(self.seeds)

    def share(self, first: int, count: int, shares: int) -> Lifetimes:
        """Those of `count` shares from `first` on, where all are dealt out, in order, in so many
        equal shares."""
        size = len(self.seeds) // shares
        return replace(self, seeds=self.seeds[first * size : (first + count) * size])


class Validation(NamedTuple):
    """How the meta-parameters do on what no meta-gradient sees."""

    loss: float
    accuracy: float


class Source(ABC):
    """All of its randomness comes from (seed, step), so that training can be continued exactly.
    A learner's recipe names another one than `TaskLifetimes` as `source`."""

    data_hashes: dict[str, str]
    """Dataset -> content hash of the partition that is meta-trained on."""

    carried: dict[str, Tensor]
    """What goes over from one meta-update to the next, besides meta-parameters and moments. It can
    be set, to continue from there."""

    def accelerate(self, steps: int) -> None:  # noqa: B027
        """Has the lifetimes of the meta-updates run as quickly as so many steps, backpropagated
        through, pay for."""

    @abstractmethod
    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        learner: Learner,
        execution: Execution,
        root: Path | None,
    ) -> None:
        """learner: fresh, on the execution's device, and trained in place. root: data root."""

    @abstractmethod
    def objective(self, planned: Update, step: int, *, largest: bool = False) -> Objective:
        """The meta-loss of meta-update `step`; of its largest examples, where they may differ, if
        that is asked for."""

    @abstractmethod
    def validate(self) -> Validation:
        """Scores today's meta-parameters."""
