"""Scores one meta-trained initialisation through our MAML and through learn2learn's, on the same
pinned episodes of a suite.

python tools/compare_with_learn2learn.py [--suite omniglot] [--split omniglot-small] [--seed 0]
    [--learner maml-conv] [--episodes 400] [--artifacts FOLDER]

Exits 1 where the two accuracies differ by more than one point.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from vsml_bench import api
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.worker import prepare
from vsml_bench.execution import decide
from vsml_bench.paths import results
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.registry import find_learner

PAIRS = {"maml-conv": "maml-conv-learn2learn", "maml": "maml-learn2learn"}
POINT = 0.01


def compare(plan: Plan, folder: Path, episodes: int) -> tuple[float, float, int, int]:
    """Our accuracy, learn2learn's, how many predictions are right in one of them only, and of how
    many.

    VsmlBenchError where `folder` has no checkpoint for the plan, or without data or learn2learn.
    """
    found = prepare(plan, (folder,), None)
    learner = found.learner.learner
    reference = find_learner(PAIRS[plan.learner]).create()
    reference.load_state_dict(learner.state_dict())
    protocol = plan.protocol.instance().fitted(found.sampler)
    seeds, execution = found.seeds[:episodes], decide("cpu")
    ours, theirs = (
        evaluate(one, found.sampler, seeds, protocol, execution, plan.job.seed).correct
        for one in (learner, reference)
    )
    return ours.mean(), theirs.mean(), int(np.sum(ours != theirs)), ours.size


def main() -> int:
    """Prints both accuracies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--suite", default="omniglot")
    parser.add_argument("--split", default="omniglot-small")
    parser.add_argument("--learner", default="maml-conv", choices=PAIRS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--artifacts", type=Path, default=results() / "checkpoints")
    options = parser.parse_args()
    if options.episodes < 1:
        parser.error(f"--episodes: expected at least 1, found {options.episodes}")
    try:
        (plan,) = api.plan(
            options.suite,
            splits=[options.split],
            learners=[options.learner],
            seeds=[options.seed],
        )
        ours, theirs, differing, count = compare(plan, options.artifacts, options.episodes)
    except VsmlBenchError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{plan}: {100 * ours:.2f} %, through learn2learn {100 * theirs:.2f} %; {differing} of "
        f"{count} predictions are right in one of them only"
    )
    return 0 if abs(ours - theirs) <= POINT else 1


if __name__ == "__main__":
    sys.exit(main())
