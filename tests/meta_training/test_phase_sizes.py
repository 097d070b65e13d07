"""Phases whose meta-updates each draw a size of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vsml_bench import cards
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.plan import plan_job
from vsml_bench.execution import Execution
from vsml_bench.learner import Phase, Recipe
from vsml_bench.meta_training.job import Job, trained_side
from vsml_bench.meta_training.lifetimes import TaskLifetimes
from vsml_bench.meta_training.loop import Training
from vsml_bench.meta_training.schedule import at
from vsml_bench.registry import entry_of
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
SIDE = TaskDistribution(("random",), "train", projection=0.5)
T = 5


def job(sizes: tuple[int, ...], side: TaskDistribution = SIDE, learner: str = "vsml") -> Job:
    phases = (Phase(2, T, 0.01), Phase(20, T, 0.01, sizes=sizes))
    recipe = Recipe(phases, lifetimes=2, size=8, validation_lifetimes=1)
    return Job(cards.find_one(learner), side, 0, recipe)


def source(given: Job) -> tuple[Recipe, TaskLifetimes]:
    assert given.recipe is not None
    learner = entry_of(given.learner).create(0)
    return given.recipe, TaskLifetimes(given, given.recipe, learner, EXECUTION, None)


def test_each_update_draws_a_size_and_meets_the_tasks_of_that_size() -> None:
    recipe, lifetimes = source(job((3, 4, 6)))
    found = []
    for step in range(recipe.steps):
        objective = lifetimes.objective(at(recipe, step), step)
        inputs = objective.episode.inputs
        size = inputs.shape[-1]
        expected = EpisodeSampler(replace(SIDE, size=size), subset="fit").sample(objective.seeds, T)
        assert torch.equal(inputs, expected.inputs)
        assert objective.fresh_states(lifetimes._learner).layers[0].hidden.shape[2] == size**2
        found.append(size)
    assert found[:2] == [8, 8]
    assert set(found[2:]) == {3, 4, 6}


def test_validation_keeps_the_size_of_the_recipe() -> None:
    _, lifetimes = source(job((3,)))
    assert lifetimes._validation.shape.inputs == (1, 8, 8)
    assert torch.isfinite(torch.tensor(lifetimes.validate().loss))


def test_a_training_goes_through_both_phases(tmp_path: Path) -> None:
    given = job((3, 4))
    assert given.recipe is not None
    training = Training(given, given.recipe, tmp_path, EXECUTION, None, "")
    before = [p.detach().clone() for p in training.learner.parameters()]
    losses = [training.update(step) for step in range(given.recipe.steps)]
    assert all(torch.isfinite(torch.tensor(losses)))
    after = training.learner.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_recipe_without_it_is_filed_as_before_there_was_one() -> None:
    without, with_sizes = (job(sizes).identity()["recipe"]["phases"] for sizes in ((), (3,)))
    assert [("sizes" in phase) for phase in without] == [False, False]
    assert [("sizes" in phase) for phase in with_sizes] == [False, True]
    assert job(()).key != job((3,)).key


def test_what_has_no_effect_or_cannot_be_is_refused() -> None:
    with pytest.raises(VsmlBenchError, match=r"phases\[1\].sizes: expected .* found 0"):
        job((4, 0))
    with pytest.raises(VsmlBenchError, match="sizes: has no effect with `source`"):
        Recipe((Phase(1, T, 0.01, sizes=(4,)),), source="a.module:Clones")
    with pytest.raises(VsmlBenchError, match=r"sizes of its own, \[4, 5\]; leave those of phases"):
        trained_side(job((3,), replace(SIDE, sizes=(4, 5))))
    with pytest.raises(VsmlBenchError, match=r"sizes = \[3, 5\] needs a learner that takes any"):
        fixed = job((3, 5), learner="meta-rnn")
        assert fixed.recipe is not None
        trained_side(replace(fixed, recipe=replace(fixed.recipe, size=None)))
    card = cards.find_one("vsml")
    with pytest.raises(VsmlBenchError, match=r"phases\[1\].sizes: size x size: expected at most"):
        given = job((10**6,)).recipe
        assert given is not None
        plan_job(replace(card, recipe=given), SIDE, 0, Suite("", "", ()), {"vsml": [card]})
