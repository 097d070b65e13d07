"""Lifetime length and learning rate at each meta-update."""

from __future__ import annotations

from math import cos, pi

from vsml_bench.learner import Recipe


def at(recipe: Recipe, step: int) -> tuple[int, float]:
    """(lifetime, learning rate) of meta-update `step`, counted from 0."""
    for phase in recipe.phases:
        if step < phase.steps:
            if phase.final_learning_rate is None:
                return phase.lifetime, phase.learning_rate
            progress = step / max(1, phase.steps - 1)
            span = phase.learning_rate - phase.final_learning_rate
            return phase.lifetime, phase.final_learning_rate + span * (1 + cos(pi * progress)) / 2
        step -= phase.steps
    raise IndexError("the recipe has no such step")
