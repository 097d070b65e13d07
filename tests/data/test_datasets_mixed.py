"""Task distributions of several datasets, whose tasks differ in their number of classes."""

from __future__ import annotations

import dataclasses

import pytest

from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.sides import TaskDistribution


@pytest.mark.parametrize("diversity", [0, 1, 2, 7])
def test_datasets_with_other_classes_are_sampled_apart_and_their_tasks_stay(diversity: int) -> None:
    names = ("digits", "sum_sign", "random")
    side = TaskDistribution(
        names, "train", size=8, projection=0.5, label_permutation=True, diversity=diversity
    )
    whole = EpisodeSampler(side)
    parts = whole.by_classes()
    assert [part.shape.classes for part in parts] == {1: [10], 2: [2, 10]}.get(
        diversity, [2, 10, 10]
    )
    for part in parts:
        seen = part.sample(range(12), 5).labels
        assert int(seen.max()) < part.shape.classes
    (two, *_) = parts
    if diversity == 7:  # tasks 1 and 4 are those of sum_sign: 2 draws, projected or not
        tasks = {index for index in range(7) if index % 3 == 1}
        assert {two._task(drawn) for drawn in range(20)} == tasks
    alone = EpisodeSampler(dataclasses.replace(side, datasets=("digits", "random")))
    assert alone.by_classes() == [alone]


def test_the_tasks_of_a_part_are_those_that_the_mixture_has() -> None:
    """Points of `random` belong to the task, so that they show which tasks were met."""
    side = TaskDistribution(("random", "sum_sign"), "train", size=4, diversity=4)
    whole = EpisodeSampler(side)
    (_, part) = whole.by_classes()

    def points(sampler: EpisodeSampler) -> set[bytes]:
        inputs = sampler.sample(range(30), 20).inputs
        return {x.numpy().tobytes() for x in inputs.flatten(0, 1)}

    assert len(points(part)) == 2 * 20
    assert points(part) <= points(whole)
