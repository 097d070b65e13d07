"""Fast weight memory: an LSTM beside an associative memory that it writes and reads every step.

Schlag, Munkhdalai & Schmidhuber 2021, section 3. The LSTM sees the example x_t with the previous
error e = softmax(logits) - onehot(label) and label y, and controls the memory F [M, M^2], whose
keys are outer products of two vectors (*):

    i, f, g, o = W_x x_t + W_e e_{t-1} + W_y y_{t-1} + W_h h + b
    c <- sigmoid(f) c + sigmoid(i) tanh(g),   h <- sigmoid(o) tanh(c)

    write    s, r, v = tanh(W_w h + b_w),   beta = sigmoid(W_b h + b_b)
             v_old = F (s * r)
             F <- F + beta (v - v_old) (s * r)^T
             F <- F / max(1, |F|)                               Frobenius norm
    read     n_0, a_1 .. a_R = tanh(W_r h + b_r)
             n_i = LayerNorm(F (n_{i-1} * a_i)),   i = 1 .. R
             logits = 100 tanh((W_o (h + W_n n_R) + b_o) / 100)

The bound on the logits is that of the VSML paper's baselines (Kirsch & Schmidhuber 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, one_hot

from vsml_bench.learner import Learner, Phase, Recipe, Shape, cross_entropy_error

BOUND = 100.0
"""On the size of logits."""
FORGET_BIAS = 1.0
"""Initial bias of the forget gate: a fresh LSTM remembers."""


@dataclass(frozen=True)
class FastWeightMemoryConfig:
    """Sizes of LSTM and memory."""

    hidden: int = 32
    """H, units of the LSTM."""
    memory: int = 16
    """M: values have M entries, keys M^2."""
    reads: int = 1
    """R, chained reads per example."""


class FastWeightMemoryState(NamedTuple):
    """The LSTM's activations, the memory, and what the next example is fed with."""

    hidden: Tensor  # h [E, H]
    cell: Tensor  # c [E, H]
    memory: Tensor  # F [E, M, M^2]
    logits: Tensor  # of the last prediction [E, K]
    feedback: Tensor  # previous error and label (e, y), zero before the first [E, 2K]


