"""How one dataset becomes streams of examples, before what tasks do to any dataset alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data import orders, transforms
from vsml_bench.data.dataset import Dataset, Subset, subset_rows
from vsml_bench.data.source import Examples
from vsml_bench.errors import VsmlBenchError
from vsml_bench.recipes import Shape
from vsml_bench.sides import TaskDistribution

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 4096
"""Images that are resized at once."""
TURNS = 4
"""Quarter turns of an image, the first of them none."""


class DatasetStream(ABC):
    """Streams of one dataset under one task distribution."""

    dataset: Dataset
    shape: Shape
    max_steps: int | None = None
    shuffled: int | None = None
    """See `EpisodeSampler.shuffled`."""

    @abstractmethod
    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """One lifetime: inputs float32 [steps, *shape.inputs], labels [steps].

        task: randomness of the task, stream: of the lifetime.
        """

    @abstractmethod
    def check_shots(self, shots: int, queries: int) -> None:
        """VsmlBenchError where `draw_shots` is impossible."""

    def draw_shots(
        self, task: np.random.Generator, stream: np.random.Generator, shots: int, queries: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """One few-shot episode of N = shape.classes classes: first the support, K = `shots`
        examples of each class, then `queries` others of each.

        Returns inputs float32 [N K + N Q, *shape.inputs] and labels [N K + N Q]. The order in which
        the classes are drawn from `task` names them, and support and queries are each shuffled, so
        that neither a class's place in the data nor an example's place in the episode tells its
        label.
        """
        raise NotImplementedError


class GeneratedStream(DatasetStream):
    """Examples made at the size that is asked for."""

    shuffled = 0

    def __init__(self, dataset: Dataset, distribution: TaskDistribution) -> None:
        assert dataset.generator is not None
        self.dataset, self.generator = dataset, dataset.generator
        size, classes = distribution.size, distribution.classes
        if distribution.late_class:
            raise VsmlBenchError(
                f"dataset '{dataset.name}' makes examples as it goes, so that a class cannot be "
                "kept back; late_class needs a dataset of stored examples."
            )
        if classes not in (None, dataset.classes) and self.generator.fixed_classes:
            raise VsmlBenchError(
                f"dataset '{dataset.name}' has {dataset.classes} classes by definition; a task "
                f"distribution cannot ask it for {classes}."
            )
        native = dataset.inputs_shape
        inputs_shape = native if size is None else (native[0], size, size)
        self.shape = Shape(inputs_shape, classes or dataset.classes)

    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """See `DatasetStream.draw`."""
        import torch

        inputs, labels = self.generator.generate(
            task, stream, steps, self.shape.inputs, self.shape.classes
        )
        expected = f"float32 {(steps, *self.shape.inputs)} and int64 {(steps,)}"
        found = f"{inputs.dtype} {inputs.shape} and {labels.dtype} {labels.shape}"
        if found != expected:
            raise VsmlBenchError(
                f"dataset '{self.dataset.name}': generate: expected {expected}, found {found}."
            )
        return torch.from_numpy(inputs), labels

    def check_shots(self, shots: int, queries: int) -> None:
        """Always refuses: the generator decides which labels come."""
        raise VsmlBenchError(
            f"dataset '{self.dataset.name}' makes examples as it goes, so that a number of each "
            "class cannot be asked for; few_shot needs a dataset of stored examples."
        )


class StoredStream(DatasetStream):
    """Stored examples in a random order of each lifetime's own, none twice.

    episode: only the classes of this group, one of a fixed list of few-shot episodes.
    """

    def __init__(
        self,
        dataset: Dataset,
        distribution: TaskDistribution,
        gray: bool,
        subset: Subset,
        episode: str | None = None,
    ) -> None:
        assert dataset.examples is not None
        examples, size, classes = dataset.examples, distribution.size, distribution.classes
        if size is not None and dataset.modality != "image":
            raise VsmlBenchError(
                f"dataset '{dataset.name}' holds vectors, which cannot be resized to {size}; leave "
                "`size` out."
            )
        self.dataset = dataset
        self._size, self._gray, self._subset_of_classes = size, gray, classes
        rows = subset_rows(dataset, subset, classes or 1)
        if episode is not None:
            rows = rows[np.array(examples.groups)[examples.labels[rows]] == episode]
        turns = TURNS if distribution.rotations else 1
        self._rows, self._turns = np.tile(rows, turns), np.repeat(np.arange(turns), len(rows))
        self._labels = examples.labels[self._rows] + dataset.classes * self._turns
        self._support = None if examples.support is None else examples.support[self._rows]
        if classes is None and episode is None and not distribution.late_class and turns == 1:
            self.shuffled = len(rows)
        present, counts = np.unique(self._labels, return_counts=True)
        if classes is not None and classes > len(present):
            raise VsmlBenchError(
                f"a task distribution asks for {classes} classes of dataset '{dataset.name}', "
                f"whose {dataset.partition} partition has {len(present)}."
            )
        self._present, self._late_class = present, distribution.late_class
        fewest = np.sort(counts)[:classes]
        # Of a class that comes late all examples may be passed over.
        self.max_steps = int((fewest[:-1] if self._late_class else fewest).sum())
        native = dataset.inputs_shape
        inputs_shape = native
        if dataset.modality == "image":
            height_width = native[1:] if size is None else (size, size)
            inputs_shape = (1 if gray else native[0], *height_width)
        if distribution.rotations and len(set(inputs_shape[1:])) != 1:
            raise VsmlBenchError(
                f"dataset '{dataset.name}' has inputs of shape {inputs_shape}, and only square "
                "images can be turned; leave `rotations` out."
            )
        self.shape = Shape(inputs_shape, classes or dataset.classes * turns)

    def draw(
        self, task: np.random.Generator, stream: np.random.Generator, steps: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """See `DatasetStream.draw`."""
        if self._subset_of_classes is None:
            kept, order = self._present, orders.whole(stream, len(self._rows))
        else:
            kept = np.sort(task.permutation(self._present)[: self._subset_of_classes])
            candidates = np.flatnonzero(np.isin(self._labels, kept))
            order = stream.permutation(candidates)
        if self._late_class:
            late = kept[stream.integers(len(kept))]
            order = without_early(order, self._labels[order] == late, steps // 2)
        chosen = order[:steps]
        labels = self._labels[chosen]
        if self._subset_of_classes is not None:
            labels = transforms.relabel(labels, kept)
        return self._inputs(chosen), labels

    def check_shots(self, shots: int, queries: int) -> None:
        """Whether there are enough classes with enough examples."""
        ways, found = self.shape.classes, len(self._classes_with(shots, queries))
        if found < ways:
            raise VsmlBenchError(
                f"{ways}-way episodes with {shots} support and {queries} query examples of each "
                f"class were asked for, but dataset '{self.dataset.name}' "
                f"({self.dataset.partition}) has {found} classes with that many here."
            )

    def draw_shots(
        self, task: np.random.Generator, stream: np.random.Generator, shots: int, queries: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """See `DatasetStream.draw_shots`."""
        ways = self.shape.classes
        kept = task.permutation(self._classes_with(shots, queries))[:ways]
        chosen = np.stack([self._mixed(k, stream)[: shots + queries] for k in kept])
        labels = np.broadcast_to(np.arange(ways)[:, None], chosen.shape)  # [N, K + Q]
        parts = [slice(0, shots), slice(shots, None)]
        orders = [stream.permutation(ways * shots), stream.permutation(ways * queries)]
        drawn, named = (
            np.concatenate([all_of[:, p].ravel()[o] for p, o in zip(parts, orders, strict=True)])
            for all_of in (chosen, labels)
        )
        return self._inputs(drawn), named

    @cached_property
    def _by_class(self) -> dict[int, NDArray[np.int64]]:
        """Label -> positions of its examples."""
        present, counts = np.unique(self._labels, return_counts=True)
        by_class = np.split(np.argsort(self._labels, kind="stable"), np.cumsum(counts)[:-1])
        return dict(zip(present.tolist(), by_class, strict=True))

    def _classes_with(self, shots: int, queries: int) -> list[int]:
        """The labels that have `shots` examples to learn from and `queries` others."""
        enough = [k for k, own in self._by_class.items() if len(own) >= shots + queries]
        support = self._support
        if support is None:
            return enough
        return [k for k in enough if np.count_nonzero(support[self._by_class[k]]) == shots]

    def _mixed(self, label: int, stream: np.random.Generator) -> NDArray[np.int64]:
        """The examples of a class in random order, those of its support first."""
        mixed = stream.permutation(self._by_class[label])
        if self._support is None:
            return mixed
        return mixed[np.argsort(~self._support[mixed], kind="stable")]

    def _inputs(self, chosen: NDArray[np.int64]) -> Tensor:
        """The examples at these positions: float32 [len(chosen), *shape.inputs]."""
        inputs = gather(self.dataset, self._rows[chosen], self._size, self._gray)
        turns = self._turns[chosen]
        return transforms.rotate(inputs, turns) if turns.any() else inputs


def without_early(
    order: NDArray[np.int64], late: NDArray[np.bool_], first: int
) -> NDArray[np.int64]:
    """The examples in their order, without the late ones among what comes before the place `first`
    of the result; from there on nothing is left out.

    order: positions of examples, late [len(order)]: which of them come late.
    """
    others = np.cumsum(~late)  # up to each place
    return order[~late | (others >= first)]


def gather(dataset: Dataset, rows: NDArray[np.int64], size: int | None, gray: bool) -> Tensor:
    """The examples `rows`, standardised and resized: float32 [len(rows), ...]."""
    import torch

    assert dataset.examples is not None
    channels, *height_width = dataset.inputs_shape
    resized = size is not None and height_width != [size, size]
    if dataset.modality == "image" and (resized or (gray and channels > 1)):
        return _resized(dataset, size, gray)[torch.from_numpy(rows)]
    stored = torch.from_numpy(dataset.examples.inputs[rows])
    return transforms.standardise(stored, dataset.scale, dataset.mean, dataset.std)


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
    import torch

    parts = []
    for start in range(0, len(examples), CHUNK):
        stored = torch.from_numpy(examples.inputs[start : start + CHUNK])
        images = transforms.standardise(stored, dataset.scale, dataset.mean, dataset.std)
        images = transforms.to_grayscale(images) if gray else images
        parts.append(transforms.resize(images, size) if size is not None else images)
    return torch.cat(parts)
