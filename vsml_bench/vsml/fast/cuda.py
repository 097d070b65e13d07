"""Whole lifetimes on a CUDA GPU, by the kernels in `triton_kernels`. Differentiable once.

They take up to 4 micro-ticks and 128 outputs, on GPUs of compute capability 8.0 or later.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vsml_bench.vsml.fast.packing import Boundary, MetaParameters, Packed, pack, unpack
from vsml_bench.vsml.network import VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import FORGET_OFFSET

CAPABILITY = (8, 0)
"""Of a GPU whose matrix units read float32."""
MAX_TICKS = 4
"""Of more, the gradient takes minutes to compile."""
MOST_PROGRAMS = 128
"""That share a lifetime."""
ROWS = (32, 64, 128)
"""Sub-RNNs of a tile: few are quickest, but a tile holds inputs with all their outputs."""
WELL_FILLED = 0.75
"""Share of a tile's rows in use, below which larger tiles are better."""
ROWS_OF_WARP = 16
RESIDENT_ROWS, SHARED_BYTES = 128, 1600
"""Rows that a multiprocessor has registers for, and the most shared memory that one takes."""


def unroll(
    learner: VSMLNetwork, state: VSMLState, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, VSMLState] | None:
    """`Learner.unroll` of a network with one dense layer; None where the kernels do not apply."""
    packed = pack(learner, state, inputs, labels)
    if not takes(packed):
        return None
    logits, end = run(packed)
    return logits, unpack(state, logits, end)


def takes(packed: Packed) -> bool:
    """Whether `run` can take these. Labels are not looked at, for the GPU would have to be waited
    for: they must be classes."""
    tensors = (packed.inputs, packed.labels, *packed.operands)
    mixed = torch.is_autocast_enabled(packed.inputs.device.type)
    return (
        packed.fits
        and packed.ticks <= MAX_TICKS
        and packed.start.error.shape[1] <= ROWS[-1]
        and not (mixed and torch.is_grad_enabled())
        and not any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))
    )


def run(packed: Packed) -> tuple[Tensor, Boundary]:
    """Logits [T, E, B] and the end of the lifetimes."""
    device = packed.inputs.device.type
    mixed, with_tape = torch.is_autocast_enabled(device), packed.differentiated
    tensors = (packed.inputs, packed.labels, *packed.own)
    with torch.autocast(device, enabled=False):
        logits, *end = _Lifetimes.apply(
            *(packed.ticks, mixed, with_tape),
            *(tensor.contiguous() for tensor in tensors),
            *packed.start,
        )
    return logits, Boundary(*end)


def available(device: torch.device) -> bool:
    """Whether the kernels run on this device."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= CAPABILITY
        and importlib.util.find_spec("triton") is not None
    )


def kernels() -> ModuleType:
    """The module with the kernels, which needs Triton."""
    return importlib.import_module("vsml_bench.vsml.fast.triton_kernels")


def _exponents(own: MetaParameters) -> list[Tensor]:
    """What gates are the sum of, scaled and shifted as the kernels take it: the shares of the
    input, the bias and the error, [4N], and W [N, 4N]."""
    factor = own.weight.new_full((4, len(own.weight)), -math.log2(math.e))
    factor[1] *= 2  # tanh(g)
    offset = torch.zeros_like(factor)
    offset[0], offset[2] = -FORGET_OFFSET, FORGET_OFFSET
    parts = (own.from_input, own.bias + offset.flatten(), own.from_error, own.weight)
    return [part * factor.flatten() for part in parts]


class _Launch:
    """Launches of a kernel over some steps of all lifetimes."""

    def __init__(self, like: Tensor, lifetime: int) -> None:
        """like: states [E, A, B, N]. lifetime: T."""
        lifetimes, size, outputs, states = like.shape
        rows = rows_for(outputs)
        tiles = -(-size // (rows // outputs))
        programs = max(1, min(tiles, MOST_PROGRAMS, room_for(rows, like.device) // lifetimes))
        padded = max(16, _power_of_2(outputs))
        self._grid = (lifetimes, programs)
        self.partials = like.new_empty(2, lifetimes, programs, padded)
        self._meet = programs > 1 and like.device.type == "cuda"
        self._arguments = {
            "steps": lifetime,
            "lifetimes": lifetimes,
            "size": size,
            "N": states,
            "B": outputs,
            "B_PAD": padded,
            "ROWS": rows,
            "MOST": 1 if programs == 1 else MOST_PROGRAMS,
            "MEET": self._meet,
            "num_warps": rows // ROWS_OF_WARP,
            "enable_fp_fusion": True,
            "launch_cooperative_grid": self._meet,
        }

    def run(self, kernel: Any, steps: int, *operands: Any, **arguments: Any) -> None:
        """The kernel's steps 0 to steps - 1."""
        at_once = steps if self._grid[1] == 1 or self._meet else 1
        for first in range(0, steps, at_once):
            arrived = self.partials.new_zeros(self._grid[0], dtype=torch.int32)
            with torch.cuda.device_of(arrived):  # Triton launches on the current one
                kernel[self._grid](
                    *operands,
                    partials=self.partials,
                    arrived=arrived,
                    first=first,
                    last=first + at_once,
                    **arguments,
                    **self._arguments,
                )

    def per_program(self, *shape: int) -> Tensor:
        """Zeros for each program, [E, programs, *shape]."""
        return self.partials.new_zeros(*self._grid, *shape)


