from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import idx_files
from vsml_bench.data import datasets
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import TaskDistribution

pytestmark = pytest.mark.usefixtures("one_thread")


def side(*names: str, **fields: Any) -> TaskDistribution:
    return TaskDistribution(names or ("digits",), fields.pop("partition", "train"), **fields)


EVERYTHING = side(
    "digits",
    "random",
    "mnist5k",
    size=6,
    projection=0.5,
    pixel_shuffle=0.5,
    label_permutation=True,
)
seeds = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6, unique=True)


@given(seeds=seeds, data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_lifetime_depends_on_its_seed_alone(seeds: list[int], data: st.DataObject) -> None:
    sampler = EpisodeSampler(EVERYTHING)
    together = sampler.sample(seeds, 12)
    order = data.draw(st.permutations(range(len(seeds))))
    cut = data.draw(st.integers(0, len(seeds)))
    for chunk in (order[:cut], order[cut:]):
        apart = EpisodeSampler(EVERYTHING).sample([seeds[i] for i in chunk], 12)
        assert torch.equal(apart.inputs, together.inputs[:, chunk])
        assert torch.equal(apart.labels, together.labels[:, chunk])


@given(seed=st.integers(0, 2**63 - 1), steps=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_longer_lifetime_starts_with_the_shorter(seed: int, steps: int) -> None:
    sampler = EpisodeSampler(EVERYTHING)
    short, long = sampler.sample([seed], steps), sampler.sample([seed], 40)
    torch.testing.assert_close(short.inputs, long.inputs[:steps], rtol=1e-4, atol=1e-5)
    assert torch.equal(short.labels, long.labels[:steps])


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2, unique=True))
@settings(max_examples=25, deadline=None)
def test_different_seeds_give_different_lifetimes(seeds: list[int]) -> None:
    episode = EpisodeSampler(side(projection=1.0)).sample(seeds, 10)
    assert not torch.equal(episode.inputs[:, 0], episode.inputs[:, 1])


def test_lifetimes_are_pinned() -> None:
    """Published cells were run on these streams; a change here makes all of them stale."""
    sampler = EpisodeSampler(side("digits", partition="test"))
    assert sampler.content_hashes == {"digits": DIGITS_TEST}
    assert sampler.sample([0, 1], 8).labels.T.tolist() == LABELS
    everything = EpisodeSampler(EVERYTHING).sample(list(range(6)), 12)
    assert everything.labels[:4].T.tolist() == TRANSFORMED_LABELS
    corner = everything.inputs[0, :, 0, 3, 3]
    torch.testing.assert_close(corner, torch.tensor(TRANSFORMED_INPUTS), atol=1e-4, rtol=0)


DIGITS_TEST = "159a4d58c06f502345a8647cc96f3acf00868f7760f2989fe2bdafb989c97a48"
LABELS = [[2, 8, 2, 6, 5, 3, 0, 2], [4, 3, 9, 3, 2, 3, 3, 6]]
TRANSFORMED_LABELS = [
    [3, 4, 8, 1],
    [4, 3, 9, 9],
    [3, 3, 0, 6],
    [3, 9, 0, 7],
    [0, 7, 0, 4],
    [0, 8, 8, 8],
]
TRANSFORMED_INPUTS = [1.2024, -0.4455, 0.8618, 0.8466, -0.9758, -0.5287]


def test_finite_data_come_in_a_fresh_order_without_repetition() -> None:
    sampler = EpisodeSampler(side(partition="test"))
    assert sampler.max_steps == 1500
    episode = sampler.sample([1, 2], 1500)
    rows = [{x.numpy().tobytes() for x in episode.inputs[:, e]} for e in range(2)]
    assert len(rows[0]) == len(rows[1]) == 1500
    assert rows[0] == rows[1]
    assert not torch.equal(episode.inputs[:, 0], episode.inputs[:, 1])


def test_untransformed_examples_are_the_standardised_dataset() -> None:
    dataset = datasets.load("digits", "test")
    assert dataset.examples is not None
    episode = EpisodeSampler(side(partition="test")).sample([3], 1500)
    oracle = (dataset.examples.inputs / 16.0 - dataset.mean[0]) / dataset.std[0]
    pairs = {
        (tuple(np.round(x.ravel(), 3)), int(y))
        for x, y in zip(oracle, dataset.examples.labels, strict=True)
    }
    for x, y in zip(episode.inputs[:, 0], episode.labels[:, 0], strict=True):
        assert (tuple(np.round(x.double().numpy().ravel(), 3)), int(y)) in pairs


@pytest.mark.parametrize("size", [4, 5, 12])
def test_resized_images_are_standardised_by_the_resized_train_partition(size: int) -> None:
    train = EpisodeSampler(side(size=size, partition="train"))
    assert train.max_steps is not None
    inputs = train.sample([0], train.max_steps).inputs
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    test = EpisodeSampler(side(size=size, partition="test")).sample([0], 1500).inputs
    assert 0.001 < abs(test.mean().item()) < 0.1 and test.std().item() == pytest.approx(1, abs=0.1)


