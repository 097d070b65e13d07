"""What the files in `tasks/` may say: splits, suites and the task distributions in them.

Plain frozen dataclasses; `vsml_bench.config` reads them from TOML, refusing what is not a field
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

Relation: TypeAlias = Literal[
    "same_tasks",
    "unseen_tasks",
    "unseen_classes",
    "unseen_dataset",
    "unseen_shape",
    "unseen_modality",
]
PartitionName: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True)
class TaskDistribution:
    """One side of a split: what tasks are sampled from. A task is a dataset together with one draw
    of each transform below; every lifetime draws a task of its own."""

    datasets: tuple[str, ...]
    """Names of datasets; each task uses one of them, all equally often."""
    partition: PartitionName
    """Which of the dataset's two disjoint partitions the examples come from."""
    size: int | None = None
    """Images are resized to size x size; None keeps the dataset's own size."""
    classes: int | None = None
    """Number of classes of a task, drawn per task and relabelled 0..classes-1; None takes all."""
    projection: float = 0.0
    """Share of tasks that see each example through a dense random projection of their own."""
    pixel_shuffle: float = 0.0
    """Share of tasks that see each example through a random permutation of its inputs."""
    label_permutation: bool = False
    """Whether each task renames its labels by a random permutation."""
    groups: tuple[str, ...] = ()
    """Only classes of these groups, such as alphabets; () takes all."""
    rotations: bool = False
    """Whether each class becomes four: as it is and turned by 90, 180 and 270 degrees."""
    diversity: int = 0
    """Number of distinct tasks (draws of dataset and transforms); 0 is unlimited."""
    class_counts: tuple[int, ...] = ()
    """Only of a meta-train side, instead of `classes`: each meta-update draws one of these."""
    sizes: tuple[int, ...] = ()
    """Only of a meta-train side, instead of `size`: each meta-update draws one of these."""
    invert: bool = False
    """Whether the contrast is inverted: each standardised input x becomes -x."""
    scale: float = 1.0
    """What each input is multiplied with, after all else."""
    label_noise: float = 0.0
    """Share of observed labels that are replaced by another class of the task, uniformly drawn.
    Predictions are scored against the true labels."""
    late_class: bool = False
    """Whether one class, drawn per lifetime, appears only in the second half of the lifetime."""
    switch: bool = False
    """Whether projection, pixel shuffle and label permutation are drawn anew at half of each
    lifetime; the examples go on as if nothing had happened."""


CHANGES = frozenset({"invert", "scale", "label_noise", "late_class", "switch"})
"""Fields that change what lifetimes look like, and not which tasks and lifetimes they are."""


def without_changes(side: TaskDistribution) -> TaskDistribution:
    """The same tasks and lifetimes as they are without any of `CHANGES`."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(side) if f.name in CHANGES}
    return replace(side, **defaults)


@dataclass(frozen=True)
class Split:
    """One meta-train side, one meta-test side and how they relate."""

    name: str
    description: str
    relation: Relation
    meta_train: TaskDistribution
    meta_test: TaskDistribution
    unchanged: str = ""
    """The split that this one is with one change; "" for none. The same learner's scores on both
    are what an invariance card compares."""


@dataclass(frozen=True)
class Suite:
    """A named list of splits with the learners, protocol and budgets they are run under."""

    name: str
    description: str
    splits: tuple[str, ...]
    learners: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    """Meta-train seeds of learners with meta-parameters; the others run once, as seed 0."""
    protocol: str = "online"
    """A protocol's name, `path/to/file.py:ClassName` or `package.module:ClassName`."""
    lifetimes: int = 32
    """Meta-test lifetimes (few_shot: episodes) per cell, pinned: the same for every learner and
    seed."""
    steps: int = 2000
    """online: examples per lifetime, or as many as the meta-test partition has."""
    shots: int | None = None
    """few_shot: K, support examples of each of the N classes that the split's sides say."""
    queries: int | None = None
    """few_shot: Q, queries of each class."""
    time_limit: float = 1800.0
    """Seconds after which one cell's meta-test is killed, with the status `timeout`."""
    learner_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Learner -> its meta-train seeds, where they are not `seeds`."""
    track: str = ""
    """The study whose sections its board has besides; none by default."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of a protocol that has others than `steps`, `shots` and `queries`."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Learner -> fields of its `Recipe` that this suite overrides."""
