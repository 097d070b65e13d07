"""`run`: the cells of a suite."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.plugins import is_place
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

if TYPE_CHECKING:
    from vsml_bench.evaluation.runner import RunReport


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
    against = "then say whether what was run is ahead of this learner, whose scores are there"
    parser.add_argument("--against", metavar="LEARNER", **PATH, help=against)
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
        said = {"verdicts": list(_verdicts(options, report))} if options.against else {}
        print(json.dumps({"reused": report.reused, "cells": cells, **said}))
    else:
        printing.run(report)
        place = f" --results {shlex.quote(options.out)}" if options.out else ""
        place += f" --scale {options.scale:g}" if options.scale != 1.0 else ""
        own = _places([*options.learner, *options.add_learner])
        place += "".join(f" --add-learner {shlex.quote(of)}" for of in own)
        folder = api.results_folder(options.suite, options.out, options.scale)
        print(
            f"Results are in {folder}; show them with\n"
            f"  vsml-bench leaderboard --suite {shlex.quote(options.suite)}{place}"
        )
        if options.against:
            print("\n".join(_verdicts(options, report)))
    return 1 if report.failed or report.missing else 0


def _places(references: Sequence[str]) -> list[str]:
    """Those of no learner that a suite could name."""
    return [of for of in dict.fromkeys(references) if is_place(of)]


def _verdicts(options: argparse.Namespace, report: RunReport) -> Iterator[str]:
    """A sentence for each learner that was run, or why there is none."""
    from vsml_bench import api

    chosen = selection(options)
    extra = _places([*chosen.pop("learners"), *chosen.pop("extra_learners")])
    for learner in dict.fromkeys(cell.plan.learner for cell in report.cells):
        if learner == options.against:
            continue
        try:
            two = (learner, options.against)
            found = api.compared(options.suite, *two, options.out, extra_learners=extra, **chosen)
            yield found.verdict
        except VsmlBenchError as error:
            yield f"{learner} against {options.against}: {error}"


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash:
        raise argparse.ArgumentTypeError(f"expected two numbers as in 3/20, found '{text}'")
    return COUNT["type"](number), COUNT["type"](count)
