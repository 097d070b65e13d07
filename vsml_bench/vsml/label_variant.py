"""The VSML of 2022, which is fed labels instead of errors (Kirsch, Harrison, Sohl-Dickstein & Metz,
"General-Purpose In-Context Learning by Meta-Learning Transformers", arXiv 2212.04458).

One dense layer of sub-RNNs between A inputs and K classes, as in `VSMLNetwork`, but

* the label of the **previous** example, one-hot, comes from above, not the error of its prediction;
* a layer also gets its own last messages back: with u_b and d_a what it last sent up and down,

      m_a = (d_a, x_a),   m_b = (u_b, [y_previous = b]),   each M + 1 numbers;

* the logit of class b is u_b[0], channel 0 of what is sent up, unbounded;
* the gates are those of Haiku's LSTM: sigmoid(f + 1) and sigmoid(i), no offset on i. Since offsets
  add to a trained bias, they are kept in the bias's initial value, where `SubRNN` has +5 and -5;
* a fresh state is all zero. What tells sub-RNNs apart is nothing but their inputs x_a and labels:
  two inputs that are always equal stay one, and classes not seen yet share one logit. For the same
  reason there is one layer only: the units of a hidden layer would all stay equal.

Read in the Apache-2.0 code published with the paper (google/learned_optimization,
research/data_driven); no code was taken from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vsml_bench.learner import Learner, Shape
from vsml_bench.vsml.layers import DenseLayer, Layer, LayerState
from vsml_bench.vsml.sub_rnn import FORGET_OFFSET, SubRNN, require_sizes

HAIKU_FORGET_OFFSET = 1.0


@dataclass(frozen=True)
class LabelVSMLConfig:
    """Size of a label-fed VSML; the defaults are those of the published code."""

    state_size: int = 16
    """N, the size of h and of c of one sub-RNN."""
    message_size: int = 8
    """M, the size of a message sent in either direction."""
    ticks: int = 2
    """Micro-ticks per example."""


class LabelVSMLState(NamedTuple):
    """What changes in one lifetime."""

    layer: LayerState  # h, c [E, A, K, N]
    upward: Tensor  # u, messages last sent up [E, K, M]
    downward: Tensor  # d, messages last sent down [E, A, M]
    label: Tensor  # of the previous example, one-hot, zeros before the first [E, K]


class LabelVSMLNetwork(Learner):
    """One dense layer of label-fed sub-RNNs. Its named configuration is in
    `vsml_bench.vsml.variants`."""

    family = "VSML"
    source = "Kirsch et al. 2022, arXiv 2212.04458"
    fast_code = "vsml_bench.vsml.fast:fast_code"

    def __init__(self, config: LabelVSMLConfig) -> None:
        require_sizes(config, "state_size", "message_size", "ticks")
        super().__init__(config)
        self.layers: tuple[Layer, ...] = (DenseLayer(),)
        self.sub_rnn = SubRNN(
            config.state_size, config.message_size, received_size=config.message_size + 1
        )

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Truncated normal weights with std 1/sqrt(fan in); biases 0 but for the gates' offsets."""
        self.sub_rnn.init_meta_parameters(generator)
        i, _, f, _ = self.sub_rnn.gates_bias.data.chunk(4)
        i += FORGET_OFFSET
        f += HAIKU_FORGET_OFFSET - FORGET_OFFSET

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> LabelVSMLState:
        """All zero; nothing is drawn."""
        zeros, config = self.sub_rnn.gates_bias.detach().new_zeros, self.config
        grid = (lifetimes, shape.features, shape.classes, config.state_size)
        return LabelVSMLState(
            layer=LayerState(zeros(grid), zeros(grid)),
            upward=zeros(lifetimes, shape.classes, config.message_size),
            downward=zeros(lifetimes, shape.features, config.message_size),
            label=zeros(lifetimes, shape.classes),
        )

    def predict(self, state: LabelVSMLState, inputs: Tensor) -> tuple[Tensor, LabelVSMLState]:
        """One sweep: the inputs from below meet the previous example's label from above."""
        x = inputs.flatten(1).unsqueeze(-1)  # [E, A, 1]
        layer, upward, downward = self.layers[0].sweep(
            self.sub_rnn,
            self.config.ticks,
            state.layer,
            torch.cat([state.downward, x], -1),
            torch.cat([state.upward, state.label.unsqueeze(-1)], -1),
        )
        return upward[..., 0], LabelVSMLState(layer, upward, downward, state.label)

    def observe(self, state: LabelVSMLState, labels: Tensor) -> LabelVSMLState:
        """Keeps the label for the next sweep."""
        onehot = nn.functional.one_hot(labels, state.label.shape[-1])
        return state._replace(label=onehot.to(state.label.dtype))
