"""`compare`: two learners of a suite, or two boards, side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import PATH, REPEATED, SEED, add_shared

_WHAT = "a learner (a name, or path/to/file.py:ClassName), or a board (board.json, or a folder)"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("first", metavar="A", **PATH, help=_WHAT)
    parser.add_argument("second", metavar="B", **PATH, help="another one")
    parser.add_argument("--suite", **PATH, help="a name, or a TOML file")
    parser.add_argument("--split", **REPEATED, help="only this split of the suite (repeatable)")
    parser.add_argument("--seed", **{**REPEATED, **SEED}, help="(repeatable)")
    cells = "folder of the cells (default: runs/SUITE and, beside it, what is published)"
    parser.add_argument("--results", **PATH, help=cells)
    require = (
        "exit code 1 unless A is this, where seeds and lifetimes decide (default: %(default)s)"
    )
    choices = ("not-worse", "better")
    parser.add_argument("--require", default="not-worse", choices=choices, help=require)
    add_shared(parser, "--json")


def run(options: argparse.Namespace) -> int:
    """`compare`: 0 where A is what is required of it, else 1."""
    boards = [_is_board(given) for given in (options.first, options.second)]
    if any(boards) and not all(boards):
        given = options.second if boards[0] else options.first
        raise VsmlBenchError(f"'{given}' is no board; compare two boards, or two learners.")
    return _boards(options) if all(boards) else _learners(options)


def _is_board(given: str) -> bool:
    return given.endswith(".json") or Path(given).is_dir()


def _learners(options: argparse.Namespace) -> int:
    from vsml_bench import api

    if options.suite is None:
        raise VsmlBenchError("--suite: name the suite that the two learners are compared on.")
    selection = {"splits": options.split, "seeds": options.seed}
    found = api.compared(options.suite, options.first, options.second, options.results, **selection)
    print(json.dumps(found.document(), indent=1) if options.json else found.markdown())
    return 0 if (found.better if options.require == "better" else not found.worse) else 1


def _boards(options: argparse.Namespace) -> int:
    from vsml_bench.boards.two_boards import compare_boards

    first, second = (_document(given, options) for given in (options.first, options.second))
    found = compare_boards(first, second)
    print(json.dumps(found.document(), indent=1) if options.json else found.markdown())
    return 0 if (found.better if options.require == "better" else not found.worse) else 1


def _document(given: str, options: argparse.Namespace) -> Mapping[str, Any]:
    """A board as JSON has it."""
    from vsml_bench import api
    from vsml_bench.boards.two_boards import read_board

    if not Path(given).is_dir():
        return read_board(Path(given), f"'{Path(given).name}'")
    if options.suite is None:
        raise VsmlBenchError(f"--suite: name the suite whose cells are in the folder '{given}'.")
    selection = {"splits": options.split, "seeds": options.seed}
    return api.board(options.suite, given, **selection).document()
