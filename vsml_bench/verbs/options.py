"""Options that mean the same wherever a verb offers them, and how they are read."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vsml_bench import paths
from vsml_bench.config import read_toml_value
from vsml_bench.errors import VsmlBenchError
from vsml_bench.provenance import scrub


def whole_number(least: int) -> Callable[[str], int]:
    """What reads an option's value: decimal digits of ASCII and nothing else that Python would
    read as a number, such as "1_0". ArgumentTypeError for less than `least`."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least} on, found '{text}'"
            )
        return int(text)

    return read


def _path(text: str) -> str:
    """A name or a path; "" is what a shell makes of a variable that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name or a path, found ''")
    return paths.expanded(text)


SEED: Mapping[str, Any] = {"type": whole_number(0)}
COUNT: Mapping[str, Any] = {"type": whole_number(1)}
LEARNER = "a name, or path/to/file.py:ClassName"
ASSIGNMENT: Mapping[str, Any] = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
PATH: Mapping[str, Any] = {"type": _path}
REPEATED: Mapping[str, Any] = {"action": "append", "default": [], **PATH}
SHARED: Mapping[str, Mapping[str, Any]] = {
    "--data-root": {**PATH, "help": "folder in torchvision's layout (default: $VSML_BENCH_DATA)"},
    "--device": {"default": "auto", "choices": ("auto", "cpu", "cuda")},
    "--jobs": {**COUNT, "help": "processes side by side (default: one per core)"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--quiet": {"action": "store_true", "help": "no progress bar"},
}


def add_shared(parser: argparse.ArgumentParser, *flags: str) -> None:
    """flags: of `SHARED`."""
    for flag in flags:
        parser.add_argument(flag, **SHARED[flag])


def add_selection(parser: argparse.ArgumentParser) -> None:
    """A suite, and what of it."""
    parser.add_argument("--suite", required=True, **PATH, help="a name, or a TOML file")
    parser.add_argument("--split", **REPEATED, help="only this split of the suite (repeatable)")
    only = "only this learner: one of the suite's, another name, or a path (repeatable)"
    parser.add_argument("--learner", **REPEATED, help=only)
    beside = "this learner beside the suite's own (repeatable)"
    parser.add_argument("--add-learner", **REPEATED, help=beside)
    parser.add_argument("--seed", **{**REPEATED, **SEED}, help="(repeatable)")
    change = "a field of the learners' configuration to change, value as in TOML"
    parser.add_argument("--set", **ASSIGNMENT, help=change)
    less = "multiply all budgets, such as 0.001, to see that a long run would work"
    parser.add_argument("--scale", type=float, default=1.0, help=less)


def selection(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_selection` offers, but for the suite, as the API takes it."""
    return {
        "splits": options.split,
        "learners": options.learner,
        "extra_learners": options.add_learner,
        "seeds": options.seed,
        "overrides": assignments(options.set),
        "scale": options.scale,
    }


def assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """["key=value", ...] with values as in TOML; a bare word is a string."""
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise VsmlBenchError(f"'{pair}' is not an assignment; write key=value.")
        values[key.strip()] = read_toml_value(text)
    return values


def duration(text: str) -> float:
    """Seconds of "90s", "30m", "2h" or "1h30m"; VsmlBenchError for anything else."""
    parts = re.fullmatch(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s)?", text.strip())
    try:
        found = [float(part or 0) for part in parts.groups()] if parts and text.strip() else []
    except ValueError:  # of several points
        found = []
    seconds = sum(number * unit for number, unit in zip(found, (3600, 60, 1), strict=False))
    if not 0 < seconds < float("inf"):
        raise VsmlBenchError(f"'{text}' is no time; write one such as 90s, 30m, 2h or 1h30m.")
    return seconds


def named(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """These options, by name."""
    return {name: getattr(options, name) for name in names}


def command_line() -> str:
    """The command as a user would repeat it, without this machine's paths."""
    return shlex.join(["vsml-bench", *map(scrub, sys.argv[1:])])
