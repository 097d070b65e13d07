"""From a suite to the cells it consists of, each with the hash of all that it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench.config import identity, replace
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.leakage import check_disjoint
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.evaluation.cell import CellId
from vsml_bench.evaluation.conformance import probe
from vsml_bench.learner import Recipe
from vsml_bench.meta_training.job import MetaTrainingJob
from vsml_bench.registry import LearnerEntry, find_learners, find_split
from vsml_bench.specs import Split, Suite, TaskDistribution
from vsml_bench.storage import canonical_json


@dataclass(frozen=True)
class CellPlan:
    """One cell that today's code, data and configuration would run. It can be sent to another
    process."""

    id: CellId
    split: Split
    reference: str
    """What finds the learner in another process."""
    config: dict[str, Any]
    recipe: Recipe | None
    relation: str
    protocol: str
    lifetimes: int
    steps: int
    time_limit: float
    family: str
    has_meta_parameters: bool
    data_hashes: dict[str, str]
    meta_train_hash: str
    hashes: dict[str, str]
    """What the cell depends on, part by part: split, data, learner, config, recipe, protocol."""
    unavailable: str
    """Why data or a package that the learner needs cannot be had; "" where they can."""

    @property
    def key(self) -> str:
        """SHA-256 over all of `hashes`."""
        return _sha256(self.hashes)


def plan_suite(
    suite: Suite,
    root: Path | None = None,
    *,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
) -> list[CellPlan]:
    """All cells of a suite.

    splits, seeds: keep only these. learners: run these instead of the suite's own: names or
    `path/to/file.py:ClassName`. extra_learners: run these as well. overrides: configuration fields
    of the learners that run. Raises VsmlBenchError for unknown names and for splits whose two
    sides share examples.
    """
    _check_numbers(suite)
    for name in splits:
        if name not in suite.splits:
            raise VsmlBenchError(
                f"suite '{suite.name}' has no split '{name}'; {closest(name, suite.splits)}"
            )
    names = [*(learners or suite.learners), *extra_learners]
    entries = _distinct(entry for name in names for entry in find_learners(name))
    if overrides:
        entries = [entry.overridden(overrides) for entry in entries]
    for entry in entries:
        if not entry.unavailable:
            probe(entry)
    for name in suite.recipes:
        if name not in suite.learners:
            raise VsmlBenchError(
                f"suite '{suite.name}': recipes: '{name}' is not among its learners; "
                f"{closest(name, suite.learners)}"
            )
    plans = []
    for name in dict.fromkeys(splits or suite.splits):
        split = find_split(name)
        sides = _Sides(split, root)
        for entry in entries:
            recipe = recipe_of(entry, suite)
            for seed in dict.fromkeys(seeds or suite.seeds) if entry.has_meta_parameters else (0,):
                plans.append(_plan(suite, sides, entry, recipe, seed))
    return plans


def _check_numbers(suite: Suite) -> None:
    for field in ("lifetimes", "steps", "time_limit"):
        if not getattr(suite, field) > 0:
            raise VsmlBenchError(
                f"suite '{suite.name}': {field}: expected more than 0, found "
                f"{getattr(suite, field)}."
            )
    for field in ("splits", "learners", "seeds"):
        if not getattr(suite, field):
            raise VsmlBenchError(f"suite '{suite.name}': {field}: expected at least one.")


def _distinct(entries: Iterable[LearnerEntry]) -> list[LearnerEntry]:
    """Each learner once, however often it was named."""
    found: dict[str, LearnerEntry] = {}
    for entry in entries:
        other = found.setdefault(entry.name, entry)
        if other.cls is not entry.cls:
            raise VsmlBenchError(
                f"two of the learners to run are called '{entry.name}', from {other.origin} and "
                f"{entry.origin}; rename one in its `variants`."
            )
    return list(found.values())


def recipe_of(entry: LearnerEntry, suite: Suite | None = None) -> Recipe | None:
    """How the learner is meta-trained: its own recipe with what the suite overrides."""
    recipe = entry.cls.recipe
    overrides = suite.recipes.get(entry.name) if suite is not None else None
    if recipe is None or overrides is None:
        return recipe
    assert suite is not None
    return replace(recipe, overrides, f"suite '{suite.name}': recipes.{entry.name}")


def job_of(plan: CellPlan, entry: LearnerEntry) -> MetaTrainingJob:
    """The meta-training that a cell starts from; cells with equal ones share it."""
    return MetaTrainingJob(entry, plan.split.meta_train, plan.id.seed, plan.recipe)


class _Sides:
    """A split's data as far as this machine has them, looked at once for all its cells."""

    def __init__(self, split: Split, root: Path | None) -> None:
        self.split = split
        self.unavailable = ""
        self.hashes: dict[str, str] = {}
        self.max_steps: int | None = None
        self.meta_train_hash = ""
        try:
            train = EpisodeSampler(split.meta_train, root=root)
            test = EpisodeSampler(split.meta_test, root=root)
        except UnavailableError as error:
            self.unavailable = str(error)
            return
        check_disjoint(split, root)
        for side, sampler in (("meta_train", train), ("meta_test", test)):
            for dataset, content in sampler.content_hashes.items():
                self.hashes[f"{side}/{dataset}"] = content
        self.max_steps = test.max_steps
        self.meta_train_hash = _sha256([_side(split.meta_train), train.content_hashes])


def _plan(
    suite: Suite, sides: _Sides, entry: LearnerEntry, recipe: Recipe | None, seed: int
) -> CellPlan:
    split = sides.split
    steps = min(suite.steps, sides.max_steps or suite.steps)
    job = MetaTrainingJob(entry, split.meta_train, seed, recipe)
    hashes = {
        "split": _sha256([split.relation, _side(split.meta_train), _side(split.meta_test)]),
        "data": _sha256(sides.hashes),
        "learner": entry.source_hash(),
        "config": _sha256(identity(entry.config)),
        "meta_training": job.key,
        "protocol": _sha256([suite.protocol, suite.lifetimes, steps]),
    }
    return CellPlan(
        id=CellId(suite.name, split.name, entry.name, seed),
        split=split,
        reference=entry.reference,
        config=entry.plain_config(),
        recipe=recipe,
        relation=split.relation,
        protocol=suite.protocol,
        lifetimes=suite.lifetimes,
        steps=steps,
        time_limit=suite.time_limit,
        family=entry.cls.family,
        has_meta_parameters=entry.has_meta_parameters,
        data_hashes=sides.hashes,
        meta_train_hash=sides.meta_train_hash,
        hashes=hashes,
        unavailable=sides.unavailable or entry.unavailable,
    )


def meta_test_axes(distribution: TaskDistribution) -> tuple[str, str]:
    """What pins the meta-test lifetimes: the meta-test side alone, so that splits that share it,
    and all learners and seeds, see the same streams."""
    return "meta-test", _sha256(_side(distribution))


def _side(distribution: TaskDistribution) -> Any:
    return identity(distribution)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def unique_jobs(plans: Iterable[CellPlan]) -> dict[str, CellPlan]:
    """One cell for each distinct meta-training among those whose data are here."""
    return {
        plan.hashes["meta_training"]: plan for plan in reversed(list(plans)) if not plan.unavailable
    }