class FastWeightMemory(Learner):
    """An LSTM over (x_t, e_{t-1}, y_{t-1}) with an associative memory."""

    version = 2
    variants: ClassVar[Mapping[str, FastWeightMemoryConfig]] = {
        "fast-weight-memory": FastWeightMemoryConfig()
    }
    family = "fast weights"
    source = "Schlag, Munkhdalai & Schmidhuber 2021, ICLR, arXiv 2011.07831"
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

    def __init__(self, config: FastWeightMemoryConfig) -> None:
        super().__init__(config)
        hidden, memory, classes = config.hidden, config.memory, self.fixed_shape.classes
        self.from_inputs = nn.Linear(self.fixed_shape.features, 4 * hidden)  # W_x, b
        self.from_feedback = nn.Linear(2 * classes, 4 * hidden, bias=False)  # W_e, W_y
        self.from_hidden = nn.Linear(hidden, 4 * hidden, bias=False)  # W_h
        self.write = nn.Linear(hidden, 3 * memory)  # W_w, b_w
        self.write_strength = nn.Linear(hidden, 1)  # W_b, b_b
        self.read = nn.Linear(hidden, (1 + config.reads) * memory)  # W_r, b_r
        self.from_memory = nn.Linear(memory, hidden, bias=False)  # W_n
        self.readout = nn.Linear(hidden, classes)  # W_o, b_o

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """W_h orthogonal per gate; the others uniform in +-1/sqrt(fan in), where an error or a
        label counts as one input, since only few of its entries are far from zero; biases 0, but
        for the forget gate's."""
        hidden = self.config.hidden
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            bound = 1.0 if layer is self.from_feedback else 1 / sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for gate in self.from_hidden.weight.chunk(4):
            nn.init.orthogonal_(gate, generator=generator)
        nn.init.constant_(self.from_inputs.bias[hidden : 2 * hidden], FORGET_BIAS)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> FastWeightMemoryState:
        """All zero; draws nothing."""
        hidden, memory, zeros = self.config.hidden, self.config.memory, self.readout.bias.new_zeros
        return FastWeightMemoryState(
            hidden=zeros(lifetimes, hidden),
            cell=zeros(lifetimes, hidden),
            memory=zeros(lifetimes, memory, memory**2),
            logits=zeros(lifetimes, shape.classes),
            feedback=zeros(lifetimes, 2 * shape.classes),
        )

    def predict(
        self, state: FastWeightMemoryState, inputs: Tensor
    ) -> tuple[Tensor, FastWeightMemoryState]:
        """The LSTM's update, one write, the reads."""
        return self._tick(state, self.from_inputs(inputs.flatten(1)))

    def observe(self, state: FastWeightMemoryState, labels: Tensor) -> FastWeightMemoryState:
        """Keeps the error and the label for the next example."""
        error = cross_entropy_error(state.logits, labels)
        label = one_hot(labels, error.shape[-1]).to(error.dtype)
        return state._replace(feedback=torch.cat([error, label], -1))

    def unroll(
        self, state: FastWeightMemoryState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, FastWeightMemoryState]:
        """The same, with W_x x_t + b of all steps in one matrix product."""
        logits = []
        for driven, y_t in zip(self.from_inputs(inputs.flatten(2)), labels, strict=True):
            logits_t, state = self._tick(state, driven)
            state = self.observe(state, y_t)
            logits.append(logits_t)
        return torch.stack(logits), state

    def _tick(
        self, state: FastWeightMemoryState, driven: Tensor
    ) -> tuple[Tensor, FastWeightMemoryState]:
        """`driven` is W_x x_t + b [E, 4H]."""
        gates = driven + self.from_feedback(state.feedback) + self.from_hidden(state.hidden)
        i, f, g, o = gates.chunk(4, -1)
        cell = torch.sigmoid(f) * state.cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)

        s, r, v = torch.tanh(self.write(hidden)).chunk(3, -1)  # each [E, M]
        beta = torch.sigmoid(self.write_strength(hidden))  # [E, 1]
        memory = clip_norm(delta_write(state.memory, outer_key(s, r), v, beta))

        n, *queries = torch.tanh(self.read(hidden)).chunk(1 + self.config.reads, -1)
        for a in queries:
            n = layer_norm(retrieve(memory, outer_key(n, a)), (self.config.memory,))
        logits = BOUND * torch.tanh(self.readout(hidden + self.from_memory(n)) / BOUND)
        return logits, state._replace(hidden=hidden, cell=cell, memory=memory, logits=logits)


def outer_key(first: Tensor, second: Tensor) -> Tensor:
    """The outer product of two vectors [E, M] as a key [E, M^2]."""
    return (first.unsqueeze(-1) * second.unsqueeze(-2)).flatten(1)


def retrieve(memory: Tensor, key: Tensor) -> Tensor:
    """F key: what the memory [E, M, M^2] holds under a key [E, M^2]; returns [E, M]."""
    return torch.bmm(memory, key.unsqueeze(-1)).squeeze(-1)


def delta_write(memory: Tensor, key: Tensor, value: Tensor, strength: Tensor) -> Tensor:
    """Moves what is held under the key towards the value [E, M]; strength [E, 1] is in [0, 1]."""
    missing = strength * (value - retrieve(memory, key))
    return memory + missing.unsqueeze(-1) * key.unsqueeze(-2)


def clip_norm(memory: Tensor) -> Tensor:
    """Scales each lifetime's memory down to a Frobenius norm of at most 1."""
    # the root of a sum of squares has no gradient at 0, where a fresh memory is
    squares = memory.square().sum((-2, -1), keepdim=True)
    return memory * squares.clamp(min=1.0).rsqrt()
