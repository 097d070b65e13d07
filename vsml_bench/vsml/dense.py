"""A dense VSML layer: a grid of A x B sub-RNNs between A inputs and B outputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vsml_bench.vsml import kernel
from vsml_bench.vsml.sub_rnn import SubRNN, truncated_normal_


class LayerState(NamedTuple):
    """States of one layer's sub-RNNs."""

    hidden: Tensor  # h [E, A, B, N]
    cell: Tensor  # c [E, A, B, N]


def init_layer_state(
    sub_rnn: SubRNN, lifetimes: int, inputs: int, outputs: int, generator: torch.Generator
) -> LayerState:
    """Fresh sub-RNNs: h = 0; the first half of c is truncated normal with std 1/sqrt(inputs), which
    breaks the symmetry between sub-RNNs, and the second half is 0."""
    like = sub_rnn.gates_bias
    size = (lifetimes, inputs, outputs, sub_rnn.state_size)
    cell = torch.zeros(size, dtype=like.dtype)
    truncated_normal_(cell[..., : sub_rnn.state_size // 2], inputs, generator)
    return LayerState(torch.zeros_like(cell).to(like.device), cell.to(like.device))


def sweep(
    sub_rnn: SubRNN,
    ticks: int,
    state: LayerState,
    forward_messages: Tensor,
    backward_messages: Tensor,
) -> tuple[LayerState, Tensor, Tensor]:
    """Runs the micro-ticks of one layer for one example; all ticks see the same messages.

    forward_messages [E, A, M] come from below, backward_messages [E, B, M] from above. Returns the
    new state, the messages going up [E, B, M] and those going down [E, A, M].
    """
    hidden, cell = state
    from_inputs, from_outputs = sub_rnn.incoming(forward_messages, backward_messages)
    if sub_rnn.fits_kernel and kernel.applies(ticks, from_inputs, from_outputs, hidden, cell):
        hidden, cell, over_inputs, over_outputs = kernel.sweep(
            ticks, from_inputs, from_outputs, sub_rnn.gates_from_hidden, hidden, cell
        )
        upward, downward = sub_rnn.heads(over_inputs, over_outputs)
    else:
        incoming = from_inputs.unsqueeze(2) + from_outputs.unsqueeze(1)  # [E, A, B, 4N]
        for _ in range(ticks):
            hidden, cell = sub_rnn.tick(incoming, hidden, cell)
        upward, downward = sub_rnn.outgoing(hidden)
    return LayerState(hidden, cell), upward, downward
