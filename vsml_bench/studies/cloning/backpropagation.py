"""Online backpropagation in the network that clones of it run in, as textbooks write it.

Units are numbered by layers: x_0 are the inputs, y = x_L the logits. Every layer has one more input
than units below it, which is always `CONSTANT`: the weight from it is the bias. With t_l = tanh of
(x_l, CONSTANT),

    forward     x_{l+1} = t_l W_l
    backward    e_L = softmax(y) - onehot,   e_l = (W_l e_{l+1}) (1 - t_l^2)
    update      W_l <- W_l + V_l,   V_l <- mu V_l - alpha t_l e_{l+1}^T

Inputs go through tanh as hidden units do, since all synapses are of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from vsml_bench.learner import Learner, Shape, cross_entropy_error

Weights: TypeAlias = tuple[Tensor, ...]
"""W_0 .. W_{L-1}, each [E, A + 1, B]; the last input is the constant."""

CONSTANT = 2.0


@dataclass(frozen=True)
class BackpropagationConfig:
    """The network and its learning rate."""

    hidden: tuple[int, ...] = ()
    """Widths of hidden tanh layers."""
    rate: float = 0.02
    """alpha."""
    momentum: float = 0.0
    """mu."""


class BackpropagationState(NamedTuple):
    """A network being trained."""

    weights: Weights
    velocities: Weights
    activations: Weights  # t_0 .. t_{L-1} of the last prediction, each [E, A + 1]
    logits: Tensor  # of the last prediction [E, K]


def initial_weights(
    lifetimes: int, hidden: tuple[int, ...], shape: Shape, generator: torch.Generator
) -> Weights:
    """Normal with variance 1/A, biases 0, float32 on the generator's device."""
    sizes = (shape.features, *hidden, shape.classes)
    device = generator.device
    weights = []
    for inputs, outputs in pairwise(sizes):
        drawn = torch.randn(lifetimes, inputs, outputs, generator=generator, device=device)
        weights.append(torch.nn.functional.pad(drawn / sqrt(inputs), (0, 0, 0, 1)))
    return tuple(weights)


def with_constant(units: Tensor) -> Tensor:
    """Values [E, A] with the constant after them, [E, A + 1]."""
    return torch.nn.functional.pad(units, (0, 1), value=CONSTANT)


def error_of(logits: Tensor, labels: Tensor) -> Tensor:
    """dL/dlogits [E, K] of the cross-entropy; 0 where the label is -1, for nothing is known."""
    known = (labels >= 0).unsqueeze(-1)
    return cross_entropy_error(logits, labels.clamp_min(0)) * known


class Backpropagation(Learner):
    """What clones are compared with; see the module. Nothing is tuned: the rate is theirs."""

    variants: ClassVar[Mapping[str, BackpropagationConfig]] = {
        "backpropagation-1": BackpropagationConfig(),
        "backpropagation-2": BackpropagationConfig(hidden=(32,)),
        "backpropagation-3": BackpropagationConfig(hidden=(32, 32)),
        "backpropagation-momentum": BackpropagationConfig(rate=0.002, momentum=0.9),
    }
    family = "gradient descent"
    source = "Rumelhart, Hinton & Williams 1986, Nature 323, 533-536"
    protocols = frozenset({"online", "few_shot", "cloning"})
    invariances = frozenset({"inputs", "labels"})

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> BackpropagationState:
        """Fresh weights."""
        weights = initial_weights(lifetimes, self.config.hidden, shape, generator)
        return self.starting_from(tuple(w.to(torch.get_default_dtype()) for w in weights))

    def starting_from(self, weights: Weights) -> BackpropagationState:
        """A fresh state with these weights."""
        return BackpropagationState(
            weights=weights,
            velocities=tuple(torch.zeros_like(w) for w in weights),
            activations=tuple(torch.zeros_like(w[..., 0]) for w in weights),
            logits=torch.zeros_like(weights[-1][:, 0]),
        )

    def predict(
        self, state: BackpropagationState, inputs: Tensor
    ) -> tuple[Tensor, BackpropagationState]:
        """The forward pass."""
        units, activations = inputs.flatten(1), []
        for weight in state.weights:
            activations.append(torch.tanh(with_constant(units)))
            units = torch.einsum("ea,eab->eb", activations[-1], weight)
        return units, state._replace(activations=tuple(activations), logits=units)

    def observe(self, state: BackpropagationState, labels: Tensor) -> BackpropagationState:
        """The backward pass and one update."""
        error = error_of(state.logits, labels)
        rate, momentum = self.config.rate, self.config.momentum
        weights, velocities = [], []
        layers = zip(state.weights, state.velocities, state.activations, strict=True)
        for weight, velocity, activation in reversed(list(layers)):
            gradient = activation.unsqueeze(2) * error.unsqueeze(1)
            velocities.append(momentum * velocity - rate * gradient)
            weights.append(weight + velocities[-1])
            error = torch.einsum("eab,eb->ea", weight, error) * (1 - activation**2)
            error = error[:, :-1]
        return state._replace(weights=tuple(weights[::-1]), velocities=tuple(velocities[::-1]))

    def weights(self, state: BackpropagationState) -> Weights:
        """The network's weights."""
        return state.weights

    def velocities(self, state: BackpropagationState) -> Weights:
        """What momentum adds to them next, without the next gradient."""
        return state.velocities

    def reference(self) -> Backpropagation:
        """Itself."""
        return self
