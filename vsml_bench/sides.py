"""Sides: named task distributions, each written once, in the tables of `tasks/sides/*.toml`.

"train/mnist5k" is the table `mnist5k` of `tasks/sides/train.toml`, and "my/sides.toml:NAME" a table
of a user's own file. Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vsml_bench import config, paths
from vsml_bench.errors import UnavailableError, VsmlBenchError, check_name, closest, costs_itself

PartitionName: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True)
class TaskDistribution:
    """One side of a split: what tasks are sampled from. A task is a dataset together with one draw
    of each transform below; every lifetime draws a task of its own."""

    datasets: tuple[str, ...]
    """Names or paths of datasets; each task uses one of them, all equally often. Of an absolute
    path only the last part is kept, so that no record depends on a machine's folders."""
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
    locations: tuple[tuple[str, str], ...] = field(
        default=(), compare=False, repr=False, metadata=config.NOT_STORED
    )
    """Those of `datasets` that are given by a path, each with the absolute path; not in files."""

    def location(self, dataset: str) -> str:
        """What finds one of `datasets`: its name, or the absolute path of one given by a path.

        Raises UnavailableError, which says where was looked, where there is no such file.
        """
        found = dict(self.locations).get(dataset, dataset)
        if found != dataset and (reason := paths.missing(found)):
            raise UnavailableError(f"dataset {dataset} does not exist: {reason}")
        return found

    def check(self) -> None:
        """VsmlBenchError where a number is outside of what it can be."""
        shares = {"projection": "tasks", "pixel_shuffle": "tasks", "label_noise": "labels"}
        for share, of in shares.items():
            value = getattr(self, share)
            if not 0 <= value <= 1:
                raise VsmlBenchError(
                    f"{share}: expected a share of {of} from 0 to 1, found {value}."
                )
        for number, least in (("size", 1), ("classes", 2), ("diversity", 0)):
            value = getattr(self, number)
            if value is not None and value < least:
                raise VsmlBenchError(f"{number}: expected at least {least}, found {value}.")
        if not 0 < self.scale < math.inf:
            raise VsmlBenchError(f"scale: expected more than 0, found {self.scale}.")
        drawn = self.projection or self.pixel_shuffle or self.label_permutation
        if self.switch and (self.diversity or not drawn):
            raise VsmlBenchError(
                "switch: needs something that is drawn anew, without limit: `projection`, "
                "`pixel_shuffle` or `label_permutation`, and no `diversity`."
            )


CHANGES = frozenset({"invert", "scale", "label_noise", "late_class", "switch"})
"""Fields that change what lifetimes look like, and not which tasks and lifetimes they are."""


def without_changes(side: TaskDistribution) -> TaskDistribution:
    """The same tasks and lifetimes as they are without any of `CHANGES`."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(side) if f.name in CHANGES}
    return replace(side, **defaults)


@dataclass(frozen=True)
class Side:
    """A named task distribution."""

    name: str
    """The last part of what it is found by."""
    tasks: TaskDistribution
    description: str
    """Its own, or else its datasets; grids put it into the descriptions of their splits."""


def side_names() -> list[str]:
    """Names of the sides in `tasks/sides`. A broken file costs its own, with a warning."""
    found: list[str] = []
    for file in paths.shipped(paths.tasks() / "sides", "toml"):
        with costs_itself(file.name):
            found += [f"{file.stem}/{table}" for table in read(file)]
    return found


def find_side(reference: str, beside: Path, where: str, users: tuple[str, ...] = ()) -> Side:
    """The side that a TOML file names.

    beside: the file. where: what to call the place in it in errors. users: the sides that are
    `like` this one. Raises VsmlBenchError where there is none.
    """
    reference = paths.located(reference, beside)
    if reference in users:
        raise VsmlBenchError(f"{where}: '{os.path.basename(reference)}' would be like itself.")
    file, name = paths.parts(reference)
    path = Path(file)
    if not file:
        family, _, name = reference.partition("/")
        path = paths.tasks() / "sides" / f"{family}.toml"
    if (not file and not path.is_file()) or name not in read(path):
        given = os.path.basename(reference) if file else reference
        known = [f"{path.name}:{table}" for table in read(path)] if file else side_names()
        raise VsmlBenchError(f"{where}: unknown side '{given}'; {closest(given, known)}")
    where = f"{path.name}: {name}"
    check_name(name, f"{path.name}: name of a side")
    values = config.convert(dict[str, Any], read(path)[name], where)
    description = config.convert(str, values.pop("description", ""), f"{where}: description")
    tasks = read_tasks(values, path, where, (*users, reference))
    return Side(name, tasks, description or ", ".join(tasks.datasets))


def read_tasks(
    values: Any, beside: Path, where: str, users: tuple[str, ...] = ()
) -> TaskDistribution:
    """What a TOML file gives for a side: a name, or a table with the fields of `TaskDistribution`
    and perhaps `like`, a side whose values count where the table has no others.

    beside, where, users: as in `find_side`.
    """
    if isinstance(values, str):
        return find_side(values, beside, where, users).tasks
    values = config.convert(dict[str, Any], values, where)
    like = config.convert(str | None, values.pop("like", None), f"{where}: like")
    if like is None:
        tasks = config.build(TaskDistribution, values, where)
    else:
        base = find_side(like, beside, f"{where}: like", users).tasks
        tasks = config.replace(base, values, where)
    try:
        tasks.check()
    except VsmlBenchError as error:
        raise VsmlBenchError(f"{where}: {error}") from None
    return _with_locations(tasks, beside) if "datasets" in values else tasks


def _with_locations(tasks: TaskDistribution, beside: Path) -> TaskDistribution:
    names: list[str] = []
    locations: dict[str, str] = {}
    for reference in tasks.datasets:
        name, location = reference, paths.located(reference, beside)
        if os.path.isabs(reference):
            inside = paths.parts(reference)[1]
            name = os.path.basename(paths.parts(reference)[0].rstrip("/"))
            name = f"{name}:{inside}" if inside else name
        if locations.setdefault(name, location) != location:
            raise VsmlBenchError(
                f"{beside.name}: datasets: two are called '{name}'; give them relative paths."
            )
        names.append(name)
    given = tuple((name, place) for name, place in locations.items() if place != name)
    return replace(tasks, datasets=tuple(names), locations=given)


def read(path: Path) -> dict[str, Any]:
    """A TOML file's content, which must not be changed; shipped files are read once in a process.

    Raises VsmlBenchError where it cannot be read or is not TOML.
    """
    if path.is_relative_to(paths.tasks()):
        return _read_once(path)
    if reason := paths.missing(str(path)):
        raise VsmlBenchError(f"cannot read {path.name}: {reason}")
    return config.read_toml(path)


_read_once = lru_cache(maxsize=None)(config.read_toml)
