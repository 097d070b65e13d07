"""Whole lifetimes in one call of the C++ code (`lifetimes.cpp`), for one set of meta-parameters or,
under `torch.func.vmap`, for a population of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd.function import once_differentiable

from vsml_bench.vsml.fast import library
from vsml_bench.vsml.fast.packing import Boundary, MetaParameters, Packed


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
