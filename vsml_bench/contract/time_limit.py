"""Ends a learner's code that never ends by itself."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from vsml_bench.errors import VsmlBenchError


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """VsmlBenchError where the Python code inside runs longer, where the system can tell (in the
    main thread, on POSIX).

    what: the subject of the error's sentence.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*details: object) -> None:
        raise VsmlBenchError(f"{what} took more than {seconds:g} s; does a loop never end?")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
