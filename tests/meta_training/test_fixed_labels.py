"""Phases that begin with lifetimes whose labels are not permuted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vsml_bench import cards
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Phase, Recipe
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.lifetimes import TaskLifetimes
from vsml_bench.meta_training.loop import meta_train
from vsml_bench.meta_training.objective import Lifetimes
from vsml_bench.meta_training.schedule import at
from vsml_bench.registry import entry_of
from vsml_bench.sides import TaskDistribution

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
SIDE = TaskDistribution(("digits",), "train", size=4, projection=0.5, label_permutation=True)
LIFETIMES, T = 60, 5


def job(fixed_labels: float, side: TaskDistribution = SIDE) -> Job:
    phases = (Phase(4, T, 0.01, fixed_labels=fixed_labels), Phase(4, T, 0.01))
    return Job(cards.find_one("vsml"), side, 0, Recipe(phases, LIFETIMES, validation_lifetimes=1))


def update(given: Job, step: int) -> Lifetimes:
    assert given.recipe is not None
    learner = entry_of(given.learner).create(0)
    source = TaskLifetimes(given, given.recipe, learner, EXECUTION, None)
    return source.objective(at(given.recipe, step), step)


def as_of(side: TaskDistribution, lifetimes: Lifetimes) -> Episode:
    return EpisodeSampler(side, subset="fit").sample(lifetimes.seeds, T)


def same(one: Episode, other: Episode) -> torch.Tensor:
    """Which lifetimes are the same [E]."""
    labels = (one.labels == other.labels).all(0)
    return labels & (one.inputs == other.inputs).flatten(2).all(2).all(0)


def test_the_share_falls_along_a_line() -> None:
    recipe = job(0.8).recipe
    assert recipe is not None
    shares = [at(recipe, step).fixed_labels for step in range(recipe.steps)]
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0])


def test_all_lifetimes_half_of_them_and_none() -> None:
    as_labelled = replace(SIDE, label_permutation=False)
    given = job(1.0)
    for step, fewest, most in ((0, 60, 60), (2, 15, 45), (4, 0, 0)):
        lifetimes = update(given, step)
        fixed = same(lifetimes.episode, as_of(as_labelled, lifetimes))
        permuted = same(lifetimes.episode, as_of(SIDE, lifetimes))
        assert (fixed | permuted).all()
        assert fewest <= fixed.sum() <= most
        assert 60 - most <= permuted.sum() <= 60 - fewest


def test_processes_that_share_an_update_meet_the_same_lifetimes() -> None:
    lifetimes = update(job(1.0), 2)
    parts = [lifetimes.share(first, 1, 3).episode.labels for first in range(3)]
    assert torch.equal(torch.cat(parts, 1), lifetimes.episode.labels)


def test_a_recipe_without_it_is_filed_as_before_there_was_one() -> None:
    assert "fixed_labels" not in str(job(0.0).identity())
    assert job(0.0).key != job(0.9).key


def test_what_is_no_share_and_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VsmlBenchError, match=r"phases\[0\].fixed_labels: .* from 0 to 1, found 2"):
        job(2.0)
    with pytest.raises(VsmlBenchError, match="fixed_labels: has no effect with `source`"):
        Recipe((Phase(1, T, 0.01, fixed_labels=0.5),), source="a.module:Clones")
    with pytest.raises(VsmlBenchError, match=r"fixed_labels has no effect, since .* permutes no"):
        given = job(0.5, replace(SIDE, label_permutation=False))
        meta_train(given, tmp_path, EXECUTION, progress=False)
    assert not list(tmp_path.glob("*.safetensors"))
