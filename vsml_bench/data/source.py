"""What a dataset is, and what a source of one must be able to say.

Nothing here knows a dataset by name, reads a file or draws a random number.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

Modality: TypeAlias = Literal["image", "vector"]
StatisticsFrom: TypeAlias = Literal["train", "test", "none"]
Array: TypeAlias = NDArray[Any]


class ExampleGenerator(Protocol):
    """Makes examples instead of reading them."""

    version: ClassVar[str]
    """Changes whenever the same seeds would give other examples."""
    classes: ClassVar[int]
    inputs_shape: ClassVar[tuple[int, ...]]
    fixed_classes: ClassVar[bool]
    """Whether the labels mean something, so that a task cannot ask for another number of them."""
    points_per_task: ClassVar[bool]
    """Whether a task has its own examples (a shared task then shares examples)."""

    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """One lifetime: inputs [steps, *inputs_shape] and labels [steps].

        task: randomness that all lifetimes of one task share. stream: the lifetime's own. A longer
        lifetime starts with the shorter one.
        """


@dataclass(frozen=True, eq=False)
class Examples:
    """One partition as it is stored.

    inputs: uint8 [n, channels, height, width] of images, float32 [n, features] of vectors.
    """

    inputs: Array
    labels: NDArray[np.int64]
    classes: int
    groups: tuple[str, ...] = ()
    """The group that each class belongs to, such as a character's alphabet; () where there are
    none."""
    support: NDArray[np.bool_] | None = None
    """Only of a fixed list of few-shot episodes, where each group is one episode: which examples
    are its support. The others are its queries."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def example_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each example's content at its native size, whatever its label or dataset."""
        header = f"{self.inputs.dtype.str}{self.inputs.shape[1:]}".encode()
        rows = np.ascontiguousarray(self.inputs).reshape(len(self), -1)
        return tuple(hashlib.sha256(header + row.tobytes()).digest() for row in rows)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation, one number for images and one per feature for vectors."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    computed_from: StatisticsFrom


@dataclass(frozen=True, eq=False)
class Dataset:
    """One partition of a dataset."""

    name: str
    partition: PartitionName
    modality: Modality
    inputs_shape: tuple[int, ...]
    """(channels, height, width) of an image, (features,) of a vector, at its native size."""
    classes: int
    examples: Examples | None
    """None where examples are generated."""
    generator: ExampleGenerator | None
    """None where examples are stored."""
    scale: float
    """The stored value that counts as 1; `mean` and `std` are in units of it."""
    statistics: Statistics
    reference: Examples | None = None
    """The examples that the statistics come from: the train partition's where it is here."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean over the train partition, or over what `statistics_from` says."""
        return self.statistics.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation over the same examples as `mean`; 1 where nothing varies."""
        return self.statistics.std

    @property
    def is_fixed_list(self) -> bool:
        """Whether it is a fixed list of few-shot episodes."""
        return self.examples is not None and self.examples.support is not None

    @property
    def statistics_from(self) -> StatisticsFrom:
        """ "test" where the train partition is not here, "none" for generated examples."""
        return self.statistics.computed_from

    @property
    def example_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each example's content, in order; empty for generated examples."""
        return self.examples.example_hashes if self.examples is not None else ()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over all that lifetimes are made of: inputs, labels, their order, and the
        statistics that they are standardised with; name, partition and version where generated."""
        header = [self.scale, self.mean, self.std, self.classes]
        if self.generator is not None:
            return _sha256([self.name, self.partition, self.generator.version, *header])
        assert self.examples is not None
        digest = hashlib.sha256(_sha256(header).encode())
        for example in self.examples.example_hashes:
            digest.update(example)
        digest.update(self.examples.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class DatasetStatus:
    """What of a dataset is here."""

    name: str
    available: bool
    """Whether at least one partition can be loaded."""
    origin: str
    """Where it is from, or would be from."""
    reason: str
    """What is missing and how to get it; "" where all is here."""
    train: int | None
    """Examples in the partition; None where it is not here, or where they are generated."""
    test: int | None
    modality: Modality


@dataclass(frozen=True)
class Found:
    """What a source sees at a glance, without reading the examples."""

    origin: str
    reason: str
    train: int | None
    test: int | None


class Source(ABC):
    """Where one dataset's examples come from."""

    modality: ClassVar[Modality] = "image"
    scale: float = 255.0

    @abstractmethod
    def find(self, root: Path) -> Found:
        """What is here. Never raises for absent or broken data: that is the reason."""

    @abstractmethod
    def read(self, partition: PartitionName, root: Path) -> Examples:
        """The partition; UnavailableError where it is absent, VsmlBenchError where it is broken."""


def worst_reason(errors: Sequence[VsmlBenchError]) -> str:
    """What a status says of several partitions' errors: a broken file before an absent one."""
    broken = [error for error in errors if not isinstance(error, UnavailableError)]
    return str([*broken, *errors][0]) if errors else ""


def image_statistics(inputs: NDArray[np.uint8], scale: float) -> tuple[float, float]:
    """Mean and standard deviation over all values of uint8 `inputs`, over `scale`.

    Sums are exact integers, so that every machine gets the same two numbers.
    """
    counts = np.zeros(256, np.int64)
    for start in range(0, len(inputs), 4096):  # bincount makes eight bytes of each
        counts += np.bincount(inputs[start : start + 4096].ravel(), minlength=256)
    n = int(counts.sum())
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    std = math.sqrt(max(n * squares - total * total, 0)) / n
    return total / n / scale, std / scale or 1.0


def vector_statistics(inputs: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each feature (column) of float32 [n, features]."""
    columns = np.asarray(inputs, np.float64).T
    means = [math.fsum(column) / len(column) for column in columns]
    stds = [
        # A constant feature keeps its size: rounding must not make its deviation a tiny number.
        math.sqrt(math.fsum((column - mean) ** 2) / len(column)) if np.ptp(column) else 1.0
        for column, mean in zip(columns, means, strict=True)
    ]
    return tuple(means), tuple(stds)


def statistics_of(examples: Examples, scale: float, computed_from: StatisticsFrom) -> Statistics:
    """The statistics that a dataset of these train examples is standardised with."""
    if examples.inputs.ndim == 2:
        return Statistics(*vector_statistics(examples.inputs), computed_from)
    mean, std = image_statistics(examples.inputs.astype(np.uint8, copy=False), scale)
    return Statistics((mean,), (std,), computed_from)


def _sha256(value: object) -> str:
    encoding = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(encoding.encode()).hexdigest()
