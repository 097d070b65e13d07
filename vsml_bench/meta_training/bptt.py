"""Meta-gradients by backpropagation through a whole lifetime."""

from __future__ import annotations

from vsml_bench.learner import Learner
from vsml_bench.meta_training.source import MetaGradient, Objective


def meta_gradient(learner: Learner, objective: Objective) -> MetaGradient:
    """Sets `.grad` of every meta-parameter that the meta-loss depends on; the others' stays
    None."""
    learner.zero_grad(set_to_none=True)
    outcome = objective(learner)
    outcome.loss.backward()
    return MetaGradient(outcome.loss.item(), outcome.accuracy.item())
