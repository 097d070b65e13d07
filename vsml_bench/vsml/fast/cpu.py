"""The C++ code at work. Whole lifetimes in one call (`lifetimes.cpp`), for one set of
meta-parameters or, under `torch.func.vmap`, for a population of them; and the sweep of a dense
layer (`sweep.cpp`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd.function import once_differentiable

from vsml_bench.vsml.fast import library
from vsml_bench.vsml.fast.packing import Boundary, MetaParameters, Packed
from vsml_bench.vsml.layers import DenseLayer, LayerState
from vsml_bench.vsml.sub_rnn import SubRNN

_TICKS = ("incoming", "incoming_grid", "recurrent", "tick", "outgoing")
"""Methods of `SubRNN` that a sweep is made of; `heads` it calls."""


def takes(packed: Packed) -> bool:
    """Whether `run` can take these. A population needs no gradient."""
    tensors = (packed.inputs, packed.labels, *packed.operands)
    if any(map(_functorch.is_batchedtensor, tensors)) and packed.differentiated:
        return False
    inputs, labels, *operands = map(_below_vmap, tensors)
    return (
        packed.fits
        and not _functorch.is_functorch_wrapped_tensor(labels)
        and library.reads(packed.ticks, inputs, *operands)
    )


def run(packed: Packed) -> tuple[Tensor, Boundary]:
    """Logits [T, E, B] and the end of the lifetimes. Differentiable once."""
    logits, hidden, cell, error, *_ = _Lifetimes.apply(
        packed.ticks, packed.differentiated, packed.inputs, packed.labels, *packed.operands
    )
    return logits, Boundary(hidden, cell, error)


def _below_vmap(tensor: Tensor) -> Tensor:
    if _functorch.is_batchedtensor(tensor):
        return _functorch.get_unwrapped(tensor)
    return tensor


class _Lifetimes(torch.autograd.Function):
    """The lifetimes, their gradient, and what `torch.func.vmap` makes of them. Operands are the
    fields of `MetaParameters` and of `Boundary`."""

    @staticmethod
    def forward(
        ticks: int, with_tape: bool, inputs: Tensor, labels: Tensor, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        """The logits, the end, and the tape that the gradient needs."""
        with_axis = [tensor.unsqueeze(0) for tensor in (inputs, labels, *operands)]
        results = _live(ticks, with_tape, *with_axis)
        return (*(result.squeeze(0) for result in results[:4]), *results[4:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ticks, with_tape, *tensors = inputs
        if not with_tape:
            return
        logits, _, _, _, *tape = output
        ctx.ticks = ticks
        ctx.mark_non_differentiable(*tape)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors[:8], logits, *tape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, labels, *saved = ctx.saved_tensors
        meta_parameters, (logits, *tape) = MetaParameters(*saved[:6]), saved[6:]
        steps, lifetimes, size, outputs, _ = tape[0].shape
        start = (tape[0][0], tape[1][0], tape[2][0])
        into_logits, *into_end = (
            torch.zeros_like(like) if gradient is None else gradient.contiguous()
            for gradient, like in zip(gradients[:4], (logits, *start), strict=True)
        )
        into_start = [gradient.clone() for gradient in into_end]  # changed in place
        into_each = [p.new_empty(lifetimes, *p.shape) for p in meta_parameters]
        library.call(
            "vsml_lifetimes_backward",
            *(torch.get_num_threads(), steps, lifetimes, size, outputs, ctx.ticks),
            *(inputs.contiguous(), labels.contiguous()),
            *(p.contiguous() for p in meta_parameters[:4]),
            meta_parameters.weight.T.contiguous(),
            *(p.contiguous() for p in meta_parameters[4:]),
            *(logits, *tape, into_logits, *into_start, *into_each),
        )
        return (None,) * 4 + (*(each.sum(0) for each in into_each), *into_start)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        ticks: int,
        with_tape: bool,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Members with meta-parameters, and perhaps examples and a start, of their own."""
        assert not with_tape
        with_axis = [
            tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims[2:], strict=True)
        ]
        for index in range(2, 2 + len(MetaParameters._fields)):
            with_axis[index] = with_axis[index].expand(info.batch_size, *with_axis[index].shape[1:])
        results = _live(ticks, False, *with_axis)
        return tuple(results), (0,) * len(results)


def _live(
    ticks: int, with_tape: bool, inputs: Tensor, labels: Tensor, *operands: Tensor
) -> list[Tensor]:
    """Logits [P, T, E, B] and the end [P, ...] of P members. inputs [P, T, E, A], labels
    [P, T, E], operands [P, ...]; examples and a start may be [1, ...], for all of them. with_tape,
    only where P is 1: also h and c [T, E, A, B, N] and the error [T, E, B] before each step, and
    the mean hidden state of each step [T, E, B, N]."""
    examples = max(len(inputs), len(labels))
    inputs = inputs.expand(examples, *inputs.shape[1:])
    labels = labels.expand(examples, *labels.shape[1:])
    own = [operand.contiguous() for operand in operands]
    meta_parameters, start = own[:6], Boundary(*own[6:])
    members, steps = len(meta_parameters[0]), inputs.shape[1]
    _, lifetimes, size, outputs, states = start.hidden.shape
    empty = inputs.new_empty
    logits = empty(members, steps, lifetimes, outputs)
    grid = (lifetimes, size, outputs, states)
    end = [empty(members, *grid), empty(members, *grid), empty(members, lifetimes, outputs)]
    kept = (grid, grid, (lifetimes, outputs), (lifetimes, outputs, states)) if with_tape else ()
    tape = [empty(steps, *shape) for shape in kept]
    library.call(
        "vsml_lifetimes",
        *(torch.get_num_threads(), members, steps, lifetimes, size, outputs, ticks),
        *(examples, len(start.hidden), len(start.error)),
        *(inputs.contiguous(), labels.contiguous()),
        *(*meta_parameters, *start, logits, *end),
        *(tape or (None, None, None, None)),
    )
    return [logits, *end, *tape]


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
