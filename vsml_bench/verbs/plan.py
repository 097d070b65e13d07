"""`plan`: what a suite would cost."""

from __future__ import annotations

import argparse

from vsml_bench.verbs.options import add_selection, add_shared, selection


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_selection(parser)
    add_shared(parser, "--data-root", "--json")


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
    if options.json:
        printing.rows([as_plain(price) for price in found], "learners", as_json=True)
    else:
        printing.prices(found)
    return 0
