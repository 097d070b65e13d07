"""MAML and Meta-SGD: an initialisation learned such that a few gradient steps from it learn a task.

With theta the learned initialisation, L the cross-entropy and alpha the inner learning rate,

    online      phi_0 = theta,   phi_t = phi_{t-1} - alpha dL(x_t, y_t)/dphi    (one per example)
    few-shot    phi_0 = theta,   phi_k = phi_{k-1} - alpha dL(support)/dphi     (k with all of it)

The meta-gradient dL(phi)/dtheta runs through the inner steps, which makes it second order; first
order takes the inner gradients for constants. In Meta-SGD, alpha is learned too, for each weight.
All lifetimes, each with weights of its own, go through the network at once (`torch.func.vmap`).

No layer takes statistics over a batch: each query is predicted by itself, as if it were the only
one, and an online lifetime never has more than one example at a time.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from vsml_bench.learner import Learner, Phase, Recipe, Shape

Tensors: TypeAlias = tuple[Tensor, ...]

SHAPE = Shape((1, 28, 28), 62)
"""The initialisation has one size; 62 is the most classes of any of the paper's datasets."""


@dataclass(frozen=True)
class MAMLConfig:
    """How the inner loop learns."""

    online_rate: float = 0.01
    """alpha of the step after each example of a lifetime."""
    inner_rate: float = 0.4
    """alpha of the steps on a support set."""
    inner_steps: int = 1
    """k, the steps on a support set."""
    first_order: bool = False
    """Whether the meta-gradient takes the inner gradients for constants."""
    learned_rates: bool = False
    """Whether each weight learns its rate (Meta-SGD), as a factor before alpha that starts at 1."""


@dataclass(frozen=True)
class MLPConfig(MAMLConfig):
    """A network of dense ReLU layers, with these widths of hidden ones."""

    hidden: tuple[int, ...] = (64,)


@dataclass(frozen=True)
class ConvConfig(MAMLConfig):
    """Four convolutional layers of so many channels."""

    filters: int = 32


class MAMLState(NamedTuple):
    """A network being adapted."""

    weights: Tensors  # phi, in the order of network.parameters(), each [E, *its shape]
    inputs: Tensor  # of the example just predicted [E, *shape.inputs]


