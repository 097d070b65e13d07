"""Meta RNN: an LSTM whose recurrent dynamics, once meta-trained, are the learning algorithm.

Hochreiter, Younger & Conwell 2001 feed an LSTM the example x_t together with the previous target;
its weights W are frozen at meta-test time, and what it learns lives in its activations h, c. Here
it also gets the previous error e = softmax(logits) - onehot(label), as VSML does. One example is
`ticks` updates that see the same inputs:

    i, f, g, o = W_x x_t + W_e e_{t-1} + W_y y_{t-1} + W_h h + b
    c <- sigmoid(f) c + sigmoid(i) tanh(g)
    h <- sigmoid(o) tanh(c)
    logits = 100 tanh((W_o h + b_o) / 100)

The bound on the logits is that of the VSML paper's baselines (Kirsch & Schmidhuber 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error

BOUND = 100.0
"""On the size of logits."""
MEMORY = 100.0
"""Updates that the slowest fresh unit remembers for."""
GAIN = 5.0
"""Factor on the fresh weights from inputs, errors and labels: a task is learned in products of an
example and a label, of which small weights leave next to nothing."""


@dataclass(frozen=True)
class MetaRNNConfig:
    """Size of the LSTM."""

    hidden: int = 128
    """H, units."""
    ticks: int = 2
    """LSTM updates per example."""


class MetaRNNState(NamedTuple):
    """The activations, and what the next example is fed with."""

    hidden: Tensor  # h [E, H]
    cell: Tensor  # c [E, H]
    logits: Tensor  # of the last prediction [E, K]
    feedback: Tensor  # previous error and label (e, y), zero before the first [E, 2K]


class MetaRNN(Learner):
    """An LSTM over (x_t, e_{t-1}, y_{t-1}) with a linear readout."""

    version = 2
    variants: ClassVar[Mapping[str, MetaRNNConfig]] = {"meta-rnn": MetaRNNConfig()}
    family = "recurrent"
    source = "Hochreiter, Younger & Conwell 2001, Learning to learn using gradient descent, ICANN"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=2500, lifetime=20, learning_rate=2e-3, classes=3),
            Phase(steps=800, lifetime=30, learning_rate=2e-3, classes=5),
            Phase(800, 50, learning_rate=2e-3, final_learning_rate=2e-4, lifetimes=32),
        ),
        lifetimes=64,
        validate_every=500,
    )

    def __init__(self, config: MetaRNNConfig) -> None:
        super().__init__(config)
        gates, classes = 4 * config.hidden, self.fixed_shape.classes
        self.from_inputs = nn.Linear(self.fixed_shape.features, gates)  # W_x, b
        self.from_feedback = nn.Linear(2 * classes, gates, bias=False)  # W_e, W_y
        self.from_hidden = nn.Linear(config.hidden, gates, bias=False)  # W_h
        self.readout = nn.Linear(config.hidden, classes)  # W_o, b_o

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """W_h orthogonal per gate; W_o uniform in +-1/sqrt(fan in), the others in GAIN times that,
        where an error or a label counts as one input, since only few of its entries are far from
        zero. Biases 0, but for the forget gate's: log U(1, MEMORY - 1), so that the units remember
        for all lengths of time (Tallec & Ollivier 2018, arXiv 1804.11188)."""
        hidden = self.config.hidden
        for layer, bound in (
            (self.from_inputs, GAIN / sqrt(self.fixed_shape.features)),
            (self.from_feedback, GAIN),
            (self.readout, 1 / sqrt(hidden)),
        ):
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        for gate in self.from_hidden.weight.chunk(4):
            nn.init.orthogonal_(gate, generator=generator)
        nn.init.zeros_(self.readout.bias)
        nn.init.zeros_(self.from_inputs.bias)
        forget = torch.empty(hidden).uniform_(1.0, MEMORY - 1.0, generator=generator).log()
        with torch.no_grad():
            self.from_inputs.bias[hidden : 2 * hidden] = forget

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> MetaRNNState:
        """All zero; draws nothing."""
        zeros = self.readout.bias.new_zeros
        return MetaRNNState(
            hidden=zeros(lifetimes, self.config.hidden),
            cell=zeros(lifetimes, self.config.hidden),
            logits=zeros(lifetimes, shape.classes),
            feedback=zeros(lifetimes, 2 * shape.classes),
        )

    def predict(self, state: MetaRNNState, inputs: Tensor) -> tuple[Tensor, MetaRNNState]:
        """The LSTM's updates for one example, and the readout."""
        return self._tick(state, self.from_inputs(inputs.flatten(1)))

    def observe(self, state: MetaRNNState, labels: Tensor) -> MetaRNNState:
        """Keeps the error and the label for the next example."""
        error = cross_entropy_error(state.logits, labels)
        label = one_hot(labels, error.shape[-1]).to(error.dtype)
        return state._replace(feedback=torch.cat([error, label], -1))

    def unroll(
        self, state: MetaRNNState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, MetaRNNState]:
        """The same, with W_x x_t + b of all steps in one matrix product."""
        logits = []
        for driven, y_t in zip(self.from_inputs(inputs.flatten(2)), labels, strict=True):
            logits_t, state = self._tick(state, driven)
            state = self.observe(state, y_t)
            logits.append(logits_t)
        return torch.stack(logits), state

    def _tick(self, state: MetaRNNState, driven: Tensor) -> tuple[Tensor, MetaRNNState]:
        """`driven` is W_x x_t + b [E, 4H]."""
        hidden, cell = state.hidden, state.cell
        fed = driven + self.from_feedback(state.feedback)
        for _ in range(self.config.ticks):
            i, f, g, o = (fed + self.from_hidden(hidden)).chunk(4, -1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        logits = BOUND * torch.tanh(self.readout(hidden) / BOUND)
        return logits, state._replace(hidden=hidden, cell=cell, logits=logits)
