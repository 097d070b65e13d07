"""The sweep of a dense layer in C++ (`sweep.cpp`), for networks whose whole lifetimes are not
(`lifetimes`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vsml_bench.vsml.fast import library
from vsml_bench.vsml.layers import DenseLayer, LayerState
from vsml_bench.vsml.sub_rnn import SubRNN

_TICKS = ("incoming", "incoming_grid", "recurrent", "tick", "outgoing")
"""Methods of `SubRNN` that a sweep is made of; `heads` it calls."""


def computes(sub_rnn: nn.Module) -> bool:
    """Whether these are the sub-RNNs whose ticks are written in C++."""
    return (
        isinstance(sub_rnn, SubRNN)
        and sub_rnn.state_size == library.STATE_SIZE
        and sub_rnn.forward_norm is None
        and all(getattr(type(sub_rnn), name) is getattr(SubRNN, name) for name in _TICKS)
    )


class FastDenseLayer(DenseLayer):
    """A dense layer of sub-RNNs that `computes` is true of."""

    def sweep(
        self,
        sub_rnn: SubRNN,
        ticks: int,
        state: LayerState,
        forward_messages: Tensor,
        backward_messages: Tensor,
    ) -> tuple[LayerState, Tensor, Tensor]:
        """See `Layer.sweep`."""
        weight = sub_rnn.gates_from_hidden
        if not library.reads(ticks, forward_messages, backward_messages, weight, *state):
            return super().sweep(sub_rnn, ticks, state, forward_messages, backward_messages)
        row = forward_messages.flatten(1, -2)  # [E, A, M]
        shares = sub_rnn.incoming(row, backward_messages)
        hidden, cell, over_inputs, over_outputs = sweep(ticks, *shares, weight, *state)
        upward, downward = sub_rnn.heads(over_inputs, over_outputs)
        downward = downward.unflatten(1, forward_messages.shape[1:-1])
        return LayerState(hidden, cell), upward, downward


def sweep(
    ticks: int,
    from_inputs: Tensor,
    from_outputs: Tensor,
    weight: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All micro-ticks of one layer, where `library.reads` them.

    from_inputs [E, A, 4N] (bias included) and from_outputs [E, B, 4N]: the messages' shares of the
    gates. weight [N, 4N]. hidden, cell [E, A, B, N]. Returns the new hidden and cell, and the mean
    of the new hidden over inputs [E, B, N] and over outputs [E, A, N]. Differentiable once.
    """
    if torch.is_grad_enabled():
        swept = _Sweep.apply(ticks, from_inputs, from_outputs, weight, hidden, cell)
    else:
        swept = _forward(ticks, from_inputs, from_outputs, weight, hidden, cell)
    new_hidden, new_cell, sum_inputs, sum_outputs = swept
    return new_hidden, new_cell, sum_inputs / hidden.shape[1], sum_outputs / hidden.shape[2]


class _Sweep(torch.autograd.Function):
    """The sweep and its gradient."""

    @staticmethod
    def forward(ctx: Any, ticks: int, *operands: Tensor) -> tuple[Tensor, ...]:
        operands = tuple(operand.contiguous() for operand in operands)
        ctx.ticks = ticks
        ctx.save_for_backward(*operands)
        return _forward(ticks, *operands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from_inputs, from_outputs, weight, hidden, cell = ctx.saved_tensors
        gradients = tuple(gradient.contiguous() for gradient in gradients)
        into_inputs = torch.empty_like(from_inputs)
        into_outputs, into_weight = torch.zeros_like(from_outputs), torch.zeros_like(weight)
        into_hidden, into_cell = torch.empty_like(hidden), torch.empty_like(cell)
        operands = (from_inputs, from_outputs, weight, weight.T.contiguous(), hidden, cell)
        results = (into_inputs, into_outputs, into_weight, into_hidden, into_cell)
        sizes = (torch.get_num_threads(), *hidden.shape[:3], ctx.ticks)
        library.call("vsml_sweep_backward", *sizes, *operands, *gradients, *results)
        return (None, *results)


def _forward(ticks: int, *operands: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `sweep`, but with sums instead of means."""
    operands = tuple(operand.contiguous() for operand in operands)
    hidden, cell = operands[-2:]
    lifetimes, inputs, outputs, size = hidden.shape
    new_hidden, new_cell = torch.empty_like(hidden), torch.empty_like(cell)
    sum_inputs = hidden.new_empty(lifetimes, outputs, size)
    sum_outputs = hidden.new_empty(lifetimes, inputs, size)
    results = (new_hidden, new_cell, sum_inputs, sum_outputs)
    sizes = (torch.get_num_threads(), lifetimes, inputs, outputs, ticks)
    library.call("vsml_sweep", *sizes, *operands, *results)
    return results
