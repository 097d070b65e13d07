"""The guard against meta-testing on what meta-training has seen."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from vsml_bench.data.datasets import load
from vsml_bench.data.episodes import task_identity
from vsml_bench.data.source import Dataset
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Split


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
    return [load(name, side.partition, root, side.groups) for name in side.datasets]


def _shares_points(split: Split, dataset: Dataset) -> bool:
    if dataset.generator is None or not dataset.generator.points_per_task:
        return False
    sides = (split.meta_train, split.meta_test)
    finite = all(side.diversity > 0 for side in sides)
    return finite and task_identity(sides[0]) == task_identity(sides[1])


def _name(dataset: Dataset) -> str:
    return f"{dataset.name} ({dataset.partition})"
