"""The command line: parses arguments, calls the verb's module. Only the module of the verb that is
given is imported, so that `--help` is quick."""

# PYTHON_ARGCOMPLETE_OK: a shell may ask this program what completes a command line.

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from vsml_bench import __version__
from vsml_bench.errors import VsmlBenchError, closest, shortened
from vsml_bench.streams import ReaderGone, standard_streams

VERBS: Mapping[str, str] = {
    "list": "show the learners, splits, suites or datasets there are",
    "data": "list the datasets of this machine, or fetch some",
    "check": "check a learner against every promise of the contract",
    "new-learner": "write a learner that runs, to start from",
    "plan": "price a suite before running it",
    "meta-train": "find a learner's meta-parameters, or tune it",
    "run": "run a suite's cells",
    "leaderboard": "print a suite's board from its cells",
    "compare": "say which of two learners, or boards, is ahead, and whether that is decided",
    "introspect": "draw how a learner learns, beside SGD and 1-NN",
    "merge": "bring the results of several folders into one",
    "verify": "check stored cells and checkpoints against their hashes",
    "submit": "make a folder of results for a pull request, or check some",
    "explain": "say what a split, suite, learner, cell or checkpoint is",
    "cite": "print how to cite the software and a board",
}
"""Each is a module of `vsml_bench.verbs`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 not all of it, 2 bad input."""
    if "_ARGCOMPLETE" in os.environ:
        from vsml_bench.completion import complete

        complete(build_parser())
    try:
        with standard_streams():
            given = sys.argv[1:] if arguments is None else arguments
            options = build_parser(next(iter(given), "")).parse_args(given)
            code: int = _module(options.verb).run(options)
        return code
    except ReaderGone:
        return 0
    except VsmlBenchError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(_of_the_system(error))
    except KeyboardInterrupt:
        _refuse("interrupted; what was finished is kept.")
        return 130


def _refuse(why: str) -> int:
    if sys.stderr is not None:  # closed; `print` would take standard output instead
        with contextlib.suppress(OSError):
            print(f"vsml-bench: {why}", file=sys.stderr)
    return 2


def _of_the_system(error: OSError) -> str:
    """What the operating system refuses, where nobody foresaw it."""
    try:
        os.getcwd()
    except OSError:
        return "the working folder does not exist any more; change into another."
    where = f"{error.filename}: " if error.filename is not None else ""
    return shortened(f"{where}{error.strerror or error} ({type(error).__name__}).")


class _Parser(argparse.ArgumentParser):
    """One sentence for what is wrong, as everywhere; options count once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        _refuse(shortened(f"{message}; see `{self.prog} --help`."))
        sys.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = closest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: '{value}'; {hint}")


class _Once(argparse._StoreAction):
    """Keeps a value, and refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = f"{self.dest} is given"
        if option_string is not None and hasattr(namespace, given):
            raise argparse.ArgumentError(self, "is given twice; give it once")
        setattr(namespace, given, True)
        super().__call__(parser, namespace, values, option_string)


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """All verbs.

    only: the one verb that gets its options, which cost an import; None: all of them.
    """
    parser = _Parser(
        prog="vsml-bench",
        description="Does this learner really learn to learn, and does it carry over?",
        epilog='To complete names with TAB: eval "$(register-python-argcomplete vsml-bench)"',
    )
    parser.add_argument("--version", action="version", version=f"vsml-bench {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if only in (None, name):
            _module(name).add_options(verb)
    return parser


def _module(verb: str) -> Any:
    return importlib.import_module(f"vsml_bench.verbs.{verb.replace('-', '_')}")
