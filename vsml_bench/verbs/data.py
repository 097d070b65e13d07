"""`data`: the datasets of this machine, and `data fetch`."""

from __future__ import annotations

import argparse
import json
import sys

from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--data-root", "--json")
    verbs = parser.add_subparsers(dest="data_verb", metavar="fetch")
    fetching = verbs.add_parser("fetch", help="bring datasets into the data root")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.add_argument("--data-root", dest="fetch_root", **PATH, help="where they go")
    lenient = "exit 0 even where one cannot be had"
    fetching.add_argument("--best-effort", action="store_true", help=lenient)


def run(options: argparse.Namespace) -> int:
    """`data` and `data fetch`."""
    from vsml_bench import printing
    from vsml_bench.data import datasets
    from vsml_bench.data.fetch import fetch

    if options.data_verb != "fetch":
        printing.rows(printing.dataset_rows(options.data_root), "datasets", options.json)
        return 0
    root = datasets.data_root(options.fetch_root or options.data_root)
    to = sys.stderr if options.json else sys.stdout
    here: dict[str, bool] = {}
    for name in options.names:
        here[name] = not datasets.status(name, root).reason
        if here[name]:
            print(f"{name}: already here", file=to)
            continue
        try:
            source = datasets.find(name).source
            folder = fetch(source, root, lambda line: print(line, flush=True, file=to))
            here[name] = True
            print(f"{name}: fetched into {folder}", file=to)
        except VsmlBenchError as error:
            print(f"vsml-bench: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"here": here}))
    return 0 if all(here.values()) or options.best_effort else 1
