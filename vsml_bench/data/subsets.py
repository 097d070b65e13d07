"""What meta-training holds out of its partition for validation."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.source import Dataset
from vsml_bench.errors import VsmlBenchError

Subset: TypeAlias = Literal["all", "fit", "validation", "fit_classes", "validation_classes"]


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
