"""Progress bars with an estimate: lively on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LOG_LINES = 30.0


def progress_bar(total: float, title: str, shown: bool, **options: Any) -> tqdm[Any]:
    """A tqdm bar on standard error. options: any of tqdm's own."""
    interval = 0.25 if sys.stderr.isatty() else SECONDS_BETWEEN_LOG_LINES
    return tqdm(total=total, desc=title, disable=not shown, mininterval=interval, **options)