def test_too_long_a_lifetime_is_refused() -> None:
    sampler = EpisodeSampler(side())
    with pytest.raises(VsmlBenchError, match=r"298 examples.*digits \(train, all\).*at most 297"):
        sampler.sample([0], 298)


def test_subsets_divide_the_partition() -> None:
    parts = {}
    for subset in ("all", "fit", "validation"):
        sampler = EpisodeSampler(side(), subset=subset)
        assert sampler.max_steps is not None
        episode = sampler.sample([0], sampler.max_steps)
        parts[subset] = {x.numpy().tobytes() for x in episode.inputs[:, 0]}
    assert len(parts["validation"]) == 297 // 6
    assert not parts["fit"] & parts["validation"]
    assert parts["fit"] | parts["validation"] == parts["all"]


def test_subsets_keep_duplicates_on_one_side(tmp_path: Path) -> None:
    images, labels = idx_files.images_and_labels(4, seed=0)
    twelve = np.repeat(images, 3, axis=0), np.repeat(labels, 3)
    idx_files.write_pair(tmp_path / "MNIST" / "raw", "train", *twelve)
    parts = []
    for subset, count in (("fit", 12), ("validation", 0)):
        sampler = EpisodeSampler(side("mnist"), root=tmp_path, subset=subset)  # type: ignore[arg-type]
        assert sampler.max_steps == count
        parts.append(count)
    assert sum(parts) == 12


def _whole(**fields: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """All test digits, one lifetime, in the order of seed 5, transformed."""
    episode = EpisodeSampler(side(partition="test", **fields)).sample([5], 1500)
    return episode.inputs[:, 0].flatten(1), episode.labels[:, 0]


def test_each_transform_alone_changes_only_its_part() -> None:
    inputs, labels = _whole()
    shuffled, same_labels = _whole(pixel_shuffle=1.0)
    assert torch.equal(labels, same_labels)
    assert not torch.equal(inputs, shuffled)
    columns = sorted(column.numpy().tobytes() for column in inputs.T.contiguous())
    assert sorted(column.numpy().tobytes() for column in shuffled.T.contiguous()) == columns

    projected, same_labels = _whole(projection=1.0)
    assert torch.equal(labels, same_labels)
    solution = torch.linalg.lstsq(inputs.double(), projected.double(), driver="gelsd").solution
    torch.testing.assert_close(inputs.double() @ solution, projected.double(), atol=1e-4, rtol=1e-4)
    assert not torch.equal(projected, inputs)

    same_inputs, renamed = _whole(label_permutation=True)
    assert torch.equal(inputs, same_inputs)
    mapping = {(int(a), int(b)) for a, b in zip(labels, renamed, strict=True)}
    assert len(mapping) == 10 == len({b for _, b in mapping})
    assert any(a != b for a, b in mapping)


def test_shares_of_tasks() -> None:
    sampler = EpisodeSampler(side(pixel_shuffle=0.25, partition="test"))
    plain = EpisodeSampler(side(partition="test"))
    lifetimes = list(range(400))
    changed = (sampler.sample(lifetimes, 3).inputs != plain.sample(lifetimes, 3).inputs).flatten(2)
    share = changed.any(-1).any(0).double().mean()
    assert 0.18 < share < 0.32  # 3.3 standard deviations of 400 draws


def test_class_subsets_are_drawn_per_task_and_relabelled() -> None:
    sampler = EpisodeSampler(side(classes=3, partition="test"))
    counts = np.bincount(datasets.load("digits", "test").examples.labels)  # type: ignore[union-attr]
    assert sampler.shape.classes == 3
    assert sampler.max_steps == int(np.sort(counts)[:3].sum())
    episode = sampler.sample(list(range(30)), sampler.max_steps)
    assert all(set(column.tolist()) == {0, 1, 2} for column in episode.labels.T)
    true = {x.astype(np.float32).tobytes(): int(y) for x, y in zip(*_stored("digits"), strict=True)}
    kept = set()
    for e in range(30):
        mapping = {
            (true[_unstandardised(x)], int(y))
            for x, y in zip(episode.inputs[:60, e], episode.labels[:60, e], strict=True)
        }
        classes = sorted(a for a, _ in mapping)
        assert mapping == set(zip(classes, range(3), strict=True))
        kept.add(tuple(classes))
    assert len(kept) > 15  # of 120 possible subsets


def _stored(name: str) -> tuple[Any, Any]:
    examples = datasets.load(name, "test").examples
    assert examples is not None
    return examples.inputs, examples.labels


def _unstandardised(x: torch.Tensor) -> bytes:
    dataset = datasets.load("digits", "test")
    pixels = (x.double().numpy() * dataset.std[0] + dataset.mean[0]) * 16.0
    return (np.round(pixels) + 0.0).astype(np.float32).tobytes()  # no negative zeros


@pytest.mark.parametrize("diversity", [1, 3, 8])
def test_diversity_is_the_number_of_distinct_projections(diversity: int) -> None:
    projections = _projections(side("random", size=2, projection=1.0, diversity=diversity))
    assert len(projections) == diversity


def test_no_diversity_limit_means_a_task_per_lifetime() -> None:
    assert len(_projections(side("random", size=2, projection=1.0))) == 60


def _projections(distribution: TaskDistribution) -> set[bytes]:
    """Tasks of 60 lifetimes, told apart by the projected points that they visit."""
    episode = EpisodeSampler(distribution).sample(list(range(60)), 200)
    return {
        np.unique(episode.inputs[:, e].flatten(1).numpy().round(4), axis=0).tobytes()
        for e in range(60)
    }


def test_distinct_projections_of_stored_data() -> None:
    """The projection itself, recovered by least squares from the plain and projected examples."""
    fields = {"partition": "test", "size": 4, "projection": 1.0, "diversity": 5}
    lifetimes = list(range(40))
    projected = EpisodeSampler(side("digits", **fields)).sample(lifetimes, 200)
    # The order of examples has a stream of its own, which no transform touches.
    plain = EpisodeSampler(side("digits", **{**fields, "projection": 0.0})).sample(lifetimes, 200)
    found = {
        tuple(
            torch.linalg.lstsq(x.flatten(1), z.flatten(1))
            .solution.flatten()
            .mul(50)
            .round()
            .tolist()
        )
        for x, z in zip(
            plain.inputs.double().unbind(1), projected.inputs.double().unbind(1), strict=True
        )
    }
    assert len(found) == 5


def test_sides_with_equal_fields_share_their_tasks_and_less_diversity_is_a_part() -> None:
    fields = {"size": 2, "projection": 1.0}
    train = _projections(side("random", partition="train", diversity=4, **fields))
    assert _projections(side("random", partition="test", diversity=4, **fields)) == train
    assert train < _projections(side("random", partition="test", diversity=8, **fields))
    shuffled = _projections(side("random", diversity=4, pixel_shuffle=0.5, **fields))
    assert not shuffled & train


def test_all_datasets_of_a_distribution_are_used_equally() -> None:
    sampler = EpisodeSampler(side("digits", "sum_sign", size=8, partition="test"))
    assert sampler.shape.classes == 10  # the maximum
    assert sampler.max_steps == 1500
    assert sorted(sampler.content_hashes) == ["digits", "sum_sign"]
    episode = sampler.sample(list(range(200)), 30)
    of_digits = (episode.labels.max(0).values > 1).double().mean()
    assert 0.38 < of_digits < 0.62


def test_finite_tasks_use_all_datasets() -> None:
    sampler = EpisodeSampler(side("digits", "sum_sign", size=8, diversity=2, partition="test"))
    many = sampler.sample(list(range(50)), 30).labels.max(0).values > 1
    assert many.any() and not many.all()


def test_colour_becomes_gray_beside_gray(tmp_path: Path) -> None:
    _write_svhn_like(tmp_path)
    alone = EpisodeSampler(side("svhn", partition="test"), root=tmp_path)
    assert alone.shape.inputs == (3, 32, 32)
    mixed = EpisodeSampler(side("svhn", "digits", size=8, partition="test"), root=tmp_path)
    assert mixed.shape.inputs == (1, 8, 8)
    assert mixed.sample([0, 1, 2, 3], 5).inputs.shape == (5, 4, 1, 8, 8)


def _write_svhn_like(root: Path) -> None:
    from scipy.io import savemat

    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (32, 32, 3, 12)).astype(np.uint8)
    savemat(root / "test_32x32.mat", {"X": colours, "y": np.arange(1, 13)[:, None] % 10 + 1})


