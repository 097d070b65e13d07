"""The command line: parses arguments, calls `vsml_bench.commands`. Nothing heavy is imported before
a verb is known, so that `--help` is quick."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from vsml_bench import __version__, paths
from vsml_bench.errors import VsmlBenchError, closest, shortened
from vsml_bench.streams import ReaderGone, standard_streams

LEARNER = "a name, or path/to/file.py:ClassName"
ASSIGNMENT: dict[str, Any] = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
PATH: dict[str, Any] = {"type": paths.expanded}
REPEATED: dict[str, Any] = {"action": "append", "default": [], **PATH}
SHARED: Mapping[str, Mapping[str, Any]] = {
    "--data-root": {**PATH, "help": "folder in torchvision's layout (default: $VSML_BENCH_DATA)"},
    "--device": {"default": "auto", "choices": ("auto", "cpu", "cuda")},
    "--jobs": {"type": int, "help": "processes side by side (default: one per core)"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--quiet": {"action": "store_true", "help": "no progress bar"},
}
"""Options that mean the same wherever they are offered."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 not all of it, 2 bad input."""
    try:
        with standard_streams():
            options = build_parser().parse_args(arguments)
            from vsml_bench import commands

            code: int = getattr(commands, f"{options.verb.replace('-', '_')}_command")(options)
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


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = _Parser(
        prog="vsml-bench",
        description="Does this learner really learn to learn, and does it carry over?",
    )
    parser.add_argument("--version", action="version", version=f"vsml-bench {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, *shared: str, suite: bool = False) -> argparse.ArgumentParser:
        """shared: of `SHARED`. suite: whether it is about a suite or a selection from one."""
        made = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if suite:
            _add_selection(made)
        for flag in shared:
            made.add_argument(flag, **SHARED[flag])
        return made

    show = verb("list", "show the learners, splits, suites or datasets there are", "--json")
    show.add_argument("what", choices=("learners", "splits", "suites", "datasets"))

    data = verb("data", "list the datasets of this machine, or fetch some", "--data-root", "--json")
    data_verbs = data.add_subparsers(dest="data_verb", metavar="fetch")
    fetch = data_verbs.add_parser("fetch", help="bring datasets into the data root")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.add_argument("--data-root", dest="fetch_root", **PATH, help="where they go")
    lenient = "exit 0 even where one cannot be had"
    fetch.add_argument("--best-effort", action="store_true", help=lenient)

    check = verb("check", "check a learner against every promise of the contract", "--json")
    check.add_argument("learner", **PATH, help=LEARNER)

    new = verb("new-learner", "write a learner that runs, to start from", "--json")
    new.add_argument("name", help="its name on the board, such as fading-mean")
    new.add_argument("--out", **PATH, help="the file to write (default: NAME.py, with underscores)")
    new.add_argument("--meta", action="store_true", help="one that is meta-trained")

    verb("plan", "price a suite before running it", "--data-root", "--json", suite=True)

    text = "find a learner's meta-parameters, or tune it"
    train = verb("meta-train", text, "--data-root", "--device", "--quiet", "--json")
    split = "whose meta-train side is trained on, where the recipe is for tasks"
    train.add_argument("--split", default="", **PATH, help=split)
    train.add_argument("--learner", required=True, **PATH, help=LEARNER)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--suite", **PATH, help="use this suite's protocol and recipe")
    train.add_argument(
        "--engine",
        choices=("bptt", "es"),
        help="backpropagation through time or evolution strategies (default: the recipe's)",
    )
    change = "a field of the learner's configuration to change, value as in TOML"
    train.add_argument("--set", **ASSIGNMENT, help=change)
    change = "a field of the recipe to change, value as in TOML"
    train.add_argument("--recipe", **ASSIGNMENT, help=change)
    folder = "folder (default: %(default)s)"
    train.add_argument("--out", default="runs/checkpoints", **PATH, help=folder)
    train.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")

    text = "run a suite's cells"
    run = verb("run", text, "--data-root", "--jobs", "--quiet", "--device", "--json", suite=True)
    run.add_argument("--out", **PATH, help="folder for results (default: runs/SUITE)")
    run.add_argument(
        "--policy",
        default="only-missing",
        choices=("always", "never", "only-missing", "only-cached"),
        help="which cells to run (default: %(default)s)",
    )
    run.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of matrix products when meta-testing; bfloat16 is mixed precision, and gets rows of "
        "its own on the board (default: %(default)s)",
    )

    board = verb("leaderboard", "print a suite's board from its cells", suite=True)
    cells = "folder of the cells (default: runs/SUITE, or published)"
    board.add_argument("--results", **PATH, help=cells)
    form = "markdown, csv, json, html (a page, as a file), or a plug-in's (default: %(default)s)"
    board.add_argument("--format", default="markdown", help=form)
    same: dict[str, Any] = {"dest": "format", "action": "store_const", "const": "json"}
    board.add_argument("--json", **same, help="the same as --format json")
    kept = "also write board.md, .csv, .json and .html, and what a study draws"
    board.add_argument("--write", action="store_true", help=kept)
    differs = "say how it differs from this board.json or 'published'"
    board.add_argument("--compare", metavar="BOARD", **PATH, help=differs)

    text = "draw how a learner learns, beside SGD and 1-NN"
    look = verb("introspect", text, "--jobs", "--quiet", "--data-root", "--device", "--json")
    look.add_argument("--learner", required=True, **PATH, help=LEARNER)
    look.add_argument("--split", required=True, **PATH, help="whose meta-test side is learned")
    look.add_argument("--seed", type=int, default=0, help="of its meta-training")
    look.add_argument("--lifetimes", type=int, help="(default: the suite introspection's)")
    look.add_argument("--steps", type=int, help="of a lifetime (default: likewise)")
    look.add_argument("--out", default="runs/introspect", **PATH, help=folder)

    text = "check stored cells and checkpoints against their hashes"
    verify = verb("verify", text, "--jobs", "--data-root", "--json")
    folder = "folder of results (default: what is published)"
    verify.add_argument("folder", nargs="?", default=str(paths.results()), **PATH, help=folder)
    verify.add_argument(
        "--replay",
        nargs="?",
        type=int,
        const=1,
        metavar="N",
        help="also run N lifetimes of each cell (default: 1) and the first updates of each "
        "meta-training again, with today's code and data, and compare",
    )
    verify.add_argument("--steps", type=int, help="of each lifetime that is replayed")
    adopt = "with --replay: file stale records that replay under today's identity"
    verify.add_argument("--adopt", action="store_true", help=adopt)

    explain = verb("explain", "say what a split, suite, learner, cell or checkpoint is", "--json")
    explain.add_argument("what", **PATH, help="a name, or the path of a cell or a checkpoint")

    cite = verb("cite", "print how to cite the software and a board", "--json")
    cite.add_argument("--suite", **PATH, help="the published board to cite")
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", required=True, **PATH, help="a name, or a TOML file")
    parser.add_argument("--split", **REPEATED, help="only this split of the suite (repeatable)")
    only = "only this learner: one of the suite's, another name, or a path (repeatable)"
    parser.add_argument("--learner", **REPEATED, help=only)
    beside = "this learner beside the suite's own (repeatable)"
    parser.add_argument("--add-learner", **REPEATED, help=beside)
    parser.add_argument("--seed", **{**REPEATED, "type": int}, help="(repeatable)")
    change = "a field of the learners' configuration to change, value as in TOML"
    parser.add_argument("--set", **ASSIGNMENT, help=change)
