"""Splits and suites: what their files in `tasks/` may say, and how they are found and read.

A split names two sides; a suite lists splits and spans grids of them. All are frozen dataclasses,
read from TOML by `vsml_bench.config`, which refuses what is not a field here. A user's own are
given by path: "my/split.toml", "my/suite.toml", and "my/suite.toml:NAME" for a split of a grid.
Relative paths in a file are looked for beside it, then in the working folder. Nothing here imports
torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vsml_bench import config, paths
from vsml_bench.errors import VsmlBenchError, check_path_name, closest, costs_itself
from vsml_bench.sides import TaskDistribution, find_side, read, read_tasks

SCALED = "-scaled-"
"""Stands in the name of a suite with less than its budgets, before the factor."""
LEAST_LIFETIMES, LEAST_STEPS = 2, 10
"""Of a meta-test whose budget is scaled."""

Relation: TypeAlias = Literal[
    "same_tasks",
    "unseen_tasks",
    "unseen_classes",
    "unseen_dataset",
    "unseen_shape",
    "unseen_modality",
]


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
class Grid:
    """Splits stated together: each of some meta-train sides with each of some meta-test sides."""

    name: str
    """Of each split; {meta_train} and {meta_test} stand for the last parts of the sides' names."""
    relation: Relation
    meta_train: tuple[str, ...]
    """Names of sides."""
    meta_test: tuple[str, ...]
    """Names of sides."""
    description: str = "{meta_test}"
    """Of each split; {meta_train} and {meta_test} stand for the descriptions of the sides, or their
    datasets where they have none."""
    relation_if_seen: Relation | None = None
    """The relation of splits whose meta-test datasets are all among those of meta-training; None is
    `relation`, as for all others."""
    unchanged: str = ""
    """As in `Split`, for all of them."""


@dataclass(frozen=True)
class Suite:
    """A named list of splits with the learners, protocol and budgets they are run under."""

    name: str
    description: str
    learners: tuple[str, ...]
    """Names, modules or paths of learners; `find_suite` makes the paths absolute."""
    splits: tuple[str, ...] = ()
    """Names or paths of splits; `find_suite` makes the paths absolute and adds those of `grid`."""
    grid: tuple[Grid, ...] = ()
    seeds: tuple[int, ...] = (0,)
    """Meta-train seeds of learners with meta-parameters; the others run once, as seed 0."""
    protocol: str = "online"
    lifetimes: int = 32
    """Meta-test lifetimes (few_shot: episodes) per cell, pinned: the same for every learner and
    seed."""
    steps: int = 2000
    """online: examples per lifetime, or as many as the meta-test partition has."""
    shots: int | None = None
    """few_shot: K, support examples of each of the N classes that the split's sides say."""
    queries: int | None = None
    """few_shot: Q, queries of each class."""
    options: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    """Numbers and words that a plug-in protocol has of its own."""
    time_limit: float = 1800.0
    """Seconds after which one cell's meta-test is killed, with the status `timeout`."""
    learner_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Learner -> its meta-train seeds, where they are not `seeds`."""
    study: str = ""
    """Whose tables its board has besides; none by default."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Learner -> fields of its `Recipe` that this suite overrides."""
    scale: float = 1.0
    """What meta-training and tuning budgets are multiplied with. No file says it, see `scaled`."""


def split_names() -> list[str]:
    """Names of the splits in `tasks/splits`, those in its folders as "folder/name", and of those in
    the grids of the suites in `tasks/suites`."""
    return sorted({*_names("splits"), *_shipped_grids()})


def suite_names() -> list[str]:
    """Names of the suites in `tasks/suites`."""
    return _names("suites")


def find_split(reference: str) -> Split:
    """The split of that name, in that TOML file, or, as "suite.toml:NAME", of that file's grids."""
    file, inside = paths.parts(reference)
    if inside:
        return _split_of_grid(inside, Path(file), f"{os.path.abspath(file)}:")
    if file:
        return _split(Path(file).stem, Path(file))
    if reference in _names("splits"):
        return _split(reference, paths.tasks() / "splits" / f"{reference}.toml")
    grids = _shipped_grids()
    if reference not in grids:
        raise VsmlBenchError(f"unknown split '{reference}'; {closest(reference, split_names())}")
    return _split_of_grid(reference, grids[reference], "")


def is_suite_file(reference: str) -> bool:
    """Whether it is the path of a TOML file that lists learners, as a suite does."""
    return reference.endswith(".toml") and "learners" in read(Path(reference))


def find_suite(reference: str | os.PathLike[str]) -> Suite:
    """The suite of that name, or in that TOML file."""
    if isinstance(reference, os.PathLike):
        reference = os.fspath(reference)
    if not isinstance(reference, str):
        raise VsmlBenchError(
            f"suite: expected a name or the path of a TOML file, found a {type(reference).__name__}"
            "; write it into a file."
        )
    if reference.endswith(".toml"):
        path = Path(reference)
        name, prefix = path.stem, f"{os.path.abspath(path)}:"
    else:
        known = suite_names()
        if reference not in known:
            raise VsmlBenchError(f"unknown suite '{reference}'; {closest(reference, known)}")
        path = paths.tasks() / "suites" / f"{reference}.toml"
        name, prefix = reference, ""
    suite = config.build(Suite, _named(name, path), path.name)
    listed = [paths.located(split, path) for split in suite.splits]
    for split in listed:
        if reason := paths.missing(split):
            raise VsmlBenchError(
                f"{path.name}: splits: {os.path.basename(split)} does not exist: {reason}"
            )
    return replace(
        suite,
        splits=(*listed, *(prefix + split for split in _pairs(path))),
        learners=tuple(paths.located(learner, path) for learner in suite.learners),
    )


