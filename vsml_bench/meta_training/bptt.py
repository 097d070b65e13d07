"""Meta-gradients by backpropagation through a whole lifetime."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, State
from vsml_bench.protocols.online import stepwise_loss


class MetaGradient(NamedTuple):
    """What one lifetime batch says; the gradient itself is in the parameters' `.grad`."""

    loss: float  # mean cross-entropy over lifetimes and steps, nats
    accuracy: float  # cumulative accuracy


def meta_gradient(learner: Learner, state: State, episode: Episode) -> MetaGradient:
    """Sets `.grad` of every meta-parameter that the meta-loss depends on: the mean cross-entropy of
    all predictions, each made before its label was seen. The others' stays None."""
    learner.zero_grad(set_to_none=True)
    logits, _ = learner.unroll(state, episode.inputs, episode.labels)
    loss = stepwise_loss(logits, episode.labels).mean()
    loss.backward()
    with torch.no_grad():
        accuracy = (logits.argmax(-1) == episode.labels).float().mean()
    return MetaGradient(loss.item(), accuracy.item())
