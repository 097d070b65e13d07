"""What the server imports that worker processes are forked from (`processes`): PyTorch and the
harness, and no learner. It is imported nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import warnings
from typing import Any

from vsml_bench.orphans import STARTED_BY, adopt_orphans, end_with_parent

# First, since what follows takes seconds.
end_with_parent(signal.SIGKILL, int(os.environ[STARTED_BY]))

for name in (
    "psutil",
    "torch._dynamo",
    "sklearn.datasets",  # which a process would import later, with its first data
    "vsml_bench.evaluation.worker",
):
    importlib.import_module(name)


def _end(*_: Any) -> None:
    """Ends this process, and first all that descends from it."""
    import psutil

    own = psutil.Process()
    while alive := [c for c in own.children(recursive=True) if c.status() != psutil.STATUS_ZOMBIE]:
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    os._exit(0)


def _prepare() -> None:
    import torch

    torch.compile(torch.nn.Identity())  # which imports what compiles, and compiles nothing yet
    with contextlib.suppress(ImportError):
        # Inductor has bars, whose own lock is a semaphore that a killed process leaves behind.
        importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())


_prepare()
adopt_orphans()  # which then are what `processes` finds below this one
warnings.filterwarnings("ignore", "forkserver: waitpid")
end_with_parent(signal.SIGTERM)
signal.signal(signal.SIGTERM, _end)
