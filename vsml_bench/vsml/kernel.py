"""The hand-written sweep for CPUs: compiled once per machine by the C++ compiler found there, used
where it applies, and equal to the plain form within float32 rounding.

It applies to inference in float32 on a CPU with N = 16 and no LayerNorm; everything else takes the
plain path. Set VSML_BENCH_KERNEL=0 to never use it.
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

import torch
from torch import Tensor

STATE_SIZE = 16
SOURCE = Path(__file__).with_name("kernel.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC")

Sweep = Callable[..., None]


def applies(*tensors: Tensor) -> bool:
    """Whether these tensors can go through the kernel, on this machine, now."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
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
    of the new hidden over inputs [E, B, N] and over outputs [E, A, N].
    """
    function = load()
    assert function is not None
    lifetimes, inputs, outputs, _ = hidden.shape
    hidden, cell = hidden.contiguous(), cell.contiguous()
    new_hidden, new_cell = torch.empty_like(hidden), torch.empty_like(cell)
    sum_inputs = hidden.new_empty(lifetimes, outputs, STATE_SIZE)
    sum_outputs = hidden.new_empty(lifetimes, inputs, STATE_SIZE)
    operands = (from_inputs.contiguous(), from_outputs.contiguous(), weight.contiguous())
    pointers = (*operands, hidden, cell, new_hidden, new_cell, sum_inputs, sum_outputs)
    function(lifetimes, inputs, outputs, ticks, *(t.data_ptr() for t in pointers))
    return new_hidden, new_cell, sum_inputs / inputs, sum_outputs / outputs


@lru_cache(maxsize=1)
def load() -> Sweep | None:
    """The compiled function; None where there is no compiler, it fails, or it is switched off."""
    if os.environ.get("VSML_BENCH_KERNEL") == "0":
        return None
    try:
        function = ctypes.CDLL(str(_library())).vsml_sweep
    except (OSError, subprocess.CalledProcessError):
        return None
    function.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 9
    function.restype = None
    return function


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
