"""`introspect`: pictures of how a learner learns."""

from __future__ import annotations

import argparse
import json

from vsml_bench.verbs.options import COUNT, LEARNER, PATH, SEED, add_shared, command_line, named


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--learner", required=True, **PATH, help=LEARNER)
    parser.add_argument("--split", required=True, **PATH, help="whose meta-test side is learned")
    parser.add_argument("--seed", **SEED, default=0, help="of its meta-training")
    parser.add_argument("--lifetimes", **COUNT, help="(default: the suite introspection's)")
    parser.add_argument("--steps", **COUNT, help="of a lifetime (default: likewise)")
    folder = "folder (default: %(default)s)"
    parser.add_argument("--out", default="runs/introspect", **PATH, help=folder)
    add_shared(parser, "--jobs", "--quiet", "--data-root", "--device", "--json")


def run(options: argparse.Namespace) -> int:
    """`introspect`: pictures of how a learner learns, and the data behind them."""
    from vsml_bench.studies.introspection.look import introspect

    given = ("learner", "split", "seed", "lifetimes", "steps", "out", "data_root", "device", "jobs")
    chosen = named(options, *given)
    progress = not (options.quiet or options.json)
    written = introspect(**chosen, progress=progress, command=command_line())
    if options.json:
        print(json.dumps({"paths": [str(path) for path in written]}))
    else:
        print(*written, sep="\n")
    return 0
