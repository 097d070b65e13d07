"""Datasets of a stranger's, one of each kind, over files that `write_files` makes. Bright and dark
examples are easy to tell apart, so that even a floor learns them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsml_bench.data.own_data import (
    CsvTable,
    HuggingFaceData,
    ImageFolder,
    NpzArrays,
    SklearnData,
    TorchvisionData,
)


class Leaves(ImageFolder):
    name = "leaves"
    train = "leaves"
    train_share = 0.25


class Ferns(ImageFolder):
    name = "ferns"
    train = "leaves"
    test = "other-leaves"
    size = (4, 4)
    gray = True


class Flowers(CsvTable):
    name = "flowers"
    train = "flowers.csv"
    label = "kind"
    ignore = ("row",)


class Stones(NpzArrays):
    name = "stones"
    file = "stones.npz"


class Blobs(SklearnData):
    name = "blobs"

    def train(self, root: Path) -> Any:
        from sklearn.datasets import load_iris

        return load_iris()


class Pictures(TorchvisionData):
    name = "pictures"

    def train(self, root: Path) -> Any:
        from torchvision.datasets import ImageFolder as Folder
        from torchvision.transforms import ToTensor

        return Folder(root / "leaves", transform=ToTensor())

    def test(self, root: Path) -> Any:
        from torchvision.datasets import ImageFolder as Folder

        return Folder(root / "other-leaves")


class Columns:
    """What Hugging Face's `datasets` gives, as far as it is used: `features` and columns."""

    def __init__(self, **columns: Any) -> None:
        self.features = dict.fromkeys(columns)
        self._columns = columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


class Reviews(HuggingFaceData):
    name = "reviews"
    modality = "vector"
    inputs = ("length", "stars")
    label = "verdict"

    def train(self, root: Path) -> Any:
        values, labels = two_kinds(60, (2,), seed=5)
        return Columns(length=values[:, 0], stars=values[:, 1].tolist(), verdict=labels.tolist())


def two_kinds(
    count: int, shape: tuple[int, ...], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values from 0 to 1, large ones for the label 1: [count, *shape] and [count]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    centres = (0.25 + 0.5 * labels).reshape(-1, *[1] * len(shape))
    return centres + generator.uniform(-0.2, 0.2, (count, *shape)), labels


def write_images(folder: Path, count: int, seed: int, channels: int = 3) -> None:
    values, labels = two_kinds(count, (5, 6, channels), seed)
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        path = folder / ("bright" if label else "dark") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.rint(255 * value).astype(np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)


def write_table(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_files(root: Path) -> None:
    """All that the classes above read."""
    write_images(root / "leaves", 60, seed=0)
    write_images(root / "other-leaves", 50, seed=1)
    values, labels = two_kinds(70, (3,), seed=2)
    rows = [
        [i, *map(repr, map(float, x)), "tall" if y else "low"]
        for i, (x, y) in enumerate(zip(values, labels, strict=True))
    ]
    write_table(root / "flowers.csv", [["row", "a", "b", "c", "kind"], *rows])
    stones, others = two_kinds(40, (4, 4), seed=3), two_kinds(44, (4, 4), seed=4)
    np.savez(
        root / "stones.npz",
        x_train=stones[0],
        y_train=stones[1],
        x_test=others[0],
        y_test=others[1],
    )
