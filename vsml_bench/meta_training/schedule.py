"""What each meta-update runs on: lifetimes, their length, and the learning rate."""

from __future__ import annotations

from math import cos, pi
from typing import NamedTuple

from vsml_bench.learner import Phase, Recipe


class Update(NamedTuple):
    """One meta-update of a recipe."""

    lifetimes: int  # E
    lifetime: int  # T, examples in each
    learning_rate: float


def at(recipe: Recipe, step: int) -> Update:
    """Meta-update `step`, counted from 0."""
    for phase in recipe.phases:
        if step < phase.steps:
            return Update(
                phase.lifetimes or recipe.lifetimes, phase.lifetime, _learning_rate(phase, step)
            )
        step -= phase.steps
    raise IndexError("the recipe has no such step")


def _learning_rate(phase: Phase, step: int) -> float:
    if phase.final_learning_rate is None:
        return phase.learning_rate
    progress = step / max(1, phase.steps - 1)
    span = phase.learning_rate - phase.final_learning_rate
    return phase.final_learning_rate + span * (1 + cos(pi * progress)) / 2
