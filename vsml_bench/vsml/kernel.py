"""The hand-written sweep of a dense layer, as autograd calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vsml_bench.vsml import native


def sweep(
    ticks: int,
    from_inputs: Tensor,
    from_outputs: Tensor,
    weight: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All micro-ticks of one layer, where `native.applies`.

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
        native.call("vsml_sweep_backward", *sizes, *operands, *gradients, *results)
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
    native.call("vsml_sweep", *sizes, *operands, *results)
    return results
