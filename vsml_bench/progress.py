"""How far long work is, on standard error: a bar on a terminal, a line each half minute in logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from vsml_bench.errors import shortened

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EVERY = 30.0
"""Seconds between two lines of a log."""


class ProgressBar:
    """Shown from when it is entered until it is left; what it says last stays."""

    def __init__(
        self,
        total: float,
        title: str,
        shown: bool,
        begun: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """total: of work, in any unit. begun: how much was done before. clock: of seconds."""
        self._title, self._total, self._begun = shortened(title), total, begun
        self._shown = shown and sys.stderr is not None
        self._clock = clock
        self._done, self._note = begun, ""
        self._bar: Bar | None = None

    def __enter__(self) -> ProgressBar:
        self._start = self._told = self._clock()
        if self._shown and sys.stderr.isatty():
            self._bar = _bar()
            task = self._bar.add_task(self._title, total=self._total, note="")
            self._bar.update(task, completed=self._begun)
            self._bar.start()
        elif self._shown:
            self._tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and self._done != self._told_of:
            self._tell()

    def reach(self, done: float, note: str = "") -> None:
        """So much is done; note: what else is worth knowing."""
        self._done, self._note = done, note
        if self._bar is not None:
            note = f"{note} {self._left()}".strip()
            self._bar.update(self._bar.task_ids[0], completed=done, note=note)
        elif self._shown and self._clock() - self._told >= EVERY:
            self._tell()

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self._shown:
            print(line, file=sys.stderr, flush=True)

    def _tell(self) -> None:
        self._told, self._told_of = self._clock(), self._done
        share = self._done / self._total if self._total else 1.0
        passed = f"{_time(self._told - self._start)} passed"
        words = [f"{self._title}: {share:4.0%}", self._note, passed, self._left()]
        print(", ".join(word for word in words if word), file=sys.stderr, flush=True)

    def _left(self) -> str:
        """An estimate, by the mean speed so far; "" where there is none, or nothing is left."""
        new, left = self._done - self._begun, self._total - self._done
        if new <= 0 or left <= 0:
            return ""
        return f"{_time((self._clock() - self._start) * left / new)} left"


def _bar() -> Bar:
    from rich import progress
    from rich.console import Console

    class Screen(Console):
        def show_cursor(self, show: bool = True) -> bool:
            """Leaves it as it is: a run that is killed could not show it again."""
            return False

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        progress.TimeElapsedColumn(),
        console=Screen(file=sys.stderr),
        refresh_per_second=4,
        redirect_stdout=False,  # which may be no terminal
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
