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
from tests.harness import Outcome, call, refusal, write, write_split, write_suite
from vsml_bench.data import datasets
from vsml_bench.data.own_data import (
    CsvTable,
    HuggingFaceData,
    ImageFolder,
    NpzArrays,
    SklearnData,
    TorchvisionData,
)
from vsml_bench.data.source import Examples, Source
from vsml_bench.data.streams import gather
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.specs import PartitionName

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
    board = ["--results", folder / "out", "--data-root", root, "--format", "json"]
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


class Table(CsvTable):
    name, train, label = "table", "t.csv", "y"


class Folder(ImageFolder):
    name, train = "folder", "images"


class Archive(NpzArrays):
    name, file, train, test = "archive", "a.npz", ("x", "y"), None


def sklearn_data(inputs: Any, labels: Any, modality: Any = "vector") -> Source:
    class Pair(SklearnData):
        name = "pair"

        def train(self, root: Path) -> Any:
            return inputs, labels

    pair = Pair()
    pair.modality = modality
    return pair


X = np.arange(8.0).reshape(4, 2)
Y = [0, 1, 0, 1]
IMAGES = np.zeros((4, 2, 2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (sklearn_data(X, Y[:3]), "4 examples need as many labels, found 3"),
        (sklearn_data(X, [0.5, 1, 0, 1]), "all integers or all strings, found float 0.5"),
        (sklearn_data(X, [0, "a", 0, 1]), "all integers or all strings"),
        (sklearn_data(X, [[0, 1]] * 4), r"all strings, found list \[0, 1\]"),
        (sklearn_data(X, [None] * 4), "all strings, found NoneType"),
        (sklearn_data(X, [3] * 4), "at least two labels are needed, found only"),
        (sklearn_data(X[:0], []), "expected examples, found none"),
        (sklearn_data([["a"]] * 4, Y), "expected numbers as inputs"),
        (sklearn_data(np.where(X == 5, np.nan, X), Y), r"example 2 has no finite number at \[1\]"),
        (sklearn_data(np.where(X == 5, 1e300, X), Y), "no finite number"),
        (sklearn_data(IMAGES, Y), r'the shape \(2, 2\); for images set modality = "image"'),
        (sklearn_data(X, Y, "image"), r"of 1 or 3 channels, found .* \(2,\); fold rows"),
        (sklearn_data(IMAGES - 1, Y, "image"), "from 0 to 1, found float64 from -1.0 to -1.0"),
        (sklearn_data(IMAGES.astype(int) + 256, Y, "image"), "found int64 from 256 to 256"),
        (sklearn_data(IMAGES + np.nan, Y, "image"), "no finite number"),
        (sklearn_data(IMAGES, Y, "image"), "nothing is left for the test partition of 4 examples"),
    ],
)
def test_arrays_that_do_not_fit(source: Source, message: str, tmp_path: Path) -> None:
    with pytest.raises(VsmlBenchError, match=rf"^dataset 'pair': train\(\): .*{message}"):
        source.read("train", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["x", "why"], [1, 2]], r"no column 'y'; "),
        ([["x", "yy"], [1, 2]], r"no column 'y'; did you mean 'yy'\?$"),
        ([["x", "y"], [1, 0], ["", 1]], "row 2, column 'x': expected a number, found ''"),
        ([["x", "y"], ["nan", 0]], "row 1, column 'x': expected a number, found 'nan'"),
        ([["x", "y"], [1, 0], [1]], "row 2 has 1 fields, and the header has 2"),
        (
            [["x", "y"], [1, 0.5], [2, 1.5]],
            "labels are all integers or all strings, found float 0.5",
        ),
        ([["x", "y"]], "expected examples, found none"),
        ([], "expected a CSV file with a header"),
    ],
)
def test_tables_that_do_not_fit(rows: list[list[Any]], message: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", rows)
    with pytest.raises(VsmlBenchError, match=rf"^dataset 'table': t\.csv: {message}"):
        Table().read("train", tmp_path)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(VsmlBenchError) as caught:
            Folder().read("test", tmp_path)
        return str(caught.value)

    images = tmp_path / "images"
    images.mkdir()
    assert "images: expected a folder with one folder of images per label" in refused()
    (images / "a").mkdir()
    assert "images/a: expected images, found none" in refused()
    Image.new("L", (3, 2)).save(images / "a" / "1.png")
    Image.new("L", (2, 2), 9).save(images / "a" / "2.png")
    assert "example 1 has the shape (2, 2) and the first (2, 3); all of a dataset" in refused()
    Image.new("I;16", (3, 2)).save(images / "a" / "2.png")
    assert "images: image 1 has the mode I;16; 8 bits per channel are expected" in refused()
    (images / "a" / "2.png").write_bytes(b"no image")
    assert "images/a/2.png: expected an image that can be read" in refused()


def test_archives_that_do_not_fit(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(VsmlBenchError) as caught:
            Archive().read("test", tmp_path)
        return str(caught.value)

    (tmp_path / "a.npz").write_bytes(b"no archive")
    assert "a.npz: expected an .npz file of arrays" in refused()
    np.savez(tmp_path / "a.npz", x=IMAGES, yy=Y)
    assert "a.npz: no array 'y'; did you mean 'yy'?" in refused()
    np.savez(tmp_path / "a.npz", x=np.array([{}, 1]), y=Y)
    assert "a.npz: expected an .npz file of arrays" in refused()


def test_objects_that_do_not_fit(tmp_path: Path) -> None:
    class Pairs(TorchvisionData):
        name = "pairs"

        def train(self, root: Path) -> Any:
            return [1, 2]

    class Reviews(HuggingFaceData):
        name = "reviews"
        given: Any = None

        def train(self, root: Path) -> Any:
            return self.given

    reviews = Reviews()
    reviews.given = {"train": 1}
    with pytest.raises(VsmlBenchError, match=r"expected pairs \(image, label\), found list"):
        Pairs().read("train", tmp_path)
    with pytest.raises(VsmlBenchError, match="found the splits train; return one of them"):
        reviews.read("train", tmp_path)
    reviews.given = Columns(image=IMAGES, labels=Y)
    with pytest.raises(VsmlBenchError, match=r"no column 'label'; did you mean 'labels'\?"):
        reviews.read("train", tmp_path)


def test_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    class Absolute(Table):
        train = str(tmp_path / "deep" / "t.csv")

    class Lacking(SklearnData):
        name = "lacking"
        requires = {"no_such_package": "pip install it"}  # noqa: RUF012

        def train(self, root: Path) -> Any:
            raise AssertionError("never asked")

    class Absent(TorchvisionData):
        name = "absent"

        def train(self, root: Path) -> Any:
            from torchvision.datasets import MNIST

            return MNIST(root)

    for source, message in (
        (Table(), r"dataset 'table' is not here: no t\.csv in the data root\."),
        (Absolute(), r"dataset 'table' is not here: no t\.csv\."),
        (Folder(), "no images in the data root"),
        (Lacking(), r"needs the package no_such_package: pip install it\."),
        (Absent(), "is not here: .*Dataset not found"),
    ):
        with pytest.raises(UnavailableError, match=message):
            source.read("train", tmp_path)
        if not isinstance(source, Absent):
            found = source.find(tmp_path)
            assert not found.available and found.reason in str(found)


def test_bad_data_end_a_command_with_one_sentence(tmp_path: Path, nothing_here: None) -> None:
    write_table(tmp_path / "t.csv", [["x", "why"], [1, 2]])
    file = write(
        tmp_path / "mine.py",
        "from vsml_bench.data.own_data import CsvTable\n\n\n"
        f"class T(CsvTable):\n    name, train, label = 't', {str(tmp_path / 't.csv')!r}, 'y'\n",
    )
    split = write_split(tmp_path / "s.toml", str(file), train=str(file))
    suite = write_suite(tmp_path / "suite.toml", [split], ["chance"])
    message = refusal(call("run", "--suite", suite, "--out", tmp_path / "out"))
    assert message == "vsml-bench: dataset 't': t.csv: no column 'y'; known: why, x."
