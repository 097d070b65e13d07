"""What the files in `tasks/` may say: splits, suites and the task distributions in them.

Plain frozen dataclasses; `vsml_bench.config` reads them from TOML, refusing what is not a field
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
ProtocolName: TypeAlias = Literal["online", "few_shot", "cloning", "introspection"]
TrackName: TypeAlias = Literal["", "ablations", "cloning", "introspection", "robustness"]


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


@dataclass(frozen=True)
class Split:
    """One meta-train side, one meta-test side and how they relate."""

    name: str
    description: str
    relation: Relation
    meta_train: TaskDistribution
    meta_test: TaskDistribution


@dataclass(frozen=True)
class Suite:
    """A named list of splits with the learners, protocol and budgets they are run under."""

    name: str
    description: str
    splits: tuple[str, ...]
    learners: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    """Meta-train seeds of learners with meta-parameters; the others run once, as seed 0."""
    protocol: ProtocolName = "online"
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
    track: TrackName = ""
    """Whose tables its board has besides; none by default."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Learner -> fields of its `Recipe` that this suite overrides."""
