"""The command line: parses arguments, calls `vsml_bench.api`, prints. Nothing heavy is imported
before a verb is known, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from vsml_bench import __version__
from vsml_bench.errors import VsmlBenchError

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 not all of it, 2 bad input."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        code: int = _handler(options.verb)(options)
        sys.stdout.flush()
    except VsmlBenchError as error:
        print(f"vsml-bench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("vsml-bench: interrupted; what was finished is kept.", file=sys.stderr)
        return 130
    return code


def _handler(verb: str) -> Run:
    from vsml_bench import commands

    handler: Run = getattr(commands, f"{verb.replace('-', '_')}_command")
    return handler


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="vsml-bench",
        description="Does this learner really learn to learn, and does it carry over?",
    )
    parser.add_argument("--version", action="version", version=f"vsml-bench {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    show = _verb(verbs, "list", "show the learners, splits, suites or datasets there are")
    show.add_argument("what", choices=("learners", "splits", "suites", "datasets"))
    _json(show)

    data = _verb(verbs, "data", "list the datasets of this machine, or fetch some")
    _data_root(data)
    _json(data)
    data_verbs = data.add_subparsers(dest="data_verb", metavar="fetch")
    fetch = data_verbs.add_parser("fetch", help="bring datasets into the data root")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.add_argument("--data-root", dest="fetch_root", help="where they go")
    fetch.add_argument(
        "--best-effort", action="store_true", help="exit 0 even where one cannot be had"
    )

    check = _verb(verbs, "check", "check a learner against every promise of the contract")
    check.add_argument("learner", help="a name, or path/to/file.py:ClassName")
    _json(check)

    new = _verb(verbs, "new-learner", "write a learner that runs, to start from")
    new.add_argument("name", help="its name on the board, such as fading-mean")
    new.add_argument("--out", help="the file to write (default: NAME.py, with underscores)")
    new.add_argument("--meta", action="store_true", help="one that is meta-trained")

    plan = _verb(verbs, "plan", "price a suite before running it")
    _selection(plan)
    _data_root(plan)
    _json(plan)

    train = _verb(verbs, "meta-train", "find a learner's meta-parameters, or tune it")
    train.add_argument(
        "--split",
        default="",
        help="whose meta-train side is trained on, where the recipe is for tasks",
    )
    train.add_argument("--learner", required=True, help="a name, or path/to/file.py:ClassName")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--suite", help="use this suite's protocol and recipe")
    train.add_argument(
        "--engine",
        choices=("bptt", "es"),
        help="backpropagation through time or evolution strategies (default: the recipe's)",
    )
    _assignments(train, "--set", "a field of the learner's configuration to change")
    _data_root(train)
    _training(train)

    run = _verb(verbs, "run", "run a suite's cells")
    _selection(run)
    _data_root(run)
    run.add_argument("--out", help="folder for results (default: runs/SUITE)")
    run.add_argument(
        "--policy",
        default="only-missing",
        choices=("always", "never", "only-missing", "only-cached"),
        help="which cells to run (default: %(default)s)",
    )
    run.add_argument("--jobs", type=int, help="processes side by side (default: one per core)")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    _device(run)
    run.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of matrix products when meta-testing; bfloat16 is mixed precision, and gets rows of "
        "its own on the board (default: %(default)s)",
    )
    _json(run)

    board = _verb(verbs, "leaderboard", "print a suite's board from its cells")
    _selection(board)
    board.add_argument("--results", help="folder of the cells (default: runs/SUITE, or published)")
    board.add_argument(
        "--format",
        default="markdown",
        help="markdown, csv, json, or what a plug-in brings (default: %(default)s)",
    )
    board.add_argument(
        "--write",
        action="store_true",
        help="also write board.md, .csv and .json, and what a study draws",
    )
    board.add_argument(
        "--compare", metavar="BOARD", help="say how it differs from this board.json or 'published'"
    )

    look = _verb(verbs, "introspect", "draw how a learner learns, beside SGD and 1-NN")
    look.add_argument("--learner", required=True, help="a name, or path/to/file.py:ClassName")
    look.add_argument("--split", required=True, help="whose meta-test side is learned")
    look.add_argument("--seed", type=int, default=0, help="of its meta-training")
    look.add_argument("--lifetimes", type=int, help="(default: the suite introspection's)")
    look.add_argument("--steps", type=int, help="of a lifetime (default: likewise)")
    look.add_argument("--out", default="runs/introspect", help="folder (default: %(default)s)")
    look.add_argument("--jobs", type=int, help="processes side by side (default: one per core)")
    look.add_argument("--quiet", action="store_true", help="no progress bar")
    _data_root(look)
    _device(look)

    verify = _verb(verbs, "verify", "check stored cells and checkpoints against their hashes")
    verify.add_argument("folder", nargs="?", default="results", help="(default: %(default)s)")
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
    verify.add_argument(
        "--adopt",
        action="store_true",
        help="with --replay: file stale records that replay under today's identity",
    )
    verify.add_argument("--jobs", type=int, help="processes side by side (default: one per core)")
    _data_root(verify)
    _json(verify)

    explain = _verb(verbs, "explain", "say what a split, suite, learner, cell or checkpoint is")
    explain.add_argument("what", help="a name, or the path of a cell or a checkpoint")

    cite = _verb(verbs, "cite", "print how to cite the software and a board")
    cite.add_argument("--suite", help="the published board to cite")
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", required=True, help="a name, or a TOML file")
    parser.add_argument(
        "--split", action="append", default=[], help="only this split of the suite (repeatable)"
    )
    parser.add_argument(
        "--learner",
        action="append",
        default=[],
        help="only this learner: one of the suite's, another name, or path/to/file.py:ClassName "
        "(repeatable)",
    )
    parser.add_argument(
        "--add-learner",
        action="append",
        default=[],
        help="this learner beside the suite's own (repeatable)",
    )
    parser.add_argument("--seed", action="append", type=int, default=[], help="(repeatable)")
    _assignments(parser, "--set", "a field of the learners' configuration to change")


def _assignments(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    parser.add_argument(
        flag, action="append", default=[], metavar="KEY=VALUE", help=f"{text}, value as in TOML"
    )


def _training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs/checkpoints", help="folder (default: %(default)s)")
    _assignments(parser, "--recipe", "a field of the recipe to change")
    _device(parser)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root", help="folder in torchvision's layout (default: $VSML_BENCH_DATA)"
    )


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


if __name__ == "__main__":
    sys.exit(main())
