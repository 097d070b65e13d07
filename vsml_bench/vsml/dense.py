"""A dense VSML layer: a grid of A x B sub-RNNs between A inputs and B outputs."""

from __future__ import annotations

from math import prod

from torch import Tensor

from vsml_bench.vsml.layers import LayerState, Units
from vsml_bench.vsml.sub_rnn import SubRNN


class DenseLayer:
    """Every input meets every output; inputs of any arrangement are taken as one row."""

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
