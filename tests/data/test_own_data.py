"""A stranger's data enter a split by path, without anything being changed in the harness."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data import my_datasets
from tests.data.my_datasets import Columns, write_images, write_table
from tests.harness import Outcome, call, write_split, write_suite
from vsml_bench.data import datasets
from vsml_bench.data.own_data import (
    CsvTable,
    HuggingFaceData,
    SklearnData,
)
from vsml_bench.data.source import Examples
from vsml_bench.data.streams import gather
from vsml_bench.sides import PartitionName

MINE = Path(my_datasets.__file__)
EXAMPLE = MINE.parents[2] / "examples" / "my_dataset.py"
KINDS = ("Leaves", "Ferns", "Flowers", "Stones", "Blobs", "Pictures", "Reviews")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data-of-a-stranger")
    my_datasets.write_files(folder)
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("run")
    places = {kind: f"{MINE}:{kind}" for kind in KINDS} | {"example": str(EXAMPLE)}
    splits: list[object] = [
        write_split(folder / f"{name}.toml", place, train=place) for name, place in places.items()
    ]
    suite = write_suite(folder / "own.toml", splits, ["nearest-mean"], lifetimes=2, steps=20)
    arguments = ["--suite", suite, "--out", folder / "out", "--data-root", root, "--device", "cpu"]
    assert (outcome := call("run", *arguments, "--jobs", 1)).code == 0, outcome
    board = ["--results", folder / "out", "--format", "json"]
    yield call("leaderboard", "--suite", suite, *board)


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 40


@pytest.mark.parametrize("kind", [*KINDS, "example"])
def test_a_dataset_of_each_kind_gets_a_score(kind: str, run: Outcome) -> None:
    assert run.code == 0, run
    means = {row["split"]: row["mean"] for row in run.json["rows"]}
    assert means[kind] > 0.7


def load(name: str, partition: PartitionName, root: Path) -> Examples:
    examples = datasets.load(f"{MINE}:{name}", partition, root).examples
    assert examples is not None
    return examples


def test_a_folder_of_images_is_divided_by_content(root: Path) -> None:
    train, test = load("Leaves", "train", root), load("Leaves", "test", root)
    assert (len(train), len(test)) == (15, 45)
    assert train.inputs.shape[1:] == (3, 5, 6) and train.inputs.dtype == np.uint8
    assert max(train.example_hashes) < min(test.example_hashes)
    stored = {
        np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes(): file.parent.name == "dark"
        for file in (root / "leaves").rglob("*.png")
    }
    assert {
        x.tobytes(): y == 1  # "bright", "dark"
        for part in (train, test)
        for x, y in zip(part.inputs, part.labels, strict=True)
    } == stored


def test_images_are_resized_without_colours(root: Path) -> None:
    train, test = load("Ferns", "train", root), load("Ferns", "test", root)
    assert (train.inputs.shape, test.inputs.shape) == ((60, 1, 4, 4), (50, 1, 4, 4))
    image = Image.open(sorted((root / "leaves" / "bright").iterdir())[0])
    assert np.array_equal(train.inputs[0, 0], np.asarray(image.convert("L").resize((4, 4))))


def test_images_of_one_channel_stay_so(tmp_path: Path) -> None:
    write_images(tmp_path / "leaves", 12, seed=0, channels=1)
    assert load("Leaves", "train", tmp_path).inputs.shape[1:] == (1, 5, 6)


def test_a_table(root: Path) -> None:
    parts = [load("Flowers", partition, root) for partition in ("train", "test")]
    assert [len(part) for part in parts] == [35, 35]
    values, labels = my_datasets.two_kinds(70, (3,), seed=2)
    expected = {x.tobytes(): int(y) for x, y in zip(values.astype(np.float32), labels, strict=True)}
    assert {
        x.tobytes(): int(y) for part in parts for x, y in zip(part.inputs, part.labels, strict=True)
    } == expected  # "low", "tall"


def test_arrays_of_floats_become_bytes(root: Path) -> None:
    values, labels = my_datasets.two_kinds(44, (4, 4), seed=4)
    test = load("Stones", "test", root)
    assert np.array_equal(test.inputs, np.rint(values * 255)[:, None])
    assert np.array_equal(test.labels, labels)


def test_torchvisions_tensors_and_images_are_the_same_bytes(root: Path) -> None:
    pixels = {
        np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes()
        for file in (root / "leaves").rglob("*.png")
    }
    train = load("Pictures", "train", root)
    assert {x.tobytes() for x in train.inputs} == pixels
    assert load("Pictures", "test", root).inputs.shape == (50, 3, 5, 6)


@pytest.mark.parametrize("kind", ["Reviews", "Flowers", "Stones"])
def test_own_data_are_standardised_by_the_train_partition(kind: str, root: Path) -> None:
    dataset = datasets.load(f"{MINE}:{kind}", "train", root)
    rows = np.arange(len(dataset.example_hashes))
    standardised = gather(dataset, rows, size=None, gray=False).double()
    axes = 0 if dataset.modality == "vector" else None
    np.testing.assert_allclose(standardised.numpy().mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.numpy().std(axes), 1, atol=1e-5)


def test_images_of_hugging_face() -> None:
    class Pictures(HuggingFaceData):
        name = "hub"

        def train(self, root: Path) -> Any:
            images = [Image.new("L", (3, 2), value) for value in range(4)]
            return Columns(image=images, label=["b", "a", "b", "a"])

    parts = [Pictures().read(partition, Path()) for partition in ("train", "test")]
    assert [part.inputs.shape for part in parts] == [(2, 1, 2, 3)] * 2
    pairs = [(x[0, 0, 0], y) for p in parts for x, y in zip(p.inputs, p.labels, strict=True)]
    assert sorted(pairs) == [(0, 1), (1, 0), (2, 1), (3, 0)]


def test_classes_are_numbered_over_both_partitions(tmp_path: Path) -> None:
    class Two(CsvTable):
        name, label, train, test = "two", "y", "a.csv", "b.csv"

    write_table(tmp_path / "a.csv", [["x", "y"], [1, 10], [2, 9], [3, 9]])
    write_table(tmp_path / "b.csv", [["x", "y"], [4, 10], [5, 100]])
    train, test = (Two().read(partition, tmp_path) for partition in ("train", "test"))
    assert (train.classes, test.classes) == (3, 3)
    assert train.labels.tolist() == [1, 0, 0] and test.labels.tolist() == [1, 2]


def test_rows_of_pixels_are_folded() -> None:
    class Digits(SklearnData):
        name = "rows"
        modality = "image"
        scale = 16.0
        image_shape = (1, 8, 8)

        def train(self, root: Path) -> Any:
            from sklearn.datasets import load_digits

            values, labels = load_digits(return_X_y=True)
            return values.astype(int), labels

    own, theirs = Digits().read("train", Path()), datasets.load("digits", "train")
    assert own.inputs.shape == (898, 1, 8, 8)
    assert set(theirs.example_hashes) <= set(own.example_hashes)


def test_the_content_hash_does_not_depend_on_the_place(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "renamed.py"
    elsewhere.parent.mkdir()
    shutil.copy(MINE, elsewhere)
    shutil.copytree(root, tmp_path / "data")
    for kind in KINDS:
        here = datasets.load(f"{MINE}:{kind}", "test", root)
        there = datasets.load(f"{elsewhere}:{kind}", "test", tmp_path / "data")
        assert here is not there
        assert (here.name, here.content_hash) == (there.name, there.content_hash)
