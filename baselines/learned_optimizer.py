"""A learned optimiser: one small network, shared by all parameters, that turns each parameter's
gradient into its step.

A linear classifier with weights w, zero at first, is trained online. For each of its weights, with
gradient g of the cross-entropy of the example just predicted,

    m_b <- b m_b + (1 - b) g    for every decay b,    v <- c v + (1 - c) g^2
    s = (g, m_b, g / sqrt(v), m_b / sqrt(v))          v without its bias towards 0
    u = norm(g, m_b, v, g / sqrt(v), m_b / sqrt(v), w, 1 / sqrt(v)), tanh(t / 10), ...
    w <- w - (exp(a(u)) (sum_i r_i s_i) + r_d d(u)) / n

with norm the division by the root mean square over all weights of a lifetime, (a, d) the two
outputs of a network of two hidden layers, and n the number of inputs: a logit then moves as much
whatever the size of the images. The first term is a classical optimiser whose rates r
are learned: hand-set, it is SGD, momentum or Adam. The network adapts its rate to each weight and
adds a direction of its own. It is shared, so that it trains classifiers of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error

TIMES = (10.0, 100.0, 1000.0)
"""Steps over which the network can tell a lifetime's age."""
EPSILON = 1e-8
"""Below which squares of gradients count as none."""


@dataclass(frozen=True)
class LearnedOptimizerConfig:
    """Size of the shared network and what it remembers of gradients."""

    hidden: int = 8
    """Units in each of two hidden layers."""
    momenta: tuple[float, ...] = (0.5, 0.9, 0.99)
    """Decays b of the momenta."""
    second: float = 0.999
    """Decay c of the mean square."""
    fresh_rate: float = 0.65
    """Of fresh meta-parameters: the first term is then SGD at this rate / n."""


class LearnedOptimizerState(NamedTuple):
    """The classifier, what the optimiser remembers of its gradients, and the example."""

    weights: Tensor  # w; the last column is the bias [E, K, D+1]
    momenta: Tensor  # m_b, one for each decay [E, B, K, D+1]
    squares: Tensor  # v [E, K, D+1]
    steps: Tensor  # t, examples so far [E]
    inputs: Tensor  # (x, 1) of the example just predicted [E, D+1]
    logits: Tensor  # of the last prediction [E, K]


class LearnedOptimizer(Learner):
    """A linear classifier, trained one example at a time by an optimiser with meta-learned rates
    and a meta-learned network per weight."""

    variants: ClassVar[Mapping[str, LearnedOptimizerConfig]] = {
        "learned-optimizer": LearnedOptimizerConfig()
    }
    family = "learned optimisers"
    source = (
        "Andrychowicz et al. 2016, arXiv 1606.04474; features: Metz et al. 2020, arXiv 2009.11243; "
        "beside classical terms: Harrison, Metz & Sohl-Dickstein 2022, arXiv 2209.11208"
    )
    invariances = frozenset({"inputs", "labels"})
    recipe = Recipe(
        phases=(
            Phase(steps=150, lifetime=100, learning_rate=1e-2, final_learning_rate=2e-3),
            Phase(steps=60, lifetime=400, learning_rate=2e-3, final_learning_rate=3e-4),
        ),
        lifetimes=8,
        size=8,
    )

    def __init__(self, config: LearnedOptimizerConfig) -> None:
        super().__init__(config)
        terms = 2 * (1 + len(config.momenta))  # s
        self.rates = nn.Parameter(torch.empty(terms + 1))  # r, in units of fresh_rate; last: r_d
        self.first = nn.Linear(terms + 3 + len(TIMES), config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, 2)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """SGD, and a network whose outputs are zero; its other weights are uniform in
        +-1/sqrt(fan in)."""
        with torch.no_grad():
            self.rates.zero_()[0] = 1.0
            self.rates[-1] = 0.1
        for layer in (self.first, self.second):
            bound = 1 / sqrt(layer.in_features)
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> LearnedOptimizerState:
        """All zero; draws nothing."""
        size, count = shape.features + 1, len(self.config.momenta)
        zeros = torch.zeros(lifetimes, count + 2, shape.classes, size, dtype=self.rates.dtype)
        zeros = zeros.to(generator.device)
        return LearnedOptimizerState(
            weights=zeros[:, 0],
            momenta=zeros[:, 2:],
            squares=zeros[:, 1],
            steps=zeros[:, 0, 0, 0],
            inputs=zeros[:, 0, 0],
            logits=zeros[:, 0, :, 0],
        )

    def predict(
        self, state: LearnedOptimizerState, inputs: Tensor
    ) -> tuple[Tensor, LearnedOptimizerState]:
        """The classifier as it is."""
        x = pad(inputs.flatten(1), (0, 1), value=1.0)
        logits = torch.bmm(state.weights, x.unsqueeze(-1)).squeeze(-1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: LearnedOptimizerState, labels: Tensor) -> LearnedOptimizerState:
        """One step of the learned optimiser on the example just predicted."""
        config, weights, steps = self.config, state.weights, state.steps + 1
        error = cross_entropy_error(state.logits, labels)
        gradient = error.unsqueeze(-1) * state.inputs.unsqueeze(-2)  # g [E, K, D+1]
        decays = gradient.new_tensor(config.momenta).view(-1, 1, 1)
        momenta = decays * state.momenta + (1 - decays) * gradient.unsqueeze(1)
        squares = config.second * state.squares + (1 - config.second) * gradient.square()
        unbiased = squares / (1 - config.second**steps).view(-1, 1, 1)
        inverse = (unbiased + EPSILON).rsqrt()
        plain = torch.cat([gradient.unsqueeze(1), momenta], 1)  # [E, 1 + B, K, D+1]
        terms = torch.cat([plain, plain * inverse.unsqueeze(1)], 1)  # s
        rest = torch.stack([unbiased, weights, inverse], 1)
        factor, direction = self._network(torch.cat([terms, rest], 1), steps)
        rates = config.fresh_rate / weights.shape[-1] * self.rates
        step = factor.exp() * torch.einsum("i,eikd->ekd", rates[:-1], terms)
        step = step + rates[-1] * direction
        return state._replace(weights=weights - step, momenta=momenta, squares=squares, steps=steps)

    def _network(self, features: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Both outputs, [E, K, D+1], of features [E, F, K, D+1] after so many steps [E]."""
        size = features.square().mean((-2, -1), keepdim=True)
        features = features * (size + EPSILON**2).rsqrt()
        ages = torch.tanh(steps.unsqueeze(-1) / steps.new_tensor(TIMES))  # [E, 3]
        count = features.shape[1]
        # a sum over features in place of a product with each weight's: ages are the same for all
        of_ages = ages @ self.first.weight[:, count:].T + self.first.bias  # [E, hidden]
        units = torch.einsum("hf,efkd->ehkd", self.first.weight[:, :count], features)
        units = relu(units + of_ages[..., None, None])
        units = torch.einsum("hf,efkd->ehkd", self.second.weight, units)
        units = relu(units + self.second.bias[:, None, None])
        out = torch.einsum("hf,efkd->ehkd", self.last.weight, units)
        out = out + self.last.bias[:, None, None]
        return out[:, 0], out[:, 1]
