"""Standard output and error as commands write to them: what cannot be written is said in a
sentence, or is no fault, and never a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from vsml_bench.errors import VsmlBenchError


class ReaderGone(Exception):
    """Whoever read standard output, such as `head`, has seen enough."""


class _Stream:
    """A stream with another answer to what goes wrong; all else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):  # a sign that a terminal does not know
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """See `TextIO.write`."""
        with self._answer():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See `TextIO.flush`."""
        with self._answer():
            self._stream.flush()

    @contextlib.contextmanager
    def _answer(self) -> Iterator[None]:
        """Of standard error: nobody reads it, and nothing depends on it."""
        with contextlib.suppress(OSError):
            yield


class _Output(_Stream):
    @contextlib.contextmanager
    def _answer(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._abandon()
            if isinstance(error, BrokenPipeError):
                raise ReaderGone from error
            raise VsmlBenchError(
                f"standard output cannot be written: {error.strerror}; send it elsewhere."
            ) from error

    def _abandon(self) -> None:
        """Lets Python flush at its end what could not be written."""
        with contextlib.suppress(OSError, ValueError):  # a stream of a test has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """`sys.stdout` and `sys.stderr` as above, while a command runs. ReaderGone where the reader of
    standard output is; VsmlBenchError where it is closed or cannot take more."""
    error, output = sys.stderr, sys.stdout
    with contextlib.ExitStack() as stack:
        if error is None:  # closed
            error = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stderr(_Stream(error)))
        if output is None:
            raise VsmlBenchError("standard output is closed; send it to a file or a terminal.")
        stack.enter_context(contextlib.redirect_stdout(_Output(output)))
        try:
            yield
        finally:  # `--help` ends by SystemExit
            sys.stdout.flush()
