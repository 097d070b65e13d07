"""Data of a stranger's that do not fit: each is one sentence that says what is wrong, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.my_datasets import Columns, write_table
from tests.harness import call, refusal, write, write_split, write_suite
from vsml_bench.data.own_data import (
    CsvTable,
    HuggingFaceData,
    ImageFolder,
    NpzArrays,
    SklearnData,
    TorchvisionData,
)
from vsml_bench.data.source import Source
from vsml_bench.errors import UnavailableError, VsmlBenchError


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
        (Lacking(), r"needs the package no_such_package, which is not .*: pip install it\."),
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