@pytest.fixture(autouse=True)
def any_svhn_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    unchecked = {name: [url, file, None] for name, (url, file, _) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", unchecked)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (side("digits", "mnist5k"), "inputs of one shape"),
        (side("wine", size=8), "holds vectors"),
        (side("digits", "wine"), "inputs of one shape"),
        (side("digits", classes=11), "asks for 11 classes of dataset 'digits'.*has 10"),
        (side(classes=1), "classes: expected at least 2"),
        (side(size=0), "size: expected at least 1"),
        (side(projection=1.5), "projection: expected a share"),
        (side(pixel_shuffle=-0.1), "pixel_shuffle: expected a share"),
        (side(diversity=-1), "diversity: expected at least 0"),
        (side("digit"), "unknown dataset 'digit'"),
        (TaskDistribution((), "train"), "at least one dataset"),
    ],
)
def test_senseless_distributions_are_refused(distribution: TaskDistribution, message: str) -> None:
    with pytest.raises(VsmlBenchError, match=message):
        EpisodeSampler(distribution)


def test_absent_data_are_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        EpisodeSampler(side("kmnist"), root=tmp_path)


def test_vectors() -> None:
    sampler = EpisodeSampler(side("breast_cancer", partition="test", projection=1.0))
    episode = sampler.sample([0, 1, 2], 450)
    assert episode.inputs.shape == (450, 3, 30)
    assert sampler.shape.classes == 2
    plain = EpisodeSampler(side("breast_cancer")).sample([0], 119).inputs[:, 0]
    torch.testing.assert_close(plain.mean(0), torch.zeros(30), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain.std(0, correction=0), torch.ones(30), atol=1e-4, rtol=0)