def rows_for(outputs: int) -> int:
    """Sub-RNNs of a tile."""
    well_filled = (rows for rows in ROWS if rows // outputs * outputs >= WELL_FILLED * rows)
    return next(well_filled, ROWS[-1])


def room_for(rows: int, device: torch.device) -> int:
    """Programs that the GPU runs at the same time."""
    properties = torch.cuda.get_device_properties(device)
    resident = min(
        RESIDENT_ROWS // rows, properties.shared_memory_per_multiprocessor // (SHARED_BYTES * rows)
    )
    return resident * properties.multi_processor_count


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


class _Lifetimes(torch.autograd.Function):
    """Logits [T, E, B] and the end of lifetimes, and their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        ticks: int,
        mixed: bool,
        with_tape: bool,
        inputs: Tensor,
        labels: Tensor,
        *operands: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of inputs [T, E, A] with labels int64 [T, E]. operands: the fields of `MetaParameters`
        and of `Boundary`. with_tape: whether states of all steps are kept, for a gradient."""
        own, start = MetaParameters(*operands[:6]), Boundary(*operands[6:])
        steps = len(inputs)
        hidden, cell, error = (_begun(part, steps if with_tape else 0) for part in start)
        launch = _Launch(hidden[0], steps)
        logits = error.new_empty(steps, *error.shape[1:])
        launch.run(
            kernels().run_forward,
            steps + 1,
            *(inputs, labels, *_exponents(own), own.head / inputs.shape[2], own.head_bias),
            *(hidden, cell, error),
            logits=logits,
            state_stride=hidden[0].numel() * with_tape,
            error_stride=error[0].numel() * with_tape,
            TICKS=ticks,
            MIXED=mixed,
        )
        if with_tape:
            ctx.ticks = ticks
            ctx.save_for_backward(inputs, labels, *own, hidden, cell, error, logits)
        return logits, hidden[-1].clone(), cell[-1].clone(), error[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, labels, *saved = ctx.saved_tensors
        own, (hidden, cell, error, logits) = MetaParameters(*saved[:6]), saved[6:]
        steps, size = len(inputs), inputs.shape[2]
        into_logits, *into_end = (gradient.contiguous() for gradient in gradients)
        into_hidden, into_cell = (gradient.clone() for gradient in into_end[:2])
        launch = _Launch(hidden[0], steps)
        states = len(own.weight)
        into_z = torch.empty_like(logits)
        into_weight, into_shares = (launch.per_program(states, 4 * states) for _ in range(2))
        into_head = launch.per_program(states, states)
        launch.run(
            kernels().run_backward,
            steps,
            *(inputs, labels, *_exponents(own), own.weight, own.from_error, own.head / size),
            *(hidden, cell, error, logits, into_logits, into_hidden, into_cell, into_end[2]),
            into_z=into_z,
            into_weight=into_weight,
            into_shares=into_shares,
            into_head=into_head,
            TICKS=ctx.ticks,
        )
        into_error = launch.partials[(steps - 1) % 2].sum(1)[:, : error.shape[2]]
        of_input, of_bias, of_error, *_ = into_shares.sum((0, 1))
        into_own = MetaParameters(
            from_input=of_input,
            bias=of_bias,
            from_error=of_error,
            weight=into_weight.sum((0, 1)),
            head=into_head.sum((0, 1))[3] / size,
            head_bias=into_z.sum(),
        )
        return (None,) * 5 + (*into_own, into_hidden, into_cell, into_error)


def _begun(start: Tensor, steps: int) -> Tensor:
    """Room for what lifetimes start from and for what `steps` steps leave, [steps + 1, ...]."""
    room = start.new_empty(steps + 1, *start.shape)
    room[0] = start
    return room
