"""What a protocol is: how lifetimes are sampled, and which of their predictions are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.data.subsets import Subset
from vsml_bench.learner import State


class Predictions(NamedTuple):
    """The scored predictions of a batch of lifetimes."""

    logits: Tensor  # [T, E, K]; T scored predictions in each lifetime
    labels: Tensor  # true ones of the examples predicted, int64 [T, E]
    state: State  # at the end of what is learned
    traces: Mapping[str, Tensor] = {}
    """What a track measures beside correctness and loss: name -> float [E, ...]. The names and the
    shapes after E are the same in all batches; NaN where there is nothing to measure."""


class Protocol(ABC):
    """The same object samples and runs lifetimes in meta-training, validation, tuning and
    meta-testing."""

    fit: ClassVar[Subset]
    """The part of the meta-train side that meta-gradients see."""
    validation: ClassVar[Subset]
    """The part that they do not see."""

    @property
    @abstractmethod
    def predictions(self) -> int:
        """T, scored predictions of a lifetime."""

    @property
    @abstractmethod
    def learning_steps(self) -> int:
        """Examples of a lifetime that are learned from."""

    @abstractmethod
    def check(self, sampler: EpisodeSampler) -> None:
        """VsmlBenchError where the sampler's data do not allow this protocol."""

    @abstractmethod
    def sample(self, sampler: EpisodeSampler, seeds: Sequence[int]) -> Episode:
        """One lifetime per seed."""

    @abstractmethod
    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Runs the lifetimes of `episode`, [T, E, ...], from fresh states, differentiably."""

    @abstractmethod
    def warm_up(self, runner: Runner, state: State, episode: Episode) -> None:
        """Runs as little as has the learner's code compiled."""


def stepwise_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of each prediction; logits [T, E, K], labels [T, E], returns [T, E]."""
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none"
    )
    return flat.view_as(labels)
