"""Processes that must not outlive the one that they work for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Of prctl.h."""
STARTED_BY = "VSML_BENCH_STARTED_BY"
"""The variable that tells a process the number of the one that it works for."""


def end_with_parent(how: signal.Signals, parent: int | None = None) -> None:
    """Has this process sent that signal when its parent ends, however that ends (Linux). parent:
    the one that it was begun by; where that has ended already, so does this one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _set(PR_SET_PDEATHSIG, how)
    if parent not in (None, os.getppid()):
        os._exit(0)


def adopt_orphans() -> None:
    """Has processes whose parents are gone become children of the nearest process above that calls
    this (Linux)."""
    _set(PR_SET_CHILD_SUBREAPER, 1)


def _set(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # where there is no prctl
        ctypes.CDLL(None).prctl(option, value)
