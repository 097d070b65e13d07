"""`plan`: what a suite would cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench.verbs.options import add_selection, add_shared, selection

if TYPE_CHECKING:
    from vsml_bench.evaluation.plan import Plan


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_selection(parser)
    add_shared(parser, "--data-root", "--json")
    workers = "also simulate how long so many workers would take, as in 1,8,64"
    parser.add_argument("--workers", type=_numbers, default=[], help=workers)
    parser.add_argument("--gpu", default="", help="workers are GPUs of this name, as in h200")


def run(options: argparse.Namespace) -> int:
    """`plan`: what a suite would cost, as far as its learners have been measured."""
    from vsml_bench import api, printing
    from vsml_bench.config import as_plain
    from vsml_bench.data import datasets
    from vsml_bench.evaluation.prices import prices

    plans = api.plan(options.suite, **selection(options))
    own = api.results_folder(options.suite, None, options.scale)
    folders = (own / "checkpoints", *api.made_before(options.suite))
    root = datasets.data_root(options.data_root)
    found = prices(plans, api.cost_model(options.suite), folders, root)
    if options.workers:
        return _simulate(options, plans, folders)
    if options.json:
        printing.rows([as_plain(price) for price in found], "learners", as_json=True)
    else:
        printing.prices(found)
    return 0


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as in 1,8,64, found '{text}'") from None


def _simulate(options: argparse.Namespace, plans: list[Plan], folders: Sequence[Path]) -> int:
    from vsml_bench import api, printing
    from vsml_bench.evaluation.makespan import longest_chain, makespan, missing_work

    speeds, done = api.speeds(options.suite, options.gpu, options.scale)
    work, unknown = missing_work(plans, speeds, folders, done)
    found = [makespan(work, workers) for workers in options.workers]
    printing.makespans(found, longest_chain(work), len(work), unknown, speeds.name, options.json)
    return 0
