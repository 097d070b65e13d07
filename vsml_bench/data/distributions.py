"""What the sides of a split stand for: their identity, the shapes of a mixture, which tasks they
have, and that meta-testing is not on what meta-training has seen. Imports no PyTorch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from vsml_bench.config import as_plain, compact
from vsml_bench.data import datasets, transforms
from vsml_bench.data.dataset import Dataset
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import CHANGES, TaskDistribution, without_changes
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.suites import Split

OfSide: TypeAlias = Callable[[TaskDistribution], dict[str, Any]]
"""What is said of a side: its `identity`, or by `as_plain` what it says itself, for which no data
need be here."""


def identity(side: TaskDistribution) -> dict[str, Any]:
    """What the tasks of a side depend on: every field, defaults included, its data sources with
    their versions and, where they are not vsml-bench's own, their code, and the transforms."""
    entries = [datasets.find(side.location(name)) for name in side.datasets]
    return {
        **as_plain(side),
        "datasets": [[e.name, e.source.version, e.code] for e in entries],
        "transforms": transforms.VERSION,
    }


def pinned(side: TaskDistribution) -> str:
    """What the seeds of meta-test lifetimes are derived from: SHA-256 of the side, so that splits
    that share it, and all learners and seeds, see the same streams; and the same but for the change
    where one of two sides inverts, scales, mislabels, delays or switches what the other has."""
    return sha256_hex(canonical_json(compact(by_name(without_changes(side)))))


def members(side: TaskDistribution) -> tuple[TaskDistribution, ...]:
    """The plain sides that a mixture consists of, the largest last; just `side` where it is none.

    A meta-train side's tasks may come in several shapes. All lifetimes of one meta-update share
    one, so a mixture is a plain side for each pair of a class count and a size (and lifetimes of
    several datasets are told apart by `EpisodeSampler.by_classes`). What needs one
    well-defined shape, that is validation and tuning, uses the largest.
    Raises VsmlBenchError where a number is given twice: once and for all, and as a choice.
    """
    for choice, plain in (("class_counts", "classes"), ("sizes", "size")):
        if getattr(side, choice) and getattr(side, plain) is not None:
            raise VsmlBenchError(
                f"{choice}: a task distribution with `{plain}` = {getattr(side, plain)} leaves "
                "nothing to choose; give one of the two."
            )
    counts: tuple[int | None, ...] = tuple(sorted(set(side.class_counts))) or (side.classes,)
    sizes: tuple[int | None, ...] = tuple(sorted(set(side.sizes))) or (side.size,)
    return tuple(
        dataclasses.replace(side, classes=classes, size=size, class_counts=(), sizes=())
        for classes, size in product(counts, sizes)
    )


def largest(side: TaskDistribution) -> TaskDistribution:
    """The member with the most classes and, of these, the largest size; `side` if no mixture."""
    return members(side)[-1]


def by_name(side: TaskDistribution) -> TaskDistribution:
    """The same side with each dataset's name in place of the path or module that it is found by:
    what seeds and identities are made of, so that they do not depend on where a file lies."""
    names = tuple(datasets.find(side.location(name)).name for name in side.datasets)
    return dataclasses.replace(side, datasets=names, locations=())


def task_identity(distribution: TaskDistribution) -> str:
    """What the tasks of a distribution of finite diversity depend on: all fields but the
    partition, so that both sides of a split can share tasks, the diversity itself, so that
    the first n tasks of a more diverse distribution are those of a less diverse one, and what
    changes the look of lifetimes without making other tasks."""
    named = by_name(distribution)
    varying = {
        field.name: getattr(named, field.name)
        for field in dataclasses.fields(named)
        if field.name not in {"partition", "diversity", "locations", *CHANGES}
        and getattr(named, field.name) != field.default
    }
    return json.dumps(varying, sort_keys=True)


def check_disjoint(split: Split, root: Path | None = None) -> None:
    """Refuses a split whose two sides share an example.

    Examples are compared by content at their native size, before any transform, whatever datasets
    they are in. A generated dataset whose points belong to the task shares them where the sides
    share their tasks. Splits with the relation `same_tasks` share on purpose. Raises
    VsmlBenchError naming the partitions and the number of examples, UnavailableError where a
    dataset is not here.
    """
    if split.relation == "same_tasks":
        return
    train, test = _datasets(split.meta_train, root), _datasets(split.meta_test, root)
    for one, other in product(train, test):
        shared = len(set(one.example_hashes).intersection(other.example_hashes))
        if shared:
            raise VsmlBenchError(
                f"split '{split.name}': meta-train on {_name(one)} and meta-test on {_name(other)} "
                f"share {shared} examples by content; give the sides disjoint partitions "
                "or groups, or the relation 'same_tasks'."
            )
        if one.name == other.name and _shares_points(split, one):
            raise VsmlBenchError(
                f"split '{split.name}': both sides have the same tasks of finite diversity, and "
                f"with them the same points of {one.name}; set `diversity` to 0 on one side, or "
                "give the relation 'same_tasks'."
            )


def _datasets(side: TaskDistribution, root: Path | None) -> list[Dataset]:
    return [
        datasets.load(side.location(name), side.partition, root, side.groups)
        for name in side.datasets
    ]


def _shares_points(split: Split, dataset: Dataset) -> bool:
    if dataset.generator is None or not dataset.generator.points_per_task:
        return False
    sides = (split.meta_train, split.meta_test)
    finite = all(side.diversity > 0 for side in sides)
    return finite and task_identity(sides[0]) == task_identity(sides[1])


def _name(dataset: Dataset) -> str:
    return f"{dataset.name} ({dataset.partition})"
