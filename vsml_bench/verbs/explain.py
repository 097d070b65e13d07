"""`explain`: everything recorded about one thing."""

from __future__ import annotations

import argparse
from pathlib import Path

from vsml_bench.verbs.options import PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    parser.add_argument("what", **PATH, help="a name, or the path of a cell or a checkpoint")


def run(options: argparse.Namespace) -> int:
    """`explain`: everything recorded about one thing."""
    from vsml_bench import cards, paths, printing, suites
    from vsml_bench.config import as_plain
    from vsml_bench.evaluation.cell import load_cell

    what, text = options.what, ""
    record = what.endswith(".json") and Path(what).parent.name == "checkpoints"
    if record or what.endswith(".safetensors"):
        from vsml_bench.meta_training.checkpoint import load_artifact

        artifact = load_artifact(Path(what))
        shown = {**artifact.document, "sha256": artifact.sha256}
    elif what.endswith(".json"):
        cell = load_cell(Path(what))
        origin = as_plain(cell.provenance)
        origin["seeds"] = {k: v for k, v in origin["seeds"].items() if k != "meta_test"}
        status = {"status": cell.status, "reason": cell.reason}
        said = {"external_data": cell.plan.job.learner.external_data or None}
        found = {**status, "score": printing.score(cell) or None}
        shown = {**printing.place(cell.plan), **found, **cell.identity, **said, **origin}
    elif what in suites.suite_names() or suites.is_suite_file(what):
        shown = as_plain(suites.find_suite(what))
    elif what in suites.split_names() or paths.parts(what)[0].endswith(".toml"):
        shown = as_plain(suites.find_split(what))
    else:
        card = cards.find_one(what)
        of = printing.learner_row(card)
        said = {"external_data": card.external_data or None}
        shown = {**of, **said, "version": card.version, "config": card.config}
        text = card.doc
    if options.json and text:
        shown["doc"] = text
    printing.mapping(shown, options.json)
    if text and not options.json:
        print(f"\n{text}")
    return 0
