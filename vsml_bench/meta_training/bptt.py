"""Meta-gradients by backpropagation through a whole lifetime."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, State
from vsml_bench.protocols.protocol import Protocol, stepwise_loss


class MetaGradient(NamedTuple):
    """What one lifetime batch says; the gradient itself is in the parameters' `.grad`."""

    loss: float  # mean cross-entropy over lifetimes and scored predictions, nats
    accuracy: float  # of the same predictions


def meta_gradient(
    learner: Learner, state: State, episode: Episode, protocol: Protocol
) -> MetaGradient:
    """Sets `.grad` of every meta-parameter that the meta-loss depends on: the mean cross-entropy of
    the predictions that the protocol scores, each made before its label was seen, if ever. The
    others' stays None."""
    learner.zero_grad(set_to_none=True)
    logits, labels, _ = protocol.run(learner, state, episode)
    loss = stepwise_loss(logits, labels).mean()
    loss.backward()
    with torch.no_grad():
        accuracy = (logits.argmax(-1) == labels).float().mean()
    return MetaGradient(loss.item(), accuracy.item())
