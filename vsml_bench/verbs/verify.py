"""`verify`: stored records against their hashes, and replayed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import COUNT, PATH, add_shared, named


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--jobs", "--data-root", "--json")
    folder = "folder of results (default: what is published)"
    parser.add_argument("folder", nargs="?", default=str(paths.results()), **PATH, help=folder)
    parser.add_argument(
        "--replay",
        nargs="?",
        **COUNT,
        const=1,
        metavar="N",
        help="also run N lifetimes of each cell (default: 1) and the first updates of each "
        "meta-training again, with today's code and data, and compare",
    )
    parser.add_argument("--steps", **COUNT, help="of each lifetime that is replayed")
    keep = (
        "with --replay: keep in replays.json which records replay, as it goes; pages show it as a "
        "badge of cells, and the same commit, with whatever packages, skips them the next time"
    )
    parser.add_argument("--keep", action="store_true", help=keep)
    adopt = "with --replay: file stale records that replay under today's identity"
    parser.add_argument("--adopt", action="store_true", help=adopt)


def run(options: argparse.Namespace) -> int:
    """`verify`: every stored record against its own SHA-256 and the other records and, with
    --replay, against what today's code gives."""
    from vsml_bench import printing
    from vsml_bench.evaluation import integrity, verification
    from vsml_bench.evaluation.executors import LocalExecutor

    folder = Path(options.folder)
    good, bad = integrity.damaged(folder)
    reports: Sequence[Mapping[str, Any]] = ()
    known: Collection[Path] = ()
    root = Path(options.data_root) if options.data_root else None
    if options.adopt and options.replay is None:
        raise VsmlBenchError("--adopt: only what replays is adopted; add --replay.")
    if options.keep and (options.adopt or options.replay is None):
        raise VsmlBenchError("--keep: of a replay, and of no adoption; give it with --replay.")
    if options.steps is not None and (options.adopt or options.replay is None):
        raise VsmlBenchError("--steps: shortens a replay, and no adoption; give it with --replay.")
    if options.replay is not None and not bad:
        executor = LocalExecutor(options.jobs, not options.json)
        if options.keep:
            known = verification.kept(folder, options.replay, options.steps)
        chosen = {"lifetimes": options.replay, **named(options, "steps", "adopt"), "skip": known}
        found = verification.replay(folder, executor, root, **chosen)
        found = verification.keeping(folder, found) if options.keep else found
        reports = sorted(found, key=lambda report: str(report["file"]))
    if options.json:
        before = {"replayed_before": len(known)} if options.keep else {}
        document = {"intact": good, "damaged": bad, "replayed": list(reports), **before}
        print(json.dumps(document, indent=1))
    else:
        printing.damage(good, bad)
        if options.replay is not None and bad:
            print("Nothing was replayed, since files are damaged; remove or restore them first.")
        elif options.replay is not None:
            printing.replays(reports, len(known))
    return 1 if bad or any(report["reason"] for report in reports) else 0
