"""Few-shot episodes: what is in them, what tells nothing, and what pins them."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import omniglot_files
from vsml_bench.data import datasets
from vsml_bench.data.dataset import subset_rows
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.transforms import rotate
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import TaskDistribution

pytestmark = pytest.mark.usefixtures("one_thread")

WAYS, SHOTS, QUERIES = 4, 2, 3
SUPPORT = WAYS * SHOTS


def side(name: str = "digits", **fields: Any) -> TaskDistribution:
    fields = {"partition": "test", "classes": WAYS, **fields}
    return TaskDistribution((name,), **fields)


def rows(inputs: torch.Tensor) -> list[bytes]:
    return [x.numpy().tobytes() for x in inputs]


@lru_cache(maxsize=1)
def true_labels() -> dict[bytes, int]:
    """Every example of the digits, as an episode shows it, and its label."""
    everything = EpisodeSampler(TaskDistribution(("digits",), "test")).sample([0], 1500)
    return dict(zip(rows(everything.inputs[:, 0]), everything.labels[:, 0].tolist(), strict=True))


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_support_and_queries_are_balanced_disjoint_and_named_consistently(seed: int) -> None:
    episode = EpisodeSampler(side()).sample_shots([seed], SHOTS, QUERIES)
    inputs, labels = episode.inputs[:, 0], episode.labels[:, 0]
    assert Counter(labels[:SUPPORT].tolist()) == dict.fromkeys(range(WAYS), SHOTS)
    assert Counter(labels[SUPPORT:].tolist()) == dict.fromkeys(range(WAYS), QUERIES)
    found = rows(inputs)
    assert len(set(found)) == len(found), "no example occurs twice"
    truth = true_labels()
    names = {(truth[row], label) for row, label in zip(found, labels.tolist(), strict=True)}
    assert len(names) == WAYS, "a class has one name, and a name one class"


def test_place_tells_nothing_and_names_are_drawn_anew() -> None:
    """Each label at each place, and each digit under each name, about equally often."""
    episodes = EpisodeSampler(side()).sample_shots(range(600), SHOTS, QUERIES)
    for place in range(len(episodes.labels)):
        counts = np.bincount(episodes.labels[place], minlength=WAYS)
        assert abs(counts - 150).max() < 60, (place, counts)  # 5.7 standard deviations
    truth = true_labels()
    pairs = Counter(
        (truth[row], int(label))
        for row, label in zip(rows(episodes.inputs[0]), episodes.labels[0], strict=True)
    )
    assert len(pairs) == 10 * WAYS and max(pairs.values()) < 40  # 15 expected


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=5, unique=True))
@settings(max_examples=10, deadline=None)
def test_an_episode_depends_on_its_seed_alone(seeds: list[int]) -> None:
    distribution = side("mnist5k", size=6, projection=0.5, pixel_shuffle=0.5, rotations=True)
    together = EpisodeSampler(distribution).sample_shots(seeds, SHOTS, QUERIES)
    apart = EpisodeSampler(distribution).sample_shots(seeds[:0:-1], SHOTS, QUERIES)
    assert torch.equal(apart.inputs, together.inputs[:, 1:].flip(1))
    assert torch.equal(apart.labels, together.labels[:, 1:].flip(1))
    assert not torch.equal(together.inputs[:, 0], together.inputs[:, 1])


def test_episodes_are_pinned() -> None:
    """Cells are run on these episodes; a change here makes all of them stale."""
    episode = EpisodeSampler(side()).sample_shots([0, 1], 1, 1)
    truth = true_labels()
    digits = [[truth[row] for row in rows(episode.inputs[:, e])] for e in range(2)]
    assert digits == PINNED_DIGITS
    assert episode.labels.T.tolist() == PINNED_LABELS


PINNED_DIGITS = [[6, 1, 3, 5, 3, 6, 1, 5], [6, 4, 0, 8, 0, 4, 6, 8]]
PINNED_LABELS = [[2, 3, 1, 0, 1, 2, 3, 0], [3, 0, 2, 1, 2, 0, 3, 1]]


def test_transforms_of_a_task_are_those_of_its_lifetimes() -> None:
    """A projected episode is the plain one times one matrix, the support and the queries alike."""
    plain = EpisodeSampler(side()).sample_shots([5], 8, 8).inputs[:, 0].flatten(1).double()
    found = EpisodeSampler(side(projection=1.0)).sample_shots([5], 8, 8).inputs[:, 0].flatten(1)
    solution = torch.linalg.lstsq(plain, found.double(), driver="gelsd").solution
    torch.testing.assert_close(plain @ solution, found.double(), atol=1e-4, rtol=0)
    assert not torch.allclose(plain, found.double(), atol=0.1)


def test_turned_by_quarters() -> None:
    images = torch.arange(2 * 9.0).view(2, 1, 3, 3)
    turned = rotate(images, np.array([1, 2]))
    assert turned[0, 0].tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert turned[1, 0].tolist() == [[17, 16, 15], [14, 13, 12], [11, 10, 9]]


def test_rotations_make_four_classes_of_each(tmp_path: Path) -> None:
    path = tmp_path / "omniglot" / "images_background_small1.zip"
    omniglot_files.write_archive(path, {"Greek": 2}, drawings=3)
    fields = {"partition": "train", "size": 14}
    with pytest.raises(VsmlBenchError, match="asks for 8 classes"):
        EpisodeSampler(side("omniglot_small", classes=8, **fields), root=tmp_path)
    distribution = side("omniglot_small", classes=8, rotations=True, **fields)
    episode = EpisodeSampler(distribution, root=tmp_path).sample_shots([3], 1, 2)
    upright = TaskDistribution(("omniglot_small",), "train", size=14)
    plain = EpisodeSampler(upright, root=tmp_path).sample([0], 6)
    expected = {
        torch.rot90(x, turn, (-2, -1)).numpy().tobytes(): (int(y), turn)
        for x, y in zip(plain.inputs[:, 0], plain.labels[:, 0], strict=True)
        for turn in range(4)
    }
    kinds: dict[int, set[tuple[int, int]]] = {}
    for row, label in zip(rows(episode.inputs[:, 0]), episode.labels[:, 0].tolist(), strict=True):
        kinds.setdefault(label, set()).add(expected[row])
    assert sorted(kinds) == list(range(8)) and all(len(kind) == 1 for kind in kinds.values())
    assert len(set.union(*kinds.values())) == 8
    online = TaskDistribution(("omniglot_small",), "train", size=14, rotations=True)
    stream = EpisodeSampler(online, root=tmp_path)
    assert (stream.shape.classes, stream.max_steps) == (8, 24)
    lifetime = stream.sample([1], 24)
    assert set(rows(lifetime.inputs[:, 0])) == set(expected)


def test_meta_training_holds_classes_out() -> None:
    dataset = datasets.load("digits", "train")
    assert dataset.examples is not None
    found = {s: subset_rows(dataset, s, 2) for s in ("fit_classes", "validation_classes", "all")}
    labels = {s: set(dataset.examples.labels[r].tolist()) for s, r in found.items()}
    assert not labels["fit_classes"] & labels["validation_classes"]
    assert len(labels["fit_classes"]) == 8 and len(labels["validation_classes"]) == 2
    both = [*found["fit_classes"], *found["validation_classes"]]
    assert sorted(both) == sorted(found["all"])
    with pytest.raises(VsmlBenchError, match=r"has 10 classes here, and 12 are needed"):
        EpisodeSampler(side(classes=6), subset="fit_classes")


def test_a_fixed_list_gives_each_run_as_its_authors_made_it(tmp_path: Path) -> None:
    drawn = omniglot_files.write_runs(tmp_path / "omniglot" / "all_runs", runs=3, characters=4)
    distribution = side("omniglot_runs")
    sampler = EpisodeSampler(distribution, root=tmp_path)
    assert sampler.fixed_episodes == 3
    dataset = datasets.load("omniglot_runs", "test", tmp_path)
    episodes = sampler.sample_shots(range(3), 1, 1)
    for run in range(3):
        classes: list[set[int]] = []
        for half, kind in ((slice(0, 4), "training"), (slice(4, 8), "test")):
            images = episodes.inputs[half, run, 0].numpy() * dataset.std[0] + dataset.mean[0]
            characters = [
                next(c for c in range(4) if np.allclose(255 * image, drawn[run, c, kind], atol=0.1))
                for image in images
            ]
            assert sorted(characters) == [0, 1, 2, 3]
            names = zip(characters, episodes.labels[half, run].tolist(), strict=True)
            classes.append(set(names))  # type: ignore[arg-type]
        assert classes[0] == classes[1], "support and queries name the characters alike"
    with pytest.raises(VsmlBenchError, match=r"1 support and 2 query examples.* has 0 classes"):
        sampler.sample_shots([0], 1, 2)
    with pytest.raises(VsmlBenchError, match="fixed list of few-shot episodes; leave"):
        EpisodeSampler(side("omniglot_runs", diversity=2), root=tmp_path)


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        (side(classes=None), "must say how many classes it has"),
        (side("random", size=4), "'random' makes examples as it goes"),
        (side("iris", classes=3), "39 query examples of each class.* has 2 classes"),
    ],
)
def test_impossible_episodes_are_refused(distribution: TaskDistribution, words: str) -> None:
    with pytest.raises(VsmlBenchError, match=words):
        EpisodeSampler(distribution).sample_shots([0], 1, 39)


def test_only_square_images_turn() -> None:
    with pytest.raises(VsmlBenchError, match=r"shape \(13,\).* leave `rotations` out"):
        EpisodeSampler(side("wine", classes=2, rotations=True))
