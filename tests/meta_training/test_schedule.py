"""Lifetime and learning rate of each meta-update, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from vsml_bench.learner import Phase, Recipe
from vsml_bench.meta_training.schedule import at, beginnings, phase_starts

RECIPE = Recipe(
    phases=(
        Phase(steps=2, lifetime=10, learning_rate=0.5, classes=3),
        Phase(steps=5, lifetime=30, learning_rate=0.8, final_learning_rate=0.2),
        Phase(1, 40, 0.3, final_learning_rate=0.1, fresh_optimizer=True, lifetimes=4),
    ),
    lifetimes=16,
)
# A half cosine from 0.8 to 0.2 in five updates: 0.2 + 0.6 * (1 + cos(k pi / 4)) / 2, and
# cos is 1, sqrt(1/2), 0, -sqrt(1/2), -1.
SLOPE = [0.8, 0.5 + 0.3 * math.sqrt(0.5), 0.5, 0.5 - 0.3 * math.sqrt(0.5), 0.2]


def test_every_update_by_hand() -> None:
    expected = [(10, 0.5), (10, 0.5), *((30, rate) for rate in SLOPE), (40, 0.3)]
    found = [at(RECIPE, step) for step in range(RECIPE.steps)]
    assert [u.lifetime for u in found] == [lifetime for lifetime, _ in expected]
    rates = [u.learning_rate for u in found]
    assert rates == pytest.approx([rate for _, rate in expected], abs=1e-15)
    assert [u.lifetimes for u in found] == [16] * 7 + [4]
    assert [u.fresh_optimizer for u in found] == [False] * 7 + [True]
    assert [u.classes for u in found] == [3] * 2 + [None] * 6
    assert list(phase_starts(RECIPE)) == [found[0], found[2], found[7]]


def test_what_a_recipe_can_take_up() -> None:
    assert [shorter.phases for shorter in beginnings(RECIPE)] == [RECIPE.phases[:2]]


def test_what_a_recipe_costs() -> None:
    assert RECIPE.examples == 16 * (2 * 10 + 5 * 30) + 4 * 40


def test_a_slope_may_rise() -> None:
    rising = Recipe(phases=(Phase(3, 10, learning_rate=0.1, final_learning_rate=0.3),))
    assert [at(rising, step).learning_rate for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_a_final_rate_of_zero_is_a_rate() -> None:
    fading = Recipe(phases=(Phase(3, 10, learning_rate=0.2, final_learning_rate=0.0),))
    assert [at(fading, step).learning_rate for step in range(3)] == pytest.approx([0.2, 0.1, 0.0])


def test_there_is_nothing_after_the_last_phase() -> None:
    assert RECIPE.steps == 8
    with pytest.raises(IndexError):
        at(RECIPE, 8)
