"""`cite`: BibTeX for the software and a board."""

from __future__ import annotations

import argparse
import json

from vsml_bench import __version__
from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    parser.add_argument("--suite", **PATH, help="the published board to cite")


def run(options: argparse.Namespace) -> int:
    """`cite`: BibTeX for the software, and the published board's hash."""
    from vsml_bench import paths, suites
    from vsml_bench.provenance import git_state

    commit, dirty = git_state()
    note = f"version {__version__}"
    if commit:
        note += f", commit {commit[:12]}{' with local changes' if dirty else ''}"
    if options.suite:
        suite = suites.find_suite(options.suite).name
        path = paths.results() / suite / "board.json"
        if not path.is_file():
            raise VsmlBenchError(f"suite '{suite}' has no published board to cite.")
        note += f"; board '{suite}', hash {json.loads(path.read_text())['board_hash']}"
    title = "vsml-bench: a benchmark of meta-learned learning algorithms"
    fields = {"title": title, "author": "{vsml-bench contributors}", "year": "2026", "note": note}
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    bibtex = ",\n".join(["@software{vsml_bench", *lines]) + "\n}"
    print(json.dumps({"bibtex": bibtex}) if options.json else bibtex)
    return 0
