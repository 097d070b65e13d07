"""One partition of a dataset in memory: its statistics, its content hash, and parts of it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.source import Array, Examples, Generated, Modality
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.sides import PartitionName
from vsml_bench.storage import canonical_json, sha256_hex

StatisticsFrom: TypeAlias = Literal["train", "test", "none"]
Subset: TypeAlias = Literal["all", "fit", "validation", "fit_classes", "validation_classes"]
"""What meta-training holds out of its partition for validation, and what is left."""


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
    generator: Generated | None
    """None where examples are stored."""
    scale: float
    """The stored value that counts as 1; `mean` and `std` are in units of it."""
    mean: tuple[float, ...]
    """Over the train partition, or over what `statistics_from` says: one number for images, one per
    feature for vectors."""
    std: tuple[float, ...]
    """Standard deviation over the same examples; 1 where nothing varies."""
    statistics_from: StatisticsFrom
    """"test" where the train partition is not here, "none" for generated examples."""
    reference: Examples | None = None
    """The examples that the statistics come from: the train partition's where it is here."""
    code: str = ""
    """SHA-256 of the file of a generator that is not this package's own."""

    @property
    def is_fixed_list(self) -> bool:
        """Whether it is a fixed list of few-shot episodes."""
        return self.examples is not None and self.examples.support is not None

    @property
    def example_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each example's content, in order; empty for generated examples."""
        return self.examples.example_hashes if self.examples is not None else ()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over all that lifetimes are made of: inputs, labels, their order, and the
        statistics that they are standardised with; name, partition and version where generated,
        and the code where it is somebody else's. Where files lie has no part in it."""
        header = [self.scale, self.mean, self.std, self.classes]
        if self.generator is not None:
            version = [str(self.generator.version), *([self.code] if self.code else [])]
            return sha256_hex(canonical_json([self.name, self.partition, *version, *header]))
        assert self.examples is not None
        digest = hashlib.sha256(sha256_hex(canonical_json(header)).encode())
        for example in self.examples.example_hashes:
            digest.update(example)
        digest.update(self.examples.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def statistics_of(inputs: Array, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of all values of uint8 images, over `scale`, or of each feature
    (column) of float32 [n, features]. Sums are exact, so that every machine gets the same."""
    if inputs.ndim == 2:
        columns = inputs.astype(np.float64).T
        means = [math.fsum(column) / len(column) for column in columns]
        stds = [
            # A constant feature keeps its size: rounding must not make its deviation a tiny number.
            math.sqrt(math.fsum((column - mean) ** 2) / len(column)) if np.ptp(column) else 1.0
            for column, mean in zip(columns, means, strict=True)
        ]
        return tuple(means), tuple(stds)
    counts = np.zeros(256, np.int64)
    for start in range(0, len(inputs), 4096):  # bincount makes eight bytes of each
        counts += np.bincount(inputs[start : start + 4096].ravel(), minlength=256)
    n = int(counts.sum())
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    std = math.sqrt(max(n * squares - total * total, 0)) / n
    return (total / n / scale,), (std / scale or 1.0,)


def keep_groups(dataset: Dataset, groups: tuple[str, ...]) -> Dataset:
    """The dataset with the classes of `groups` alone, relabelled in their order from 0.

    It keeps the statistics of the whole, so that both sides of a split that divides one partition
    are standardised alike. VsmlBenchError for a group that the dataset does not have.
    """
    where = f"dataset '{dataset.name}' ({dataset.partition})"
    if dataset.examples is None or not dataset.examples.groups:
        raise VsmlBenchError(f"{where} has no groups to choose from; leave `groups` out.")
    examples = dataset.examples
    for group in groups:
        if group not in examples.groups:
            known = sorted(set(examples.groups))
            raise VsmlBenchError(f"{where} has no group '{group}'; {closest(group, known)}")
    kept = np.flatnonzero(np.isin(examples.groups, groups))
    rows = np.flatnonzero(np.isin(examples.labels, kept))
    chosen = Examples(
        examples.inputs[rows],
        np.searchsorted(kept, examples.labels[rows]).astype(np.int64),
        len(kept),
        tuple(examples.groups[k] for k in kept),
        None if examples.support is None else examples.support[rows],
    )
    return dataclasses.replace(dataset, classes=len(kept), examples=chosen)


def subset_rows(dataset: Dataset, subset: Subset, ways: int) -> NDArray[np.int64]:
    """Row numbers of a subset.

    "validation" is the last sixth in the order of content hashes, "fit" the rest, with duplicates
    on one side; "all" is both. "validation_classes" and "fit_classes" divide the classes instead,
    in the order of their examples' lowest hashes, and leave at least `ways` of them on each side;
    VsmlBenchError where there are too few.
    """
    if subset in ("fit_classes", "validation_classes"):
        return _rows_of_classes(dataset, subset, ways)
    hashes = dataset.example_hashes
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    cut = len(order) - len(order) // 6
    while 0 < cut < len(order) and hashes[order[cut]] == hashes[order[cut - 1]]:
        cut += 1
    start, stop = {"all": (0, len(order)), "fit": (0, cut), "validation": (cut, len(order))}[subset]
    return np.array(order[start:stop], np.int64)


def _rows_of_classes(dataset: Dataset, subset: Subset, ways: int) -> NDArray[np.int64]:
    assert dataset.examples is not None
    labels = dataset.examples.labels
    lowest: dict[int, bytes] = {}
    for label, content in zip(labels.tolist(), dataset.example_hashes, strict=True):
        lowest[label] = min(content, lowest.get(label, content))
    order = sorted(lowest, key=lowest.__getitem__)
    if len(order) < 2 * ways:
        raise VsmlBenchError(
            f"{ways}-way few-shot meta-training holds at least {ways} classes out for validation; "
            f"dataset '{dataset.name}' ({dataset.partition}) has {len(order)} classes here, and "
            f"{2 * ways} are needed."
        )
    cut = len(order) - max(len(order) // 6, ways)
    return np.flatnonzero(np.isin(labels, order[:cut] if subset == "fit_classes" else order[cut:]))
