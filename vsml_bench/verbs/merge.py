"""`merge`: results of several folders in one."""

from __future__ import annotations

import argparse
import json

from vsml_bench.verbs.options import PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    folders = "folders with cells/ and checkpoints/, as `run --out` writes them"
    parser.add_argument("folders", nargs="+", metavar="DIR", **PATH, help=folders)
    parser.add_argument("--out", required=True, **PATH, help="folder that gets all of it")


def run(options: argparse.Namespace) -> int:
    """`merge`: every record verified, and conflicts named."""
    from dataclasses import asdict
    from pathlib import Path

    from vsml_bench.evaluation.merging import merge

    merged = merge([Path(folder) for folder in options.folders], Path(options.out))
    if options.json:
        print(json.dumps(asdict(merged), indent=1))
    else:
        for file, problem in merged.problems.items():
            print(f"{file}: {problem}")
        for file in merged.given_way:
            print(f"{file}: its failure gives way to what another folder has.")
        print(
            f"Nothing was written, since {len(merged.problems)} files cannot be merged."
            if merged.problems
            else f"{options.out} has {merged.cells} cells and {merged.artifacts} checkpoints or "
            f"tuning records; {merged.written} of these files are new."
        )
    return 1 if merged.problems else 0
