"""Online gradient descent, plain and Adam, on a linear softmax classifier or a tanh network.

One gradient step per example, on the cross-entropy of the prediction just made. With a_0 = x,

    forward     z_l = W_l a_{l-1} + b_l,   a_l = tanh(z_l),   logits = z_L
    backward    d_L = softmax(z_L) - onehot(y),   d_{l-1} = (W_l^T d_l) * (1 - a_{l-1}^2)
    gradients   dL/dW_l = d_l a_{l-1}^T,   dL/db_l = d_l

written out by hand so that all lifetimes, each with weights of its own, go through it at once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from vsml_bench.learner import Learner, Shape, TuningGrid, cross_entropy_error

Tensors: TypeAlias = tuple[Tensor, ...]
BOUND = 100.0  # of the logits in the VSML paper


@dataclass(frozen=True)
class SGDConfig:
    """The network and its learning rate."""

    hidden: tuple[int, ...] = ()
    """Widths of hidden tanh layers; () is softmax regression."""
    learning_rate: float = 0.01


@dataclass(frozen=True)
class AdamConfig(SGDConfig):
    """Adam's constants, named as in its paper."""

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class GradientDescentState(NamedTuple):
    """A network being trained."""

    parameters: Tensors  # W_1 [E, B, A], b_1 [E, B], W_2, b_2, ...
    moments: tuple[Tensors, ...]  # the optimiser's averages, each like `parameters`
    activations: Tensors  # a_0 .. a_{L-1} of the last prediction, each [E, A]
    logits: Tensor  # of the last prediction [E, K]
    steps: Tensor  # gradient steps taken, int64 [E]


class GradientDescent(Learner):
    """What the optimisers share: the network, its fresh weights and its gradient."""

    variants: ClassVar[Mapping[str, SGDConfig]] = {}
    family = "gradient descent"
    source = "Rumelhart, Hinton & Williams 1986, Nature 323, 533-536"

    @abstractmethod
    def init_moments(self, parameters: Tensors) -> tuple[Tensors, ...]:
        """What the optimiser remembers before its first step."""

    @abstractmethod
    def descend(self, state: GradientDescentState, gradients: Tensors) -> GradientDescentState:
        """One step of the optimiser: new parameters and moments. `state.steps` already counts this
        step; `gradients` are like `state.parameters`."""

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> GradientDescentState:
        """A fresh network for each lifetime."""
        device = generator.device
        widths = (shape.features, *self.config.hidden, shape.classes)
        parameters: list[Tensor] = []
        for inputs, outputs in pairwise(widths):
            weight = torch.empty(lifetimes, outputs, inputs, device=device)
            bias = torch.empty(lifetimes, outputs, device=device)
            parameters += self.fill(weight, bias, generator)
        return GradientDescentState(
            parameters=tuple(parameters),
            moments=self.init_moments(tuple(parameters)),
            activations=tuple(torch.zeros(lifetimes, w, device=device) for w in widths[:-1]),
            logits=torch.zeros(lifetimes, shape.classes, device=device),
            steps=torch.zeros(lifetimes, dtype=torch.int64, device=device),
        )

    def predict(
        self, state: GradientDescentState, inputs: Tensor
    ) -> tuple[Tensor, GradientDescentState]:
        """The forward pass; its activations wait in the state for the backward pass."""
        output = inputs.flatten(1)
        activations: list[Tensor] = []
        for depth, (weight, bias) in enumerate(_layers(state.parameters)):
            below = torch.tanh(output) if depth > 0 else output
            activations.append(below)
            # a product and a sum, not bmm: compiled, it is one pass over the weights and quicker
            output = bias + (weight * below.unsqueeze(-2)).sum(-1)
        return output, state._replace(activations=tuple(activations), logits=output)

    def observe(self, state: GradientDescentState, labels: Tensor) -> GradientDescentState:
        """The backward pass and one step of the optimiser."""
        delta = self.error(state.logits, labels)  # d_L [E, K]
        gradients: list[Tensor] = []
        layers = zip(_layers(state.parameters), state.activations, strict=True)
        for depth, ((weight, _), below) in reversed(list(enumerate(layers))):
            gradients[:0] = [delta.unsqueeze(-1) * below.unsqueeze(-2), delta]
            if depth > 0:
                delta = (delta.unsqueeze(-1) * weight).sum(-2) * (1 - below * below)
        return self.descend(state._replace(steps=state.steps + 1), tuple(gradients))

    def fill(self, weight: Tensor, bias: Tensor, generator: torch.Generator) -> Tensors:
        """Draws a layer's W [E, B, A] and b [E, B], uniform in +-1/sqrt(A) as torch.nn.Linear."""
        bound = 1 / math.sqrt(weight.shape[-1])
        return tuple(p.uniform_(-bound, bound, generator=generator) for p in (weight, bias))

    def error(self, logits: Tensor, labels: Tensor) -> Tensor:
        """d_L, the gradient of the loss by z_L [E, K]."""
        return cross_entropy_error(logits, labels)


