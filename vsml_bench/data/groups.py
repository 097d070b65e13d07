"""Part of a dataset: the classes of some groups, such as the characters of some alphabets."""

from __future__ import annotations

import dataclasses

import numpy as np

from vsml_bench.data.source import Dataset, Examples
from vsml_bench.errors import VsmlBenchError, closest


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
