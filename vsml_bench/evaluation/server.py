"""What the server imports that worker processes are forked from (`executors`): PyTorch and the
harness, and no learner. It is imported nowhere else."""

from __future__ import annotations

import contextlib
import ctypes
import signal

# What a process would import later, in a second each: with its first data, and its first gradient.
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import vsml_bench.evaluation.worker  # noqa: F401

torch.compile(torch.nn.Identity())  # which imports what compiles, and compiles nothing yet

PR_SET_PDEATHSIG = 1
"""Of prctl.h."""


def end_with_parent() -> None:
    """Has this process killed when its parent ends, however that ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


end_with_parent()
