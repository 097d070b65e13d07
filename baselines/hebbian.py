"""Hebbian plasticity: each weight has a part that experience changes, and how much is learned.

Differentiable plasticity (Miconi, Clune & Stanley 2018, eq. 1 to 3) in one layer. The weight from
input j to unit i is w_ij + alpha_ij F_ij; w and alpha are meta-parameters, the trace F is state.
Two passes per example: the first predicts, the second gets error e = softmax(logits) -
onehot(label) and label y as further inputs and writes,

    first    logits = 100 tanh(((s W + alpha F) (x_t, 0, 0) + sqrt(D) b) / 100)
    second   u = softmax((s W + alpha F) (x_t, e_t, y_t) + sqrt(D) b)
             F_ij <- F_ij + eta u_i (x_j - u_i F_ij)     Oja's rule (eq. 3)
             F_ij <- (1 - eta) F_ij + eta u_i x_j        Hebb's rule with decay (eq. 2)

where x_j runs over all inputs of the second pass, and the learned rate is eta = sigmoid(log odds).
Softmax and bound are those of the VSML paper's baseline (Kirsch & Schmidhuber 2021); where `squash`
is "tanh", u = tanh(..) as in Miconi et al. s_j is 1/sqrt(D) for the D inputs of the example and 1
for errors and labels. s and sqrt(D) are in neither paper: they make Adam's steps, alike for all
parameters, move s W x and sqrt(D) b alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error

BOUND = 100.0  # of logits
INITIAL_PLASTICITY = 0.01  # alpha
INITIAL_RATE_LOG_ODDS = -4.5  # eta = sigmoid(-4.5) = 0.011
INITIAL_ERROR_WEIGHT = -10.0  # of a unit's own error


@dataclass(frozen=True)
class HebbianConfig:
    """How traces are written."""

    oja: bool = True
    """Oja's rule; False is Hebb's with decay."""
    squash: Literal["softmax", "tanh"] = "softmax"
    """What bounds the units that write."""


class HebbianState(NamedTuple):
    """The traces, and the example that the second pass sees again. A = D + 2K inputs."""

    traces: Tensor  # F [E, K, A]
    inputs: Tensor  # x_t [E, D]
    logits: Tensor  # of the last prediction [E, K]


class Hebbian(Learner):
    """One layer of plastic weights from (example, error, label) to classes."""

    version = 2
    variants: ClassVar[Mapping[str, HebbianConfig]] = {
        "hebbian-oja": HebbianConfig(),
        "hebbian-oja-tanh": HebbianConfig(squash="tanh"),
        "hebbian": HebbianConfig(oja=False, squash="tanh"),
    }
    family = "plastic weights"
    source = "Miconi, Clune & Stanley 2018, arXiv 1804.02464; Oja 1982, J. Math. Biology 15"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    scale: Tensor  # s [A]
    recipe = Recipe(
        phases=(
            Phase(steps=500, lifetime=50, learning_rate=3e-3),
            Phase(steps=3000, lifetime=100, learning_rate=3e-3, final_learning_rate=1e-4),
            Phase(
                steps=500,
                lifetime=400,
                learning_rate=5e-3,
                final_learning_rate=2e-4,
                fresh_optimizer=True,
            ),
        ),
        lifetimes=8,
        validate_every=250,
    )

    def __init__(self, config: HebbianConfig) -> None:
        super().__init__(config)
        classes = self.fixed_shape.classes
        size = (classes, self.fixed_shape.features + 2 * classes)
        self.weight = nn.Parameter(torch.empty(size))  # W [K, A]
        self.plasticity = nn.Parameter(torch.empty(size))  # alpha [K, A]
        self.bias = nn.Parameter(torch.empty(classes))  # b
        self.rate_log_odds = nn.Parameter(torch.empty(()))
        scale = torch.ones(size[1])  # s [A]
        scale[: self.fixed_shape.features] /= sqrt(self.fixed_shape.features)
        self.register_buffer("scale", scale, persistent=False)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Of W, only the weight of each unit's own error is not 0: what drives a fresh unit most is
        that it was wrong, so that its traces start close to the delta rule's. Driven by the
        example, they would reinforce themselves. alpha = 0.01, eta = sigmoid(-4.5), b = 0. Draws
        nothing."""
        features, classes = self.fixed_shape.features, self.fixed_shape.classes
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.weight[:, features : features + classes].fill_diagonal_(INITIAL_ERROR_WEIGHT)
        nn.init.constant_(self.plasticity, INITIAL_PLASTICITY)
        nn.init.constant_(self.rate_log_odds, INITIAL_RATE_LOG_ODDS)
        nn.init.zeros_(self.bias)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> HebbianState:
        """No traces; draws nothing."""
        zeros = self.weight.new_zeros
        return HebbianState(
            traces=zeros(lifetimes, *self.weight.shape),
            inputs=zeros(lifetimes, shape.features),
            logits=zeros(lifetimes, shape.classes),
        )

    def predict(self, state: HebbianState, inputs: Tensor) -> tuple[Tensor, HebbianState]:
        """The first pass, with no error or label."""
        x = inputs.flatten(1)
        logits = BOUND * torch.tanh(self._layer(state.traces[..., : x.shape[-1]], x) / BOUND)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: HebbianState, labels: Tensor) -> HebbianState:
        """The second pass, which writes the traces."""
        error = cross_entropy_error(state.logits, labels)
        label = one_hot(labels, error.shape[-1]).to(error.dtype)
        x = torch.cat([state.inputs, error, label], -1)  # [E, A]
        driven = self._layer(state.traces, x)  # [E, K]
        u = driven.softmax(-1) if self.config.squash == "softmax" else torch.tanh(driven)
        rule = oja if self.config.oja else hebb
        return state._replace(traces=rule(state.traces, x, u, torch.sigmoid(self.rate_log_odds)))

    def _layer(self, traces: Tensor, x: Tensor) -> Tensor:
        """(s W + alpha F) x + sqrt(D) b over the first inputs, x [E, a] and F [E, K, a]; returns
        [E, K]."""
        size, bias = x.shape[-1], sqrt(self.fixed_shape.features) * self.bias
        fixed = nn.functional.linear(self.scale[:size] * x, self.weight[:, :size], bias)
        return fixed + (self.plasticity[:, :size] * traces * x.unsqueeze(-2)).sum(-1)


def oja(traces: Tensor, x: Tensor, u: Tensor, rate: Tensor) -> Tensor:
    """Oja's rule: Hebb's, with a decay that grows with the unit's activity, so that traces stay
    bounded. traces [E, K, A], presynaptic x [E, A], postsynaptic u [E, K]."""
    u = u.unsqueeze(-1)
    return (1 - rate * u * u) * traces + (rate * u) * x.unsqueeze(-2)


def hebb(traces: Tensor, x: Tensor, u: Tensor, rate: Tensor) -> Tensor:
    """Hebb's rule with a constant decay, on the same shapes."""
    return (1 - rate) * traces + (rate * u).unsqueeze(-1) * x.unsqueeze(-2)
