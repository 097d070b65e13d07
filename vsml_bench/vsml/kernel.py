"""The hand-written sweep for CPUs: compiled once per machine by the C++ compiler found there, used
where it applies, and equal to the plain form within float32 rounding.

It applies to inference and to meta-gradients in float32 on a CPU with N = 16, no LayerNorm and at
most 8 micro-ticks; everything else takes the plain path. Set VSML_BENCH_KERNEL=0 to never use it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

STATE_SIZE = 16
MAX_TICKS = 8
SOURCE = Path(__file__).with_name("kernel.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC")


class _Library(NamedTuple):
    sweep: Callable[..., None]
    backward: Callable[..., None]


def applies(ticks: int, *tensors: Tensor) -> bool:
    """Whether a sweep of so many ticks over these tensors can go through the kernel, on this
    machine, now."""
    if torch.compiler.is_compiling() or ticks > MAX_TICKS:
        return False
    plain = all(
        t.device.type == "cpu"
        and t.dtype == torch.float32
        and not torch._C._functorch.is_functorch_wrapped_tensor(t)  # has no memory to point at
        for t in tensors
    )
    return plain and load() is not None


def sweep(
    ticks: int,
    from_inputs: Tensor,
    from_outputs: Tensor,
    weight: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All micro-ticks of one layer.

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
    """The sweep and its gradient, as autograd calls them."""

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
        library = load()
        assert library is not None
        gradients = tuple(gradient.contiguous() for gradient in gradients)
        into_inputs = torch.empty_like(from_inputs)
        into_outputs, into_weight = torch.zeros_like(from_outputs), torch.zeros_like(weight)
        into_hidden, into_cell = torch.empty_like(hidden), torch.empty_like(cell)
        operands = (from_inputs, from_outputs, weight, weight.T.contiguous(), hidden, cell)
        results = (into_inputs, into_outputs, into_weight, into_hidden, into_cell)
        pointers = (t.data_ptr() for t in (*operands, *gradients, *results))
        library.backward(*hidden.shape[:3], ctx.ticks, *pointers)
        return (None, *results)


def _forward(ticks: int, *operands: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `sweep`, but with sums instead of means."""
    library = load()
    assert library is not None
    operands = tuple(operand.contiguous() for operand in operands)
    hidden, cell = operands[-2:]
    lifetimes, inputs, outputs, _ = hidden.shape
    new_hidden, new_cell = torch.empty_like(hidden), torch.empty_like(cell)
    sum_inputs = hidden.new_empty(lifetimes, outputs, STATE_SIZE)
    sum_outputs = hidden.new_empty(lifetimes, inputs, STATE_SIZE)
    results = (new_hidden, new_cell, sum_inputs, sum_outputs)
    pointers = (t.data_ptr() for t in (*operands, *results))
    library.sweep(lifetimes, inputs, outputs, ticks, *pointers)
    return results


@lru_cache(maxsize=1)
def load() -> _Library | None:
    """The compiled functions; None where there is no compiler, it fails, or they are switched
    off."""
    if os.environ.get("VSML_BENCH_KERNEL") == "0":
        return None
    try:
        library = ctypes.CDLL(str(_library()))
    except (OSError, subprocess.CalledProcessError):
        return None
    sweep, backward = library.vsml_sweep, library.vsml_sweep_backward
    sweep.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 9
    backward.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 15
    sweep.restype = backward.restype = None
    return _Library(sweep, backward)


def _library() -> Path:
    """The shared library for this source, compiler and CPU, built where it is not there yet."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("c++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
    identity = b"\0".join([SOURCE.read_bytes(), version, _cpu(), " ".join(_FLAGS).encode()])
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vsml-bench"
    library = cache / f"kernel-{hashlib.sha256(identity).hexdigest()[:16]}.so"
    if library.is_file():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        built = Path(folder) / "kernel.so"
        subprocess.run(
            [compiler, *_FLAGS, str(SOURCE), "-o", str(built)], check=True, capture_output=True
        )
        os.replace(built, library)
    return library


def _cpu() -> bytes:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"".join(sorted({line for line in lines if line.startswith((b"flags", b"model name"))}))
