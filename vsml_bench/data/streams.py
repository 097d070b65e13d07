"""How one dataset becomes streams of examples, before what tasks do to any dataset alike."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsml_bench.data import transforms
from vsml_bench.data.source import Dataset, Examples
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Shape

CHUNK = 4096
"""Images that are resized at once."""


class Stream(Protocol):
    """Streams of one dataset under one task distribution."""

    dataset: Dataset
    shape: Shape
    max_steps: int | None

    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """One lifetime: inputs float32 [steps, *shape.inputs], labels [steps].

        task: randomness of the task, stream: of the lifetime.
        """


class GeneratedStream:
    """Examples made at the size that is asked for."""

    def __init__(self, dataset: Dataset, size: int | None, classes: int | None) -> None:
        assert dataset.generator is not None
        self.dataset = dataset
        self.generator = dataset.generator
        if classes not in (None, dataset.classes) and self.generator.fixed_classes:
            raise VsmlBenchError(
                f"dataset '{dataset.name}' has {dataset.classes} classes by definition; a task "
                f"distribution cannot ask it for {classes}."
            )
        native = dataset.inputs_shape
        inputs_shape = native if size is None else (native[0], size, size)
        self.shape = Shape(inputs_shape, classes or dataset.classes)
        self.max_steps: int | None = None

    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """See `Stream.draw`."""
        inputs, labels = self.generator.generate(
            task, stream, steps, self.shape.inputs, self.shape.classes
        )
        return torch.from_numpy(inputs), labels


class StoredStream:
    """Stored examples in a random order of each lifetime's own, none twice."""

    def __init__(
        self, dataset: Dataset, size: int | None, classes: int | None, gray: bool, subset: str
    ) -> None:
        assert dataset.examples is not None
        if size is not None and dataset.modality != "image":
            raise VsmlBenchError(
                f"dataset '{dataset.name}' holds vectors, which cannot be resized to {size}; leave "
                "`size` out."
            )
        self.dataset = dataset
        self._size, self._gray, self._subset_of_classes = size, gray, classes
        self._rows = subset_rows(dataset, subset)
        self._labels = dataset.examples.labels[self._rows]
        present, counts = np.unique(self._labels, return_counts=True)
        if classes is not None and classes > len(present):
            raise VsmlBenchError(
                f"a task distribution asks for {classes} classes of dataset '{dataset.name}', "
                f"whose {dataset.partition} partition has {len(present)}."
            )
        self._present = present
        self.max_steps: int | None = int(np.sort(counts)[:classes].sum())
        native = dataset.inputs_shape
        inputs_shape = native
        if dataset.modality == "image":
            height_width = native[1:] if size is None else (size, size)
            inputs_shape = (1 if gray else native[0], *height_width)
        self.shape = Shape(inputs_shape, classes or dataset.classes)

    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """See `Stream.draw`."""
        if self._subset_of_classes is None:
            chosen = stream.permutation(len(self._rows))[:steps]
            labels = self._labels[chosen]
        else:
            kept = np.sort(task.permutation(self._present)[: self._subset_of_classes])
            candidates = np.flatnonzero(np.isin(self._labels, kept))
            chosen = stream.permutation(candidates)[:steps]
            labels = transforms.relabel(self._labels[chosen], kept)
        return gather(self.dataset, self._rows[chosen], self._size, self._gray), labels


def subset_rows(dataset: Dataset, subset: str) -> NDArray[np.int64]:
    """Row numbers of a subset, in the order of content hashes.

    The last sixth is "validation", the rest "fit", with duplicates on one side; "all" is both.
    """
    hashes = dataset.example_hashes
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    cut = len(order) - len(order) // 6
    while 0 < cut < len(order) and hashes[order[cut]] == hashes[order[cut - 1]]:
        cut += 1
    start, stop = {"all": (0, len(order)), "fit": (0, cut), "validation": (cut, len(order))}[subset]
    return np.array(order[start:stop], np.int64)


def gather(dataset: Dataset, rows: NDArray[np.int64], size: int | None, gray: bool) -> Tensor:
    """The examples `rows`, standardised and resized: float32 [len(rows), ...]."""
    assert dataset.examples is not None
    if dataset.modality == "image" and _changes(dataset, size, gray):
        return _resized(dataset, size, gray)[torch.from_numpy(rows)]
    stored = torch.from_numpy(dataset.examples.inputs[rows])
    return transforms.standardise(stored, dataset.scale, dataset.mean, dataset.std)


def _changes(dataset: Dataset, size: int | None, gray: bool) -> bool:
    channels, *height_width = dataset.inputs_shape
    resized = size is not None and height_width != [size, size]
    return resized or (gray and channels > 1)


@lru_cache(maxsize=8)
def _resized(dataset: Dataset, size: int | None, gray: bool) -> Tensor:
    """All examples of a dataset, prepared once per process: what would be computed again for every
    lifetime otherwise. Datasets that keep their size stay in bytes.

    Averaging pixels shrinks their variance, so images are standardised at the size at which they
    are used, again by the train partition: a learner meets inputs of one scale at every size.
    """
    assert dataset.examples is not None and dataset.reference is not None
    images = _prepared(dataset, dataset.examples, size, gray)
    same = dataset.reference is dataset.examples
    reference = images if same else _prepared(dataset, dataset.reference, size, gray)
    mean, std = reference.double().mean(), reference.double().std(correction=0)
    return images.sub_(mean.float()).div_(std.float() if std > 0 else 1.0)


def _prepared(dataset: Dataset, examples: Examples, size: int | None, gray: bool) -> Tensor:
    parts = []
    for start in range(0, len(examples), CHUNK):
        stored = torch.from_numpy(examples.inputs[start : start + CHUNK])
        images = transforms.standardise(stored, dataset.scale, dataset.mean, dataset.std)
        images = transforms.to_grayscale(images) if gray else images
        parts.append(transforms.resize(images, size) if size is not None else images)
    return torch.cat(parts)
