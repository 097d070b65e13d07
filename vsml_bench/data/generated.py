"""Examples that are made on the spot, as in the VSML paper's experiments on varying datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.source import ExampleGenerator, Examples, Found, Source
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import PartitionName

POINTS = 20
"""Points of one task of `random`."""
CUT = 2.0
"""Standard deviations at which `sum_sign` truncates its pixels."""


@dataclass(frozen=True)
class RandomPoints:
    """20 points of N(0, I) with labels uniform over the classes: nothing to learn but which point
    has which label. Points and labels belong to the task, and are drawn anew for each; the stream
    visits the points with replacement."""

    version: ClassVar[str] = "1"
    classes: ClassVar[int] = 10
    inputs_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    fixed_classes: ClassVar[bool] = False
    points_per_task: ClassVar[bool] = True

    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `ExampleGenerator.generate`."""
        labels = task.integers(classes, size=POINTS)
        points = task.standard_normal((POINTS, *inputs_shape), dtype=np.float32)
        visited = stream.integers(POINTS, size=steps)
        return points[visited], labels[visited]


@dataclass(frozen=True)
class SumSign:
    """Pixels from a normal of standard deviation 1, cut off two deviations from a mean that each
    example draws from U(-1, 1); the label says whether their sum is at least 0."""

    version: ClassVar[str] = "1"
    classes: ClassVar[int] = 2
    inputs_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    fixed_classes: ClassVar[bool] = True
    points_per_task: ClassVar[bool] = False

    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `ExampleGenerator.generate`."""
        from scipy.special import ndtr, ndtri

        draws = stream.random((steps, 1 + int(np.prod(inputs_shape))))
        means = 2.0 * draws[:, :1] - 1.0
        low, high = ndtr(-CUT), ndtr(CUT)
        # Inverting the normal's distribution function takes one draw per pixel, where rejection
        # would take a varying number and so shift all that follows.
        pixels = (means + ndtri(low + (high - low) * draws[:, 1:])).astype(np.float32)
        labels = (pixels.sum(1, dtype=np.float64) >= 0).astype(np.int64)
        return pixels.reshape(steps, *inputs_shape), labels


@dataclass(frozen=True)
class Generated(Source):
    """A source without a store: nothing to find, nothing to read."""

    generator: ExampleGenerator

    def find(self, root: Path) -> Found:
        """Always here, without end."""
        return Found("generated", "", None, None)

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Refused: use `generator`."""
        raise VsmlBenchError("generated examples cannot be read; sample them from an episode.")
