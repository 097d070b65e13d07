"""Fast weight programmer: a slow network that writes the weights of a fast one, example by example.

Schmidhuber 1992 lets a slow network program the fast weights W by sums of outer products; Schlag,
Irie & Schmidhuber 2021 (section 4) replace the sum by the delta rule, which corrects what is
already stored under a key (the layer is now known as DeltaNet). Two passes per example: the first
reads, the second gets error e = softmax(logits) - onehot(label) and label y as further inputs and
writes,

    read     q = phi(W_q x_t),   o = W q,   logits = W_o o + b_o
    write    k = phi(W_k x_t),   v = W_v (x_t, e_t, y_t) + b_v
             beta = sigmoid(W_b (x_t, e_t, y_t) + b_b)
             W <- W + beta (v - W k) k^T      delta rule
             W <- W + beta v k^T              additive rule

with phi(u) = silu(u) / |silu(u)|, so that beta = 1 stores v exactly (Yang et al. 2024, arXiv
2406.06484; the 2021 paper divides by the sum instead). For a linear readout, the delta rule is a
gradient step of size beta on |v - W k|^2 / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, silu

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error


@dataclass(frozen=True)
class FastWeightProgrammerConfig:
    """Size of the fast network and how it is written."""

    keys: int = 64
    """Inputs of the fast network."""
    values: int = 64
    """Outputs of the fast network."""
    delta_rule: bool = True
    """Write what is missing; False adds the value to what is stored."""


class FastWeightProgrammerState(NamedTuple):
    """The fast weights, and what the second pass needs of the first."""

    fast_weights: Tensor  # W [E, values, keys]
    key: Tensor  # k of the last example [E, keys]
    from_inputs: Tensor  # the share of x_t in (v, beta) [E, values + 1]
    logits: Tensor  # of the last prediction [E, K]


class FastWeightProgrammer(Learner):
    """One fast layer between a learned embedding of the example and a learned readout."""

    variants: ClassVar[Mapping[str, FastWeightProgrammerConfig]] = {
        "fast-weight-programmer": FastWeightProgrammerConfig(),
        "fast-weight-programmer-additive": FastWeightProgrammerConfig(delta_rule=False),
    }
    family = "fast weights"
    source = "Schmidhuber 1992, Neural Computation 4(1); Schlag, Irie & Schmidhuber 2021, ICML"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=800, lifetime=100, learning_rate=3e-3),
            Phase(steps=300, lifetime=200, learning_rate=2e-3, final_learning_rate=1e-3),
            Phase(steps=150, lifetime=400, learning_rate=1e-3, final_learning_rate=1e-4),
        ),
        validate_every=100,
    )

    def __init__(self, config: FastWeightProgrammerConfig) -> None:
        super().__init__(config)
        features, classes = self.fixed_shape.features, self.fixed_shape.classes
        written = config.values + 1  # v and beta
        self.query = nn.Linear(features, config.keys, bias=False)  # W_q
        self.key = nn.Linear(features, config.keys, bias=False)  # W_k
        self.write_from_inputs = nn.Linear(features, written)  # W_v, W_b; b_v, b_b
        self.write_from_feedback = nn.Linear(2 * classes, written, bias=False)  # W_v, W_b
        self.readout = nn.Linear(config.values, classes)  # W_o, b_o

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Uniform in +-1/sqrt(fan in), where an error or a label counts as one input, since only
        few of its entries are far from zero; biases 0. W_k = W_q: what a fresh memory gives back
        for an example is what was written at similar ones."""
        for layer in (self.query, self.key, self.write_from_inputs, self.readout):
            bound = 1 / sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)
        nn.init.uniform_(self.write_from_feedback.weight, -1.0, 1.0, generator=generator)
        nn.init.zeros_(self.write_from_inputs.bias)
        nn.init.zeros_(self.readout.bias)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> FastWeightProgrammerState:
        """Nothing written; draws nothing."""
        config, zeros = self.config, self.readout.bias.new_zeros
        return FastWeightProgrammerState(
            fast_weights=zeros(lifetimes, config.values, config.keys),
            key=zeros(lifetimes, config.keys),
            from_inputs=zeros(lifetimes, config.values + 1),
            logits=zeros(lifetimes, shape.classes),
        )

    def predict(
        self, state: FastWeightProgrammerState, inputs: Tensor
    ) -> tuple[Tensor, FastWeightProgrammerState]:
        """The first pass: reads the fast weights at the example's query."""
        return self._read(state, *self._embed(inputs.flatten(1)))

    def observe(
        self, state: FastWeightProgrammerState, labels: Tensor
    ) -> FastWeightProgrammerState:
        """The second pass: writes the fast weights at the example's key."""
        error = cross_entropy_error(state.logits, labels)
        label = one_hot(labels, error.shape[-1]).to(error.dtype)
        slow = state.from_inputs + self.write_from_feedback(torch.cat([error, label], -1))
        value, strength = slow[:, :-1], torch.sigmoid(slow[:, -1:])  # v [E, values], beta [E, 1]
        if self.config.delta_rule:
            value = value - _apply(state.fast_weights, state.key)
        written = (strength * value).unsqueeze(-1) * state.key.unsqueeze(-2)
        return state._replace(fast_weights=state.fast_weights + written)

    def unroll(
        self, state: FastWeightProgrammerState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, FastWeightProgrammerState]:
        """The same, with the maps of all x_t in one matrix product each."""
        logits = []
        for *embedded, y_t in zip(*self._embed(inputs.flatten(2)), labels, strict=True):
            logits_t, state = self._read(state, *embedded)
            state = self.observe(state, y_t)
            logits.append(logits_t)
        return torch.stack(logits), state

    def _embed(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key [..., keys] and the share of (v, beta) [..., values + 1] of x [..., D]."""
        query, key = (normalize(silu(layer(inputs)), dim=-1) for layer in (self.query, self.key))
        return query, key, self.write_from_inputs(inputs)

    def _read(
        self, state: FastWeightProgrammerState, query: Tensor, key: Tensor, from_inputs: Tensor
    ) -> tuple[Tensor, FastWeightProgrammerState]:
        logits = self.readout(_apply(state.fast_weights, query))
        return logits, state._replace(key=key, from_inputs=from_inputs, logits=logits)


def _apply(weights: Tensor, vectors: Tensor) -> Tensor:
    """Each lifetime's own matrix times its own vector, [E, B, A] and [E, A] to [E, B]."""
    return torch.bmm(weights, vectors.unsqueeze(-1)).squeeze(-1)
