"""Outer-product LSTM: an LSTM whose cell is a matrix, gated by matrices of rank one.

The recurrent fast-weight baseline of Kirsch, Harrison, Sohl-Dickstein & Metz 2022 (GPICL), after
their definition in learned_optimization (research/data_driven). Gates of a cell with n^2 numbers
would need n^2 outputs each; as outer products of two vectors they need 2n, so that the state grows
quadratically while the number of meta-parameters does not. With z = (u_t, h), the example's
embedding and the previous output, in each of the heads:

    u_t = relu(W_2 relu(W_x x_t + W_e e_{t-1} + W_y y_{t-1} + b_1) + b_2)
    k_i, k_g, k_f, l_i, l_g, l_f, q, o = W z + b                     each [n]
    G_p = scale tanh(k_p) tanh(l_p)^T   for p in {i, g, f},   scale = softplus(s)
    C <- sigmoid(G_f + 1) C + sigmoid(G_i) G_g                       all elementwise, [n, n]
    h <- sigmoid(o) tanh(C^T q)
    logits = W_o h + b_o,   h of all heads

The previous error e is fed beside the label y, as to the other recurrent baselines here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, softplus

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error

FORGET_OFFSET = 1.0
"""Added to the forget gate: a fresh cell remembers."""


@dataclass(frozen=True)
class OuterProductLSTMConfig:
    """Size of the cell."""

    hidden: int = 32
    """n: each head's cell is n x n; also the width of the embedding."""
    heads: int = 4
    """Cells side by side."""


class OuterProductLSTMState(NamedTuple):
    """The cells, and what the next example is fed with. H is the number of heads."""

    hidden: Tensor  # h [E, H n]
    cell: Tensor  # C [E, H, n, n]
    logits: Tensor  # of the last prediction [E, K]
    feedback: Tensor  # previous error and label (e, y), zero before the first [E, 2K]


class OuterProductLSTM(Learner):
    """A matrix-valued LSTM over embeddings of (x_t, e_{t-1}, y_{t-1}) with a linear readout."""

    variants: ClassVar[Mapping[str, OuterProductLSTMConfig]] = {
        "outer-product-lstm": OuterProductLSTMConfig()
    }
    family = "fast weights"
    source = "Kirsch, Harrison, Sohl-Dickstein & Metz 2022, arXiv 2212.04458 (GPICL)"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=2000, lifetime=20, learning_rate=2e-3, classes=3),
            Phase(steps=800, lifetime=30, learning_rate=2e-3, classes=5),
            Phase(600, 50, learning_rate=2e-3, final_learning_rate=2e-4, lifetimes=32),
        ),
        lifetimes=64,
        validate_every=500,
    )

    def __init__(self, config: OuterProductLSTMConfig) -> None:
        super().__init__(config)
        classes, width = self.fixed_shape.classes, config.heads * config.hidden
        self.from_inputs = nn.Linear(self.fixed_shape.features, width)  # W_x, b_1
        self.from_feedback = nn.Linear(2 * classes, width, bias=False)  # W_e, W_y
        self.embedding = nn.Linear(width, width)  # W_2, b_2
        self.gates = nn.Linear(2 * width, 8 * width)  # W, b
        self.key_scale = nn.Parameter(torch.empty(()))  # s
        self.readout = nn.Linear(width, classes)  # W_o, b_o

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Weights uniform with variance 1/fan in (LeCun et al. 1998), where an error or a label
        counts as one input, since only few of its entries are far from zero; biases and s 0.

        A third of that variance, as is common elsewhere, makes the gates, products of two small
        numbers, so small that meta-training may not leave its first plateau."""
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            bound = sqrt(3 / (1 if layer is self.from_feedback else layer.in_features))
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.key_scale)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> OuterProductLSTMState:
        """All zero; draws nothing."""
        size, heads, zeros = self.config.hidden, self.config.heads, self.readout.bias.new_zeros
        return OuterProductLSTMState(
            hidden=zeros(lifetimes, heads * size),
            cell=zeros(lifetimes, heads, size, size),
            logits=zeros(lifetimes, shape.classes),
            feedback=zeros(lifetimes, 2 * shape.classes),
        )

    def predict(
        self, state: OuterProductLSTMState, inputs: Tensor
    ) -> tuple[Tensor, OuterProductLSTMState]:
        """One update of the cells, and the readout."""
        return self._tick(state, self.from_inputs(inputs.flatten(1)))

    def observe(self, state: OuterProductLSTMState, labels: Tensor) -> OuterProductLSTMState:
        """Keeps the error and the label for the next example."""
        error = cross_entropy_error(state.logits, labels)
        label = one_hot(labels, error.shape[-1]).to(error.dtype)
        return state._replace(feedback=torch.cat([error, label], -1))

    def unroll(
        self, state: OuterProductLSTMState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, OuterProductLSTMState]:
        """The same, with W_x x_t + b_1 of all steps in one matrix product."""
        logits = []
        for driven, y_t in zip(self.from_inputs(inputs.flatten(2)), labels, strict=True):
            logits_t, state = self._tick(state, driven)
            state = self.observe(state, y_t)
            logits.append(logits_t)
        return torch.stack(logits), state

    def _tick(
        self, state: OuterProductLSTMState, driven: Tensor
    ) -> tuple[Tensor, OuterProductLSTMState]:
        """`driven` is W_x x_t + b_1 [E, H n]."""
        embedded = relu(self.embedding(relu(driven + self.from_feedback(state.feedback))))
        gates = self.gates(torch.cat([embedded, state.hidden], -1))
        parts = gates.unflatten(-1, (8, self.config.heads, self.config.hidden))
        rows = softplus(self.key_scale) * torch.tanh(parts[:, :3])  # k, [E, 3, H, n]
        columns = torch.tanh(parts[:, 3:6])  # l, [E, 3, H, n]
        i, g, f = (rows.unsqueeze(-1) * columns.unsqueeze(-2)).unbind(1)  # G, each [E, H, n, n]
        q, o = parts[:, 6], parts[:, 7]  # [E, H, n]
        cell = torch.sigmoid(f + FORGET_OFFSET) * state.cell + torch.sigmoid(i) * g
        read = torch.einsum("ehij,ehi->ehj", cell, q)
        hidden = (torch.sigmoid(o) * torch.tanh(read)).flatten(1)
        logits = self.readout(hidden)
        return logits, state._replace(hidden=hidden, cell=cell, logits=logits)
