"""Layers of a VSML network: what all have in common, a grid of sub-RNN states and a sweep of it,
and the dense one."""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from vsml_bench.vsml.sub_rnn import SubRNN, truncated_normal_

Units: TypeAlias = tuple[int, ...]
"""How a layer's neurons are arranged: (units,) or (channels, height, width). Messages of all of
them are [E, *units, M]."""


class LayerState(NamedTuple):
    """States of one layer's sub-RNNs: A inputs meet at each of B outputs."""

    hidden: Tensor  # h [E, A, B, N]
    cell: Tensor  # c [E, A, B, N]


class Layer(Protocol):
    """A kind of layer. It keeps nothing: sizes are those of the messages and states it is given."""

    def fan_in(self, inputs: Units) -> int:
        """A, the number of inputs that meet at one output."""

    def fresh_fan_in(self, inputs: Units) -> int:
        """What the noise of fresh cells is scaled by: its std is 1/sqrt of this."""

    def outputs(self, inputs: Units, width: int) -> Units:
        """How the outputs are arranged; width is B, the layer's units or channels."""

    def sweep(
        self,
        sub_rnn: SubRNN,
        ticks: int,
        state: LayerState,
        forward_messages: Tensor,
        backward_messages: Tensor,
    ) -> tuple[LayerState, Tensor, Tensor]:
        """Runs the micro-ticks of one layer for one example; all ticks see the same messages.

        forward_messages [E, *inputs, M] come from below, backward_messages [E, *outputs, M] from
        above. Returns the new state, the messages going up [E, *outputs, M] and those going down
        [E, *inputs, M].
        """


def init_layer_state(
    layer: Layer,
    sub_rnn: SubRNN,
    lifetimes: int,
    inputs: Units,
    width: int,
    generator: torch.Generator,
) -> LayerState:
    """Fresh sub-RNNs: h = 0; the first half of c is truncated normal with std 1/sqrt(fresh fan in),
    which breaks the symmetry between sub-RNNs, and the second half is 0."""
    like = sub_rnn.gates_bias
    size = (lifetimes, layer.fan_in(inputs), width, sub_rnn.state_size)
    cell = torch.zeros(size, dtype=like.dtype)
    fan_in = layer.fresh_fan_in(inputs)
    truncated_normal_(cell[..., : sub_rnn.state_size // 2], fan_in, generator)
    return LayerState(torch.zeros_like(cell).to(like.device), cell.to(like.device))


class DenseLayer:
    """A grid of A x B sub-RNNs: each of A inputs, of any arrangement, meets each of B outputs."""

    def fan_in(self, inputs: Units) -> int:
        """All of them."""
        return prod(inputs)

    def fresh_fan_in(self, inputs: Units) -> int:
        """All of them."""
        return self.fan_in(inputs)

    def outputs(self, inputs: Units, width: int) -> Units:
        """A row of `width` units."""
        return (width,)

    def sweep(
        self,
        sub_rnn: SubRNN,
        ticks: int,
        state: LayerState,
        forward_messages: Tensor,
        backward_messages: Tensor,
    ) -> tuple[LayerState, Tensor, Tensor]:
        """See `Layer.sweep`."""
        row = forward_messages.flatten(1, -2)  # [E, A, M]
        hidden, cell = state
        incoming = sub_rnn.incoming_grid(row, backward_messages)
        for _ in range(ticks):
            hidden, cell = sub_rnn.tick(incoming, hidden, cell)
        upward, downward = sub_rnn.outgoing(hidden)  # [E, B, M], [E, A, M]
        return LayerState(hidden, cell), upward, downward.unflatten(1, forward_messages.shape[1:-1])
