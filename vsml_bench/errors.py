"""The ways in which work can fail for a reason the user can act on, and how that is said."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LONGEST = 460
"""Characters of a message: what is longer hides what it says."""
_WORD, _LIST = 160, 200
_NAME = re.compile(r"\w[\w.+=,()@ -]{0,98}[\w)+]|\w")


class VsmlBenchError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what would be right. It is
    `shortened`, since it may repeat what a user gave."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class UnavailableError(VsmlBenchError):
    """Something this machine does not have (a dataset, a package). A cell that meets it gets the
    status `unavailable` and this message as its reason; it never ends a run."""


class DivergedError(VsmlBenchError):
    """A loss became NaN or infinite. A cell that meets it gets the status `diverged`."""


def shortened(text: str, most: int = LONGEST) -> str:
    """The text on one line, with at most so many characters, none of which controls a terminal.
    Endless words and the middle of long texts become "..."."""
    text = re.sub(r"\s*[\n\r]\s*", " ", text.strip())
    text = re.sub(rf"\S{{{_WORD + 1},}}", lambda match: _cut(match[0], _WORD), text)
    text = _cut(text, most)
    return _cut("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), most)


def _cut(text: str, most: int) -> str:
    end = most // 3
    return text if len(text) <= most else f"{text[: most - end - 3]}...{text[len(text) - end :]}"


def closest(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error: the known word that `word` most resembles, or all of them, or
    as many as fit into a sentence."""
    known = sorted(known)
    near = difflib.get_close_matches(word[:_WORD], known, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    if not known:
        return "none are known"
    count = next((n for n in range(len(known), 1, -1) if len(", ".join(known[:n])) <= _LIST), 1)
    more = len(known) - count
    return "known: " + ", ".join(known[:count]) + (f" and {more} more" if more else "")


def check_name(name: object, where: str) -> None:
    """VsmlBenchError where something cannot be called so: files, tables, Markdown and terminals
    show names. Those of splits may have folders, as in "paper/mnist-to-kmnist"; see
    `check_path_name`.

    where: whose name, as the beginning of the sentence.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise VsmlBenchError(
            f"{where}: {name!a} cannot be a name; a name has at most 100 letters, digits and "
            "signs among '_.+=,()@ -', and begins with a letter or digit."
        )


def check_path_name(name: str, where: str) -> None:
    """`check_name` of each part between slashes."""
    for part in name.split("/"):
        check_name(part, where)


warned: list[str] = []
"""What `warn` has said."""


def warn(text: str) -> None:
    """Says on standard error, once in a process, what costs a part and not all."""
    if text not in warned:
        warned.append(text)
        if sys.stderr is None:  # closed; `print` would take standard output instead
            return
        print(f"vsml-bench: warning: {shortened(text)}", file=sys.stderr)


@contextmanager
def costs_itself(what: str) -> Iterator[None]:
    """Whatever is wrong with one of many, such as a plug-in, costs that one, with a warning."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, VsmlBenchError) else f"{type(error).__name__}: "
        warn(f"{what} is left out: {kind}{error}")
