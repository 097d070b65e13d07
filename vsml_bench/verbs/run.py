"""`run`: the cells of a suite."""

from __future__ import annotations

import argparse
import json
import shlex

from vsml_bench.verbs.options import PATH, add_selection, add_shared, command_line, named, selection


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


def run(options: argparse.Namespace) -> int:
    """`run`: run the cells of a suite."""
    from vsml_bench import api, printing

    given = ("suite", "out", "data_root", "device", "precision", "jobs", "policy")
    report = api.run(
        **named(options, *given),
        progress=not (options.quiet or options.json),
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
        print(
            f"Results are in {api.results_folder(options.suite, options.out)}; show them with\n"
            f"  vsml-bench leaderboard --suite {shlex.quote(options.suite)}{place}"
        )
    return 1 if report.failed or report.missing else 0
