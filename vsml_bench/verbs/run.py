"""`run`: the cells of a suite."""

from __future__ import annotations

import argparse
import json
import shlex

from vsml_bench.verbs.executors import add_executor, chosen_executor
from vsml_bench.verbs.options import (
    COUNT,
    PATH,
    add_selection,
    add_shared,
    command_line,
    named,
    selection,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_selection(parser)
    add_shared(parser, "--data-root", "--jobs", "--quiet", "--device", "--json")
    parser.add_argument("--out", **PATH, help="folder for results (default: runs/SUITE)")
    parser.add_argument(
        "--policy",
        default="only-missing",
        choices=("always", "never", "only-missing", "only-cached"),
        help="which cells to run (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of matrix products when meta-testing; bfloat16 is mixed precision, and gets rows of "
        "its own on the board (default: %(default)s)",
    )
    parser.add_argument(
        "--shard", type=_shard, default=(1, 1), help="K/N: only the Kth of N parts of the cells"
    )
    add_executor(parser)


def run(options: argparse.Namespace) -> int:
    """`run`: run the cells of a suite."""
    from vsml_bench import api, printing

    given = ("suite", "out", "data_root", "device", "precision", "jobs", "policy", "shard")
    progress = not (options.quiet or options.json)
    report = api.run(
        **named(options, *given),
        progress=progress,
        executor=chosen_executor(options, progress),
        command=command_line(),
        **selection(options),
    )
    if options.json:
        cells = [
            {**printing.place(cell.plan), "status": cell.status, "reason": cell.reason}
            for cell in report.cells
        ]
        print(json.dumps({"reused": report.reused, "cells": cells}))
    else:
        printing.run(report)
        place = f" --results {shlex.quote(options.out)}" if options.out else ""
        place += f" --scale {options.scale:g}" if options.scale != 1.0 else ""
        folder = api.results_folder(options.suite, options.out, options.scale)
        print(
            f"Results are in {folder}; show them with\n"
            f"  vsml-bench leaderboard --suite {shlex.quote(options.suite)}{place}"
        )
    return 1 if report.failed or report.missing else 0


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash:
        raise argparse.ArgumentTypeError(f"expected two numbers as in 3/20, found '{text}'")
    return COUNT["type"](number), COUNT["type"](count)
