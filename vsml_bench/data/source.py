"""The contract that every dataset keeps, from Wine to Omniglot. Read this file before adding one.

A dataset is a class in a file: a subclass of `Source` that says what is here (`find`) and reads it
(`read`), or of `Generated`, which makes its examples. It is found by entry point, or by path in the
`datasets` of a split; nothing in the harness changes. Where the data are a folder of images, a
table, an `.npz` file or an object of scikit-learn, torchvision or Hugging Face's `datasets`,
subclass what `vsml_bench.data.own_data` has for that instead: three lines are enough.

All else is the harness's business: standardising by the train partition, resizing, class subsets,
projections, content hashes, and the refusal of splits whose sides share an example.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

Modality: TypeAlias = Literal["image", "vector"]
Array: TypeAlias = NDArray[Any]
PARTITIONS: tuple[PartitionName, ...] = ("train", "test")
BROKEN_ZIP = (
    *(OSError, EOFError, ValueError, OverflowError, zlib.error, zipfile.BadZipFile, struct.error),
    RuntimeError,  # encrypted, or compressed in a way that is not here
)
"""What reading an archive raises where it is no whole, plain one."""


@dataclass(frozen=True, eq=False)
class Examples:
    """One partition as it is stored."""

    inputs: Array
    """uint8 [n, channels, height, width] of images, float32 [n, features] of vectors."""
    labels: NDArray[np.int64]
    """[n], from 0 to `classes` - 1."""
    classes: int
    """Of the dataset, also where this partition lacks some of them."""
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
class Found:
    """What a source sees at a glance, without reading the examples."""

    origin: str
    """Where the data are, or would be: "data root", a package's name, "generated"."""
    reason: str = ""
    """What is missing or broken and how to mend it; "" where all is here."""
    train: int | None = None
    """Examples in the partition; None where it is not here, or where nobody has counted."""
    test: int | None = None

    @property
    def available(self) -> bool:
        """Whether at least one partition can be loaded."""
        return not self.reason or self.train is not None or self.test is not None


class Download(ABC):
    """One way of getting a dataset's files; `vsml_bench.data.fetch` has two."""

    folder: str
    """Where the files belong, below the data root."""

    @abstractmethod
    def get(self, staging: Path, report: Callable[[str], None]) -> list[Path]:
        """Downloads into the empty folder `staging` and returns the files to keep.

        report: called with a line for each thing that is tried. UnavailableError where they cannot
        be had here.
        """


class Source(ABC):
    """Base class of all datasets. It is made without arguments where it is found in a file or by
    an entry point, and must not read anything then."""

    name: str
    """What splits, cells and boards call it: letters, digits, `_`, `-` and `.`. No other dataset
    may have the same."""
    version: ClassVar[int] = 1
    """Raised when the same files would give other examples: it is part of every result's identity,
    which is known before anything is read."""
    modality: Modality = "image"
    """Whether `Examples.inputs` are images or vectors."""
    scale: float = 255.0
    """Of images: the stored value that counts as 1. Inputs are standardised in any case."""
    downloads: tuple[Download, ...] = ()
    """How `data fetch` gets the files, the first that works; () for nothing to fetch."""

    @abstractmethod
    def find(self, root: Path) -> Found:
        """What is here. root: the data root, which may not exist. Quick, and never raises for
        absent or broken data: that is the reason."""

    @abstractmethod
    def read(self, partition: PartitionName, root: Path) -> Examples:
        """The partition; UnavailableError where it is absent, VsmlBenchError where it is broken.
        Messages name no folder above the data root, since they end up in published cells."""


class FromFiles(Source):
    """A dataset in files, of which a look at headers tells how many examples there are."""

    @abstractmethod
    def look(self, partition: PartitionName, root: Path) -> tuple[int, str]:
        """How many examples the partition has, and its origin, as in `Found`; errors as of `read`
        where the headers tell them."""

    def find(self, root: Path) -> Found:
        """What `look` says of both partitions; a broken file is told before an absent one."""
        counts: dict[str, int] = {}
        origins: list[str] = []
        errors: list[VsmlBenchError] = []
        for partition in PARTITIONS:
            try:
                counts[partition], origin = self.look(partition, root)
                origins.append(origin)
            except VsmlBenchError as error:
                errors.append(error)
        errors.sort(key=lambda error: isinstance(error, UnavailableError))
        reason = str(errors[0]) if errors else ""
        return Found([*origins, "data root"][0], reason, counts.get("train"), counts.get("test"))


class Generated(Source):
    """A dataset that makes its examples: there is nothing to find or to read."""

    classes: ClassVar[int]
    inputs_shape: ClassVar[tuple[int, ...]]
    """(channels, height, width) or (features,); a split may ask for images of another size."""
    fixed_classes: ClassVar[bool] = True
    """Whether the labels mean something, so that a task cannot ask for another number of them."""
    points_per_task: ClassVar[bool] = False
    """Whether a task has its own examples (a shared task then shares examples)."""

    @abstractmethod
    def generate(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        steps: int,
        inputs_shape: tuple[int, ...],
        classes: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """One lifetime: inputs [steps, *inputs_shape], about standardised, and labels [steps].

        task: randomness that all lifetimes of one task share. stream: the lifetime's own. All
        randomness comes from these two. A longer lifetime starts with the shorter one.
        """

    def find(self, root: Path) -> Found:
        """Always here, without end."""
        return Found("generated")

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Refused: use `generate`."""
        raise VsmlBenchError("generated examples cannot be read; sample them from an episode.")


def divide_by_content(inputs: Array, labels: Array, train: int) -> dict[PartitionName, Examples]:
    """Disjoint partitions of examples without official ones, each in the order of its examples'
    content hashes. Neither depends on the order that the examples come in.

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
