"""What the server imports that worker processes are forked from (`executors`): PyTorch and the
harness, and no learner. It is imported nowhere else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import warnings
from typing import Any

import psutil

# What a process would import later, in a second each: with its first data, and its first gradient.
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import vsml_bench.evaluation.worker  # noqa: F401

torch.compile(torch.nn.Identity())  # which imports what compiles, and compiles nothing yet

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Of prctl.h."""


def _set(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # where there is no prctl
        ctypes.CDLL(None).prctl(option, value)


def end_with_parent(how: signal.Signals) -> None:
    """Has this process sent that signal when its parent ends, however that ends (Linux)."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _set(PR_SET_PDEATHSIG, how)


def _end(*_: Any) -> None:
    """Ends this process, and first all that descends from it."""
    own = psutil.Process()
    while alive := [c for c in own.children(recursive=True) if c.status() != psutil.STATUS_ZOMBIE]:
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    os._exit(0)


# Processes whose parents are gone become children of this one, which does not know their names.
_set(PR_SET_CHILD_SUBREAPER, 1)
warnings.filterwarnings("ignore", "forkserver: waitpid")
end_with_parent(signal.SIGTERM)
signal.signal(signal.SIGTERM, _end)
