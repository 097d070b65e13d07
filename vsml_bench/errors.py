"""The ways in which work can fail for a reason the user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VsmlBenchError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what would be right."""


class UnavailableError(VsmlBenchError):
    """Something this machine does not have (a dataset, a package). A cell that meets it gets the
    status `unavailable` and this message as its reason; it never ends a run."""


class DivergedError(VsmlBenchError):
    """A loss became NaN or infinite. A cell that meets it gets the status `diverged`."""


def closest(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error: the known word that `word` most resembles, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return "known: " + ", ".join(known) if known else "none are known"