class ModelAgnostic(Learner):
    """The inner and the outer loop, for any network."""

    variants: ClassVar[Mapping[str, MAMLConfig]] = {}
    family = "gradient-based meta-learning"
    source = (
        "Finn, Abbeel & Levine 2017, arXiv 1703.03400; Meta-SGD: Li, Zhou, Chen & Li 2017, "
        "arXiv 1707.09835"
    )
    protocols = frozenset({"online", "few_shot"})
    fixed_shape = SHAPE

    def __init__(self, config: MAMLConfig) -> None:
        super().__init__(config)
        self.network = self.make_network()  # its parameters are theta
        factors = [torch.ones_like(p) for p in self.network.parameters()]
        self.rates = nn.ParameterList(factors if config.learned_rates else [])

    @abstractmethod
    def make_network(self) -> nn.Module:
        """Images [S, 1, 28, 28] to logits [S, 62]; each example's depend on it alone."""

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Weights and biases uniform in +-1/sqrt(fan in), as in PyTorch; all rates equal."""
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()
        for factor in self.rates:
            nn.init.ones_(factor)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> MAMLState:
        """phi_0 = theta in every lifetime; draws nothing."""
        device = generator.device
        theta = (p.to(device) for p in self.network.parameters())
        weights = tuple(p.expand(lifetimes, *p.shape) for p in theta)
        return MAMLState(weights, weights[0].new_zeros(lifetimes, *shape.inputs))

    def predict(self, state: MAMLState, inputs: Tensor) -> tuple[Tensor, MAMLState]:
        """The network with the adapted weights, on one example per lifetime."""
        logits = vmap(self._logits)(state.weights, inputs.unsqueeze(1))  # [E, 1, K]
        return logits.squeeze(1), state._replace(inputs=inputs)

    def observe(self, state: MAMLState, labels: Tensor) -> MAMLState:
        """One inner step on the example just predicted."""
        examples = (state.inputs.unsqueeze(1), labels.unsqueeze(1))
        return state._replace(weights=self._step(state.weights, *examples, self.config.online_rate))

    def adapt(self, state: MAMLState, inputs: Tensor, labels: Tensor) -> MAMLState:
        """Takes k inner steps, each on the mean loss of the whole support set."""
        weights = state.weights
        inputs, labels = inputs.transpose(0, 1), labels.T  # [E, S, ...], [E, S]
        for _ in range(self.config.inner_steps):
            weights = self._step(weights, inputs, labels, self.config.inner_rate)
        return state._replace(weights=weights)

    def answer(self, state: MAMLState, queries: Tensor) -> Tensor:
        """All queries of a lifetime at once."""
        return vmap(self._logits, in_dims=(0, 1), out_dims=1)(state.weights, queries)

    def _step(self, weights: Tensors, inputs: Tensor, labels: Tensor, alpha: float) -> Tensors:
        """Returns phi - alpha dL/dphi. inputs [E, S, *shape.inputs], labels int64 [E, S]."""
        differentiable = torch.is_grad_enabled() and not self.config.first_order
        with torch.set_grad_enabled(differentiable):
            gradients = vmap(grad(self._loss))(weights, inputs, labels)
        factors = self.rates or [1.0] * len(weights)
        terms = zip(weights, factors, gradients, strict=True)
        return tuple(phi - alpha * factor * g for phi, factor, g in terms)

    def _loss(self, weights: Tensors, inputs: Tensor, labels: Tensor) -> Tensor:
        """L, the mean cross-entropy of one lifetime's S examples."""
        return cross_entropy(self._logits(weights, inputs), labels)

    def _logits(self, weights: Tensors, inputs: Tensor) -> Tensor:
        """One lifetime's network: inputs [S, *shape.inputs] to logits [S, K]."""
        named = dict(zip(dict(self.network.named_parameters()), weights, strict=True))
        logits: Tensor = functional_call(self.network, named, (inputs,))
        return logits


class MAML(ModelAgnostic):
    """A network of dense ReLU layers."""

    variants: ClassVar[Mapping[str, MAMLConfig]] = {
        "maml": MLPConfig(),
        "fomaml": MLPConfig(first_order=True),
        "meta-sgd": MLPConfig(learned_rates=True),
    }
    recipe = Recipe(phases=(Phase(1000, 100, 1e-3, 1e-4),), lifetimes=16)

    def make_network(self) -> nn.Module:
        """Dense layers; the last has no ReLU."""
        layers: list[nn.Module] = [nn.Flatten()]
        width = SHAPE.features
        for hidden in self.config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, SHAPE.classes))


class ConvMAML(ModelAgnostic):
    """The network of four strided convolutions that MAML's paper uses for Omniglot (section 5.2),
    with layer normalisation in place of its transductive batch normalisation, and with a recipe for
    few-shot episodes."""

    variants: ClassVar[Mapping[str, MAMLConfig]] = {
        "maml-conv": ConvConfig(),
        "fomaml-conv": ConvConfig(first_order=True),
        "meta-sgd-conv": ConvConfig(learned_rates=True),
    }
    recipe = Recipe(phases=(Phase(3000, 80, 3e-3, 3e-4),), lifetimes=4, validate_every=250)

    def make_network(self) -> nn.Module:
        """3x3 convolutions of stride 2 from 28x28 down to 2x2, and a dense layer on all that is
        left: the mean over space would leave too little that differs between examples, where batch
        normalisation does not centre it."""
        channels, filters = SHAPE.inputs[0], self.config.filters
        layers: list[nn.Module] = []
        for _ in range(4):
            convolution = nn.Conv2d(channels, filters, 3, stride=2, padding=1)
            layers += [convolution, nn.GroupNorm(1, filters), nn.ReLU()]
            channels = filters
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * filters, SHAPE.classes))