def scaled(suite: Suite, scale: float) -> Suite:
    """The suite with its budgets multiplied, to see that a long run would work: meta-updates, pairs
    of a population, tuning and the meta-test, each with a little left. It has a name of its own,
    and its cells have keys of their own, so that they are on no other board."""
    if scale == 1.0:
        return suite
    if not 0 < scale < 1:
        raise VsmlBenchError(f"--scale: expected more than 0 and at most 1, found {scale:g}.")
    return replace(
        suite,
        name=f"{suite.name}{SCALED}{scale:g}",
        lifetimes=max(min(suite.lifetimes, LEAST_LIFETIMES), round(suite.lifetimes * scale)),
        steps=max(min(suite.steps, LEAST_STEPS), round(suite.steps * scale)),
        scale=scale,
    )


def splits_of(suite: Suite, only: Iterable[str] = ()) -> list[Split]:
    """The suite's splits, each once, or those of them that `only` gives the names or paths of.

    Raises VsmlBenchError where one is unknown or two have the same name.
    """
    found = {reference: find_split(reference) for reference in suite.splits}
    by_name: dict[str, Split] = {}
    for split in found.values():
        if split.name in by_name:
            raise VsmlBenchError(
                f"suite '{suite.name}': splits: two are called '{split.name}'; rename one."
            )
        by_name[split.name] = split
    chosen = []
    for wanted in only:
        split_found = by_name.get(wanted) or found.get(paths.located(wanted, Path()))
        if split_found is None:
            raise VsmlBenchError(
                f"suite '{suite.name}' has no split '{wanted}'; {closest(wanted, by_name)}"
            )
        chosen.append(split_found.name)
    return [by_name[name] for name in dict.fromkeys(chosen or by_name)]


def _named(name: str, path: Path) -> dict[str, Any]:
    """What the file says. Its name names it: another one inside could lead out of a folder."""
    values = read(path)
    if "name" in values:
        raise VsmlBenchError(f"{path.name}: name: it is called after its file; leave this out.")
    if "scale" in values:
        raise VsmlBenchError(f"{path.name}: scale: it is an option of commands; leave this out.")
    return {"name": name, **values}


def _split(name: str, path: Path) -> Split:
    values = _named(name, path)
    for key in ("meta_train", "meta_test"):
        if key in values:
            values[key] = read_tasks(values[key], path, f"{path.name}: {key}")
    split = config.build(Split, values, path.name)
    check_path_name(split.name, f"{path.name}: name of the split")
    return replace(split, unchanged=paths.located(split.unchanged, path))


def _pairs(path: Path) -> dict[str, tuple[Grid, str, str]]:
    """The splits of the grids in a suite's file by name: grid, meta-train and meta-test side."""
    where = f"{path.name}: grid"
    found: dict[str, tuple[Grid, str, str]] = {}
    for grid in config.convert(tuple[Grid, ...], read(path).get("grid", []), where):
        for train, test in product(grid.meta_train, grid.meta_test):
            # a side's name without its file
            name = _filled(grid.name, *(re.split("[/:]", side)[-1] for side in (train, test)))
            check_path_name(name, f"{where}: name")
            if name in found:
                raise VsmlBenchError(
                    f"{where}: name: two splits are called '{name}'; put {{meta_train}} and "
                    "{meta_test} into the name so that each has another."
                )
            found[name] = grid, train, test
    return found


def _filled(template: str, meta_train: str, meta_test: str) -> str:
    return template.replace("{meta_train}", meta_train).replace("{meta_test}", meta_test)


def _shipped_grids() -> dict[str, Path]:
    """The splits that grids of shipped suites have: name -> the suite's file. A broken file costs
    its own, with a warning."""
    found: dict[str, Path] = {}
    files = set(_names("splits"))
    for path in paths.shipped(paths.tasks() / "suites", "toml"):
        names: Iterable[str] = ()
        with costs_itself(path.name):
            names = _pairs(path)
        for name in names:
            if name in found or name in files:
                raise VsmlBenchError(
                    f"{path.name}: grid: there is a split '{name}' already; a suite can have it "
                    "in its `splits` without a grid."
                )
            found[name] = path
    return found


def _split_of_grid(name: str, path: Path, prefix: str) -> Split:
    """prefix: what stands before the names of this file's splits in references to them."""
    pairs = _pairs(path)
    if name not in pairs:
        raise VsmlBenchError(f"{path.name}: no grid has the split '{name}'; {closest(name, pairs)}")
    grid, *sides = pairs[name]
    train = find_side(sides[0], path, f"{path.name}: grid: meta_train")
    test = find_side(sides[1], path, f"{path.name}: grid: meta_test")
    seen = set(test.tasks.datasets) <= set(train.tasks.datasets)
    unchanged = grid.unchanged
    unchanged = prefix + unchanged if unchanged in pairs else paths.located(unchanged, path)
    description = _filled(grid.description, train.description, test.description)
    relation = (seen and grid.relation_if_seen) or grid.relation
    return Split(name, description, relation, train.tasks, test.tasks, unchanged)


def _names(folder: str) -> list[str]:
    top = paths.tasks() / folder
    files = paths.shipped(top, "toml")
    return [path.relative_to(top).with_suffix("").as_posix() for path in files]
