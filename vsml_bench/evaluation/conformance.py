"""A quick look at a learner before any work: does one step give what the contract says?"""

from __future__ import annotations

from vsml_bench.contract.forms import exercise, usual_shapes
from vsml_bench.contract.time_limit import time_limit
from vsml_bench.registry import LearnerEntry

SECONDS = 60.0


def probe(entry: LearnerEntry) -> None:
    """Runs two steps on made-up data; VsmlBenchError, naming learner and method, where shapes,
    dtypes or the state are not as the contract says, or a method fails or does not end. All else
    that the contract says is looked at by `vsml-bench check`."""
    where = f"learner '{entry.name}' ({entry.origin})"
    with time_limit(SECONDS, f"{where}: two steps on made-up data"):
        learner = entry.create(seed=0)
        for shape in usual_shapes(learner):
            exercise(learner, shape, where)
