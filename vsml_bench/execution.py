"""Where and how code runs: the one place that decides device, threads, precision and memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from vsml_bench.errors import VsmlBenchError, closest

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16")
"""What matrix products and convolutions are computed in; bfloat16 is mixed precision: parameters,
states and all else stay in float32."""


@dataclass(frozen=True)
class Execution:
    """A decision, made once per process."""

    device: torch.device
    threads: int
    precision: str = "float32"
    """Of `PRECISIONS`."""

    def autocast(self) -> torch.autocast:
        """The context in which a learner runs in this precision."""
        mixed = self.precision != "float32"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed)


def choose_device(device: str = "auto", precision: str = "float32") -> torch.device:
    """The device that is meant; "auto" takes CUDA where it is usable. Nothing is set.

    Raises VsmlBenchError for an unknown device or precision, and for "cuda" on a machine without
    one.
    """
    if device not in DEVICES:
        raise VsmlBenchError(f"unknown device '{device}'; {closest(device, DEVICES)}")
    if precision not in PRECISIONS:
        raise VsmlBenchError(f"unknown precision '{precision}'; {closest(precision, PRECISIONS)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise VsmlBenchError("--device cuda: this machine has no usable CUDA GPU; use cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def decide(
    device: str = "auto", threads: int | None = None, precision: str = "float32"
) -> Execution:
    """Settles device, number of threads and precision for this process, and sets the threads.

    Raises VsmlBenchError as `choose_device` does, and for less than one thread.
    """
    chosen = choose_device(device, precision)
    if threads is not None and threads < 1:
        raise VsmlBenchError(f"--threads: expected at least 1 thread, found {threads}.")
    # Inductor's import warns of a CUDA toolkit without a GPU, which is no concern of the user's.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    _keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    return Execution(chosen, torch.get_num_threads(), precision)


def without_gradients() -> contextlib.AbstractContextManager[None]:
    """The context in which learners run where nobody asks for gradients of their meta-parameters.

    It is inference mode, or `no_grad` with a PyTorch whose `torch.func.grad`, which an inner step
    may be made of, returns zeros in inference mode, as that of 2.11 does
    (https://github.com/pytorch/pytorch/issues/177318).
    """
    return torch.inference_mode() if _differentiates_in_inference_mode() else torch.no_grad()


@lru_cache(maxsize=1)
def _differentiates_in_inference_mode() -> bool:
    with torch.inference_mode():
        return bool(torch.func.grad(torch.square)(torch.ones(())))


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed instead of giving it back to the system: each step of a lifetime
    frees a state of many MiB and asks for the next one, each meta-update the states of whole
    lifetimes, and getting fresh pages for these can take most of the time. The price is memory
    that lies idle. Whoever sets one of glibc's variables for this is left alone, and without
    glibc nothing happens."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for name in ("mmap_max", "mmap_threshold", "trim_threshold"):
        if f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}=" in tunables:
            return
    trim_threshold, mmap_max = -1, -4  # glibc's malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)  # a large tensor mapped by itself would be unmapped when freed
        mallopt(trim_threshold, -1)  # never


def device_name(device: torch.device) -> str:
    """What results are labelled with: the CPU's or GPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        found = re.search(r"^model name[^:]*:(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def synchronize(device: torch.device) -> None:
    """Waits for work queued on a GPU, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
