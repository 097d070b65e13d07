from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vsml_bench.data.builtin import POINTS
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import PartitionName, TaskDistribution


def sample(
    name: str,
    partition: PartitionName = "train",
    lifetimes: int = 4,
    steps: int = 200,
    **fields: int,
) -> Episode:
    sampler = EpisodeSampler(TaskDistribution((name,), partition, **fields))  # type: ignore[arg-type]
    assert sampler.max_steps is None
    return sampler.sample(list(range(lifetimes)), steps)


def points_of(episode: Episode, lifetime: int) -> dict[bytes, set[int]]:
    """Point -> labels that it was seen with."""
    points: dict[bytes, set[int]] = {}
    for x, y in zip(episode.inputs[:, lifetime], episode.labels[:, lifetime], strict=True):
        points.setdefault(x.numpy().tobytes(), set()).add(int(y))
    return points


def test_random_revisits_twenty_points_with_fixed_labels() -> None:
    episode = sample("random", steps=400)
    assert episode.inputs.shape == (400, 4, 1, 28, 28)
    for lifetime in range(4):
        points = points_of(episode, lifetime)
        assert len(points) == POINTS == 20
        assert all(len(labels) == 1 for labels in points.values())


def test_random_visits_every_point_once_a_pass_in_an_order_that_changes() -> None:
    episode = sample("random", steps=200, size=4)
    for lifetime in range(4):
        seen = [x.numpy().tobytes() for x in episode.inputs[:, lifetime]]
        passes = [tuple(seen[start : start + POINTS]) for start in range(0, 200, POINTS)]
        assert len(set(passes)) == len(passes) == 10
        assert all(set(points) == set(seen) and len(set(points)) == POINTS for points in passes)
    shorter = sample("random", steps=29, size=4)  # a pass that is cut short
    assert torch.equal(shorter.inputs, episode.inputs[:29])


def test_random_points_are_drawn_anew_for_each_task() -> None:
    episode = sample("random", steps=400)
    everything = set().union(*(points_of(episode, lifetime) for lifetime in range(4)))
    assert len(everything) == 4 * 20


def test_random_points_are_standard_normal_with_uniform_labels() -> None:
    episode = sample("random", lifetimes=100, steps=20, size=8)
    points = np.unique(episode.inputs.reshape(-1, 64).numpy(), axis=0)
    assert stats.kstest(points.ravel(), "norm").pvalue > 1e-3
    labels = [next(iter(v)) for e in range(100) for v in points_of(episode, e).values()]
    assert stats.chisquare(np.bincount(labels, minlength=10)).pvalue > 1e-3


def test_random_takes_any_number_of_classes() -> None:
    episode = sample("random", lifetimes=20, classes=3)
    assert set(episode.labels.flatten().tolist()) == {0, 1, 2}


def test_sum_sign_labels_are_the_sign_of_the_sum() -> None:
    episode = sample("sum_sign")
    sums = episode.inputs.double().flatten(2).sum(-1)
    assert torch.equal(episode.labels, (sums >= 0).long())
    assert 0.4 < episode.labels.double().mean() < 0.6
    single = sample("sum_sign", size=1)  # sums close to 0
    assert torch.equal(single.labels, (single.inputs.flatten(2).sum(-1) >= 0).long())


def test_sum_sign_pixels_are_truncated_normal_around_a_uniform_mean() -> None:
    episode = sample("sum_sign", lifetimes=4, steps=500, size=32)
    images = episode.inputs.reshape(2000, -1).double().numpy()
    means = images.mean(1)  # of 1,024 pixels: within about 0.03 of the example's own mean
    assert stats.kstest(means, "uniform", args=(-1, 2)).pvalue > 1e-3
    assert np.abs(images - means[:, None]).max() < 2.2
    pooled = (images - means[:, None])[:, ::97].ravel()
    assert pooled.std() == pytest.approx(stats.truncnorm(-2, 2).std(), rel=0.02)


def test_sum_sign_has_two_classes_by_definition() -> None:
    with pytest.raises(VsmlBenchError, match="2 classes by definition"):
        sample("sum_sign", classes=3)
    assert sample("sum_sign", classes=2).labels.max() == 1


@pytest.mark.parametrize("name", ["random", "sum_sign"])
def test_size_is_generated_not_resized(name: str) -> None:
    episode = sample(name, size=6, lifetimes=50)
    assert episode.inputs.shape[2:] == (1, 6, 6)
    assert 0.7 < float(episode.inputs.std()) < 1.3  # averaging areas of 28x28 would shrink it


@pytest.mark.parametrize("name", ["random", "sum_sign"])
def test_partitions_are_independent_streams(name: str) -> None:
    train, test = sample(name, "train"), sample(name, "test")
    assert not torch.equal(train.inputs, test.inputs)
    shared = set(points_of(train, 0)) & set(points_of(test, 0))
    assert not shared


@pytest.mark.parametrize("name", ["random", "sum_sign"])
def test_subsets_are_independent_streams(name: str) -> None:
    side = TaskDistribution((name,), "train", size=4)
    episodes = [
        EpisodeSampler(side, subset=subset).sample([7], 50)
        for subset in ("all", "fit", "validation")
    ]
    seen = [set(points_of(episode, 0)) for episode in episodes]
    assert not seen[0] & seen[1] and not seen[1] & seen[2] and not seen[0] & seen[2]