class SGD(GradientDescent):
    """Plain stochastic gradient descent: theta <- theta - alpha g."""

    variants: ClassVar[Mapping[str, SGDConfig]] = {
        "sgd-linear": SGDConfig(),
        "sgd-mlp": SGDConfig(hidden=(160,)),
    }
    source = "Robbins & Monro 1951; Rumelhart, Hinton & Williams 1986"
    tuning: ClassVar[TuningGrid | None] = TuningGrid(
        {"learning_rate": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}, lifetimes=8, steps=2000
    )

    def init_moments(self, parameters: Tensors) -> tuple[Tensors, ...]:
        """Nothing is remembered."""
        return ()

    def descend(self, state: GradientDescentState, gradients: Tensors) -> GradientDescentState:
        """Moves each parameter against its gradient."""
        rate = self.config.learning_rate
        moved = (p - rate * g for p, g in zip(state.parameters, gradients, strict=True))
        return state._replace(parameters=tuple(moved))


class Adam(GradientDescent):
    """Adam: m and v are running means of g and g^2, corrected for having started at zero,

    theta <- theta - alpha (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
    """

    variants: ClassVar[Mapping[str, SGDConfig]] = {
        "adam-linear": AdamConfig(),
        "adam-mlp": AdamConfig(hidden=(160,)),
    }
    source = "Kingma & Ba 2015, arXiv 1412.6980"
    tuning: ClassVar[TuningGrid | None] = TuningGrid(
        {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}, lifetimes=8, steps=2000
    )

    def init_moments(self, parameters: Tensors) -> tuple[Tensors, ...]:
        """Two running means, both zero."""
        return tuple(tuple(torch.zeros_like(p) for p in parameters) for _ in range(2))

    def descend(self, state: GradientDescentState, gradients: Tensors) -> GradientDescentState:
        """Algorithm 1 of the paper, one pass of its loop, with both corrections applied per
        lifetime instead of per weight."""
        config = self.config
        steps = state.steps.to(state.logits.dtype)
        # 1 - beta^t as -expm1(t log beta): the difference would lose digits in float32
        correction1 = -torch.expm1(steps * math.log(config.beta1))  # [E]
        correction2 = -torch.expm1(steps * math.log(config.beta2))
        rate = config.learning_rate / correction1
        scale = correction2.rsqrt()
        parameters, first, second = [], [], []
        for theta, g, m, v in zip(state.parameters, gradients, *state.moments, strict=True):
            per_lifetime = (-1,) + (1,) * (g.dim() - 1)
            m = config.beta1 * m + (1 - config.beta1) * g
            v = config.beta2 * v + (1 - config.beta2) * g * g
            root = v.sqrt() * scale.view(per_lifetime) + config.epsilon
            parameters.append(theta - rate.view(per_lifetime) * m / root)
            first.append(m)
            second.append(v)
        return state._replace(parameters=tuple(parameters), moments=(tuple(first), tuple(second)))


class AsInVSMLPaper(GradientDescent):
    """As in the baselines of Kirsch & Schmidhuber 2021: fixed rates, logits = 100 tanh(z_L / 100),
    weights from a normal of std 1/sqrt(fan in) cut off at two of these, and biases 0."""

    tuning: ClassVar[TuningGrid | None] = None

    def predict(
        self, state: GradientDescentState, inputs: Tensor
    ) -> tuple[Tensor, GradientDescentState]:
        """The forward pass, with the bound on its outputs."""
        output, state = super().predict(state, inputs)
        logits = BOUND * torch.tanh(output / BOUND)
        return logits, state._replace(logits=logits)

    def fill(self, weight: Tensor, bias: Tensor, generator: torch.Generator) -> Tensors:
        """Draws W; b = 0."""
        std = 1 / math.sqrt(weight.shape[-1])
        torch.nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
        return weight, bias.zero_()

    def error(self, logits: Tensor, labels: Tensor) -> Tensor:
        """d_L, through the bound."""
        return cross_entropy_error(logits, labels) * (1 - (logits / BOUND) ** 2)


class PaperSGD(AsInVSMLPaper, SGD):
    """Plain stochastic gradient descent as in the VSML paper."""

    variants: ClassVar[Mapping[str, SGDConfig]] = {
        "sgd-linear-paper": SGDConfig(),
        "sgd-mlp-paper": SGDConfig(hidden=(160,)),
    }


class PaperAdam(AsInVSMLPaper, Adam):
    """Adam as in the VSML paper."""

    variants: ClassVar[Mapping[str, SGDConfig]] = {
        "adam-linear-paper": AdamConfig(),
        "adam-mlp-paper": AdamConfig(hidden=(160,)),
    }


def _layers(parameters: Tensors) -> list[tuple[Tensor, Tensor]]:
    """(W_l, b_l) of each layer, from the first."""
    return list(zip(parameters[::2], parameters[1::2], strict=True))
