"""`plan`: what a suite would cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import COUNT, PATH, add_selection, add_shared, duration, selection

if TYPE_CHECKING:
    from vsml_bench.evaluation.plan import Plan


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_selection(parser)
    add_shared(parser, "--data-root", "--json")
    within = "say which cells narrow intervals most within this time of one core, such as 30m"
    parser.add_argument("--budget", type=duration, metavar="TIME", help=within)
    pair = "with --budget: the interval of the difference of these two learners"
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), default=[], **PATH, help=pair)
    workers = "also simulate how long so many workers would take, as in 1,8,64"
    parser.add_argument("--workers", type=_numbers, default=[], help=workers)
    parser.add_argument("--gpu", default="", help="workers are GPUs of this name, as in h200")


def run(options: argparse.Namespace) -> int:
    """`plan`: what a suite would cost, as far as its learners have been measured."""
    from vsml_bench import api, printing
    from vsml_bench.config import as_plain
    from vsml_bench.data import datasets
    from vsml_bench.evaluation.prices import prices

    if options.compare and options.budget is None:
        raise VsmlBenchError("--compare: says what a budget is spent on; add --budget.")
    if options.budget is not None:
        from vsml_bench.api.budgets import worth_running

        chosen = (options.suite, options.budget, options.compare, options.data_root)
        printing.spending(worth_running(*chosen, **selection(options)), options.json)
        return 0
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
    """As in 1,8,64."""
    return [COUNT["type"](number) for number in text.split(",")]


def _simulate(options: argparse.Namespace, plans: list[Plan], folders: Sequence[Path]) -> int:
    from vsml_bench import api, printing
    from vsml_bench.evaluation.makespan import longest_chain, makespan, missing_work

    speeds, done = api.speeds(options.suite, options.gpu, options.scale)
    work, unknown = missing_work(plans, speeds, folders, done)
    found = [makespan(work, workers) for workers in options.workers]
    printing.makespans(found, longest_chain(work), len(work), unknown, speeds.name, options.json)
    return 0
