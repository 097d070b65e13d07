"""Learners as the harness runs them."""

from __future__ import annotations

import torch

from vsml_bench.acceleration import Runner, accelerate
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner

CPU = Execution(torch.device("cpu"), 1)


def on_cpu(learner: Learner, steps: int = 0) -> Runner:
    """The learner's runner for so many steps on a CPU."""
    return accelerate(learner, CPU, steps)
