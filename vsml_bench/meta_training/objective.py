"""What meta-training minimises, whichever engine finds the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from torch import Tensor

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, State
from vsml_bench.protocols.protocol import Protocol, stepwise_loss


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
