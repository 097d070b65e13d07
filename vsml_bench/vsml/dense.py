"""A dense VSML layer: a grid of A x B sub-RNNs between A inputs and B outputs."""

from __future__ import annotations

from math import prod

from torch import Tensor

from vsml_bench.vsml import kernel, native
from vsml_bench.vsml.layers import LayerState, Units
from vsml_bench.vsml.sub_rnn import SubRNN


class DenseLayer:
    """Every input meets every output; inputs of any arrangement are taken as one row."""

    def fan_in(self, inputs: Units) -> int:
        """All of them."""
        return prod(inputs)

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
        state, upward, downward = sweep(sub_rnn, ticks, state, row, backward_messages)
        return state, upward, downward.reshape(forward_messages.shape)


def sweep(
    sub_rnn: SubRNN,
    ticks: int,
    state: LayerState,
    forward_messages: Tensor,
    backward_messages: Tensor,
) -> tuple[LayerState, Tensor, Tensor]:
    """Runs the micro-ticks of a grid of sub-RNNs; all ticks see the same messages.

    forward_messages [E, A, M] come from below, backward_messages [E, B, M] from above. Returns the
    new state, the messages going up [E, B, M] and those going down [E, A, M].
    """
    hidden, cell = state
    tensors = (forward_messages, backward_messages, sub_rnn.gates_from_hidden, hidden, cell)
    if sub_rnn.fits_kernel and native.applies(ticks, *tensors):
        from_inputs, from_outputs = sub_rnn.incoming(forward_messages, backward_messages)
        hidden, cell, over_inputs, over_outputs = kernel.sweep(
            ticks, from_inputs, from_outputs, sub_rnn.gates_from_hidden, hidden, cell
        )
        upward, downward = sub_rnn.heads(over_inputs, over_outputs)
    else:
        incoming = sub_rnn.incoming_grid(forward_messages, backward_messages)
        for _ in range(ticks):
            hidden, cell = sub_rnn.tick(incoming, hidden, cell)
        upward, downward = sub_rnn.outgoing(hidden)
    return LayerState(hidden, cell), upward, downward
