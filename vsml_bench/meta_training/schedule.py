"""What each meta-update runs on: lifetimes, their length, and the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import cos, pi
from typing import NamedTuple

from vsml_bench.recipes import ES, Phase, Recipe


class Update(NamedTuple):
    """One meta-update of a recipe."""

    lifetimes: int  # E; of evolution strategies with own lifetimes, those of all pairs together
    lifetime: int  # T, examples in each
    learning_rate: float
    fresh_optimizer: bool  # whether Adam forgets its moments before it
    classes: int | tuple[int, ...] | None  # of its tasks, where not the split's
    fixed_labels: float  # share of lifetimes whose labels are not permuted
    sizes: tuple[int, ...]  # of its images, where not the recipe's


def at(recipe: Recipe, step: int) -> Update:
    """Meta-update `step`, counted from 0."""
    engine = recipe.engine
    shares = engine.pairs if isinstance(engine, ES) and engine.own_lifetimes else 1
    for phase in recipe.phases:
        if step < phase.steps:
            return Update(
                lifetimes=shares * (phase.lifetimes or recipe.lifetimes),
                lifetime=phase.lifetime,
                learning_rate=_learning_rate(phase, step),
                fresh_optimizer=phase.fresh_optimizer and step == 0,
                classes=phase.classes,
                fixed_labels=phase.fixed_labels * (1 - step / phase.steps),
                sizes=phase.sizes,
            )
        step -= phase.steps
    raise IndexError("the recipe has no such step")


def phase_starts(recipe: Recipe) -> Iterator[Update]:
    """The first meta-update of each phase."""
    step = 0
    for phase in recipe.phases:
        yield at(recipe, step)
        step += phase.steps


def beginnings(recipe: Recipe) -> Iterator[Recipe]:
    """Shorter recipes whose finished training this one can take up, the longest first: those that
    end where the optimiser starts afresh."""
    for count in reversed(range(1, len(recipe.phases))):
        if recipe.phases[count].fresh_optimizer:
            yield replace(recipe, phases=recipe.phases[:count])


def _learning_rate(phase: Phase, step: int) -> float:
    if phase.final_learning_rate is None:
        return phase.learning_rate
    progress = step / max(1, phase.steps - 1)
    span = phase.learning_rate - phase.final_learning_rate
    return phase.final_learning_rate + span * (1 + cos(pi * progress)) / 2
