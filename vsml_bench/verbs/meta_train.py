"""`meta-train`: a checkpoint or a tuning record."""

from __future__ import annotations

import argparse
import json

from vsml_bench.verbs.options import (
    ASSIGNMENT,
    COUNT,
    LEARNER,
    PATH,
    SEED,
    add_shared,
    assignments,
    command_line,
    named,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    split = "whose meta-train side is trained on, where the recipe is for tasks"
    parser.add_argument("--split", **PATH, help=split)
    parser.add_argument("--learner", required=True, **PATH, help=LEARNER)
    parser.add_argument("--seed", **SEED, default=0)
    parser.add_argument("--suite", **PATH, help="use this suite's protocol and recipe")
    parser.add_argument(
        "--engine",
        choices=("bptt", "es"),
        help="backpropagation through time or evolution strategies (default: the recipe's)",
    )
    change = "a field of the learner's configuration to change, value as in TOML"
    parser.add_argument("--set", **ASSIGNMENT, help=change)
    change = "a field of the recipe to change, value as in TOML"
    parser.add_argument("--recipe", **ASSIGNMENT, help=change)
    folder = "folder (default: %(default)s)"
    parser.add_argument("--out", default="runs/checkpoints", **PATH, help=folder)
    parser.add_argument("--threads", **COUNT, help="CPU threads (default: PyTorch's choice)")
    add_shared(parser, "--data-root", "--device", "--quiet", "--json")


def run(options: argparse.Namespace) -> int:
    """`meta-train`: make a checkpoint or a tuning record."""
    from vsml_bench import api
    from vsml_bench.meta_training.peers import Peers

    recipe = assignments(options.recipe)
    if options.engine:
        recipe["engine"] = options.engine
    given = ("learner", "seed", "suite", "out", "data_root", "device", "threads")
    path = api.meta_train(
        options.split or "",
        **named(options, *given),
        recipe=recipe,
        overrides=assignments(options.set),
        progress=not (options.quiet or options.json),
        command=command_line(),
    )
    if Peers.of_environment().leads:  # the others have made nothing
        print(json.dumps({"path": str(path)}) if options.json else path)
    return 0
