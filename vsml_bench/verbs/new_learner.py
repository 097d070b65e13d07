"""`new-learner`: a learner that runs, to start from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vsml_bench.verbs.options import PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    parser.add_argument("name", help="its name on the board, such as fading-mean")
    parser.add_argument(
        "--out", **PATH, help="the file to write (default: NAME.py, with underscores)"
    )
    parser.add_argument("--meta", action="store_true", help="one that is meta-trained")


def run(options: argparse.Namespace) -> int:
    """`new-learner`: write a template with the names put in."""
    from vsml_bench.new_learner import write_new_learner

    out = Path(options.out) if options.out else None
    path = write_new_learner(options.name, out, options.meta)
    if options.json:
        print(json.dumps({"path": str(path)}))
        return 0
    print(
        f"{path} is written. See whether it keeps the contract, and run it:\n"
        f"  vsml-bench check {path}\n"
        f"  vsml-bench run --suite smoke --add-learner {path}\n"
        f"  vsml-bench leaderboard --suite smoke --add-learner {path}"
    )
    return 0
