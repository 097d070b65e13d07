"""From a suite to the cells it consists of, each with the hash of all that it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench.config import identity
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.sides import by_name, check_disjoint, largest
from vsml_bench.data.transforms import check_fits
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.evaluation.cell import CellId
from vsml_bench.evaluation.conformance import probe
from vsml_bench.learner import Recipe, Shape
from vsml_bench.meta_training.job import MetaTrainingJob, change_recipe
from vsml_bench.protocols.cloning import Cloning
from vsml_bench.protocols.evaluation import lifetime_seeds
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.protocols.introspection import Introspection
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import Protocol
from vsml_bench.registry import LearnerEntry, find_learners, find_split
from vsml_bench.specs import ProtocolName, Split, Suite, TaskDistribution, without_changes
from vsml_bench.storage import canonical_json

STREAMS: Mapping[ProtocolName, type[Online]] = {
    "online": Online,
    "cloning": Cloning,
    "introspection": Introspection,
}
"""Protocols whose lifetimes are streams."""


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
    unchanged: str
    """The split that its own is with one change, by name; "" for none."""
    protocol: str
    few_shot: FewShot | None
    """The episodes of its meta-training; None is the online protocol."""
    meta_test_protocol: Protocol
    lifetimes: int
    steps: int
    """Scored predictions of a lifetime."""
    fixed_episodes: bool
    """Whether the meta-test lifetimes are a fixed list."""
    time_limit: float
    family: str
    has_meta_parameters: bool
    data_hashes: dict[str, str]
    meta_train_hash: str
    hashes: dict[str, str]
    """What the cell depends on, part by part: split, data, learner, config, recipe, protocol."""
    unavailable: str
    """Why data or a package that the learner needs cannot be had, or why it cannot take the split's
    examples; "" where it can run."""

    @property
    def key(self) -> str:
        """SHA-256 over all of `hashes`."""
        return _sha256(self.hashes)

    @property
    def meta_test_seeds(self) -> list[int]:
        """Seeds of the pinned meta-test lifetimes; numbers of episodes where they are a list."""
        if self.fixed_episodes:
            return list(range(self.lifetimes))
        return lifetime_seeds(self.lifetimes, *meta_test_axes(self.split.meta_test))


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

    splits, seeds: keep only these. learners: run these instead of all of the suite's own: names or
    `path/to/file.py:ClassName`. extra_learners: run these as well. overrides: configuration fields
    of the learners that run. Raises VsmlBenchError for unknown names and for splits whose two
    sides share examples.
    """
    check_numbers(suite)
    for name in splits:
        if name not in suite.splits:
            raise VsmlBenchError(
                f"suite '{suite.name}' has no split '{name}'; {closest(name, suite.splits)}"
            )
    inside = _inside_places(suite)
    names = [*(learners or suite.learners), *extra_learners]
    entries = _distinct(
        entry
        for name in names
        for entry in ([inside[name]] if name in inside else find_learners(name))
    )
    if overrides:
        entries = [entry.overridden(overrides) for entry in entries]
    for entry in entries:
        check_protocol(entry, suite)
        if not entry.unavailable:
            probe(entry)
    for field in ("recipes", "learner_seeds"):
        for name in getattr(suite, field):
            if name not in suite.learners and name not in inside:
                raise VsmlBenchError(
                    f"suite '{suite.name}': {field}: '{name}' is not among its learners; "
                    f"{closest(name, [*suite.learners, *inside])}"
                )
    plans = []
    for name in dict.fromkeys(splits or suite.splits):
        split = find_split(name)
        sides = _Sides(split, root, suite)
        for entry in entries:
            recipe = recipe_of(entry, suite)
            own = seeds or suite.learner_seeds.get(entry.name, suite.seeds)
            for seed in dict.fromkeys(own) if entry.has_meta_parameters else (0,):
                plans.append(_plan(suite, sides, entry, recipe, seed))
    return plans


def check_numbers(suite: Suite) -> None:
    """VsmlBenchError for numbers that make no sense, or not under the suite's protocol."""
    for field in ("lifetimes", "steps", "time_limit"):
        if not getattr(suite, field) > 0:
            raise VsmlBenchError(
                f"suite '{suite.name}': {field}: expected more than 0, found "
                f"{getattr(suite, field)}."
            )
    for field in ("splits", "learners", "seeds"):
        if not getattr(suite, field):
            raise VsmlBenchError(f"suite '{suite.name}': {field}: expected at least one.")
    if suite.protocol == "few_shot" and suite.steps != Suite.steps:
        raise VsmlBenchError(
            f"suite '{suite.name}': steps: few_shot episodes are as long as `shots` and `queries` "
            "make them; leave steps out."
        )
    for field in ("shots", "queries"):
        value = getattr(suite, field)
        if suite.protocol != "few_shot" and value is not None:
            raise VsmlBenchError(
                f"suite '{suite.name}': {field}: the protocol '{suite.protocol}' has none; "
                'leave it out, or set protocol = "few_shot".'
            )
        if suite.protocol == "few_shot" and (value is None or value < 1):
            found = "none" if value is None else value
            raise VsmlBenchError(
                f"suite '{suite.name}': {field}: few_shot needs at least 1, found {found}."
            )


def _inside_places(suite: Suite) -> dict[str, LearnerEntry]:
    """Name -> learner, of those that the suite names by the file or module that defines them."""
    places = [name for name in suite.learners if "." in name]
    return {entry.name: entry for place in places for entry in find_learners(place)}


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
    return change_recipe(recipe, overrides, f"suite '{suite.name}': recipes.{entry.name}")


def check_protocol(entry: LearnerEntry, suite: Suite) -> None:
    """VsmlBenchError where the learner cannot be run under the suite's protocol."""
    asked = "online" if suite.protocol == "introspection" else suite.protocol
    if asked not in entry.cls.protocols:
        known = ", ".join(sorted(entry.cls.protocols))
        raise VsmlBenchError(
            f"learner '{entry.name}' cannot be run in suite '{suite.name}', whose protocol is "
            f"'{suite.protocol}': it knows only {known}."
        )


def few_shot_of(suite: Suite, side: TaskDistribution, where: str) -> FewShot | None:
    """The episodes of a suite on one side of a split; None where its protocol is another.

    where: what to call the side in the VsmlBenchError that it gets without `classes`.
    """
    if suite.protocol != "few_shot":
        return None
    if side.classes is None:
        raise VsmlBenchError(
            f"suite '{suite.name}' is few_shot, but {where} does not say how many classes a task "
            "has; give it `classes`."
        )
    assert suite.shots is not None and suite.queries is not None
    return FewShot(side.classes, suite.shots, suite.queries)


def job_of(plan: CellPlan, entry: LearnerEntry) -> MetaTrainingJob:
    """The meta-training that a cell starts from; cells with equal ones share it."""
    return MetaTrainingJob(entry, plan.split.meta_train, plan.id.seed, plan.recipe, plan.few_shot)


class _Sides:
    """A split's data as far as this machine has them, looked at once for all its cells."""

    def __init__(self, split: Split, root: Path | None, suite: Suite) -> None:
        self.split = split
        self.few_shot = few_shot_of(suite, split.meta_train, f"meta_train of '{split.name}'")
        few_shot = few_shot_of(suite, split.meta_test, f"meta_test of '{split.name}'")
        self.protocol: Protocol = few_shot or STREAMS[suite.protocol](suite.steps)
        self.lifetimes = suite.lifetimes
        self.fixed_episodes = False
        self.unavailable = ""
        self.hashes: dict[str, str] = {}
        self.meta_train_hash = ""
        self.shapes: list[Shape] = []
        self.unchanged = _unchanged(split)
        try:
            train = EpisodeSampler(largest(split.meta_train), root=root)
            test = EpisodeSampler(split.meta_test, root=root)
        except UnavailableError as error:
            self.unavailable = str(error)
            return
        (self.few_shot or Online(1)).check(train)
        self.protocol.check(test)
        check_disjoint(split, root)
        self.shapes = [train.shape, test.shape]
        for side, sampler in (("meta_train", train), ("meta_test", test)):
            for dataset, content in sampler.content_hashes.items():
                self.hashes[f"{side}/{dataset}"] = content
        if few_shot is None and test.max_steps is not None:
            self.protocol = STREAMS[suite.protocol](min(suite.steps, test.max_steps))
        if test.fixed_episodes is not None:
            self.fixed_episodes = True
            self.lifetimes = min(suite.lifetimes, test.fixed_episodes)
        self.meta_train_hash = _sha256([_side(split.meta_train), train.content_hashes])

    def misfit(self, entry: LearnerEntry) -> str:
        """Why the learner cannot take the split's examples; "" where it can, or has no say."""
        if entry.unavailable:
            return ""
        fixed_shape = entry.create().fixed_shape
        for shape in self.shapes:
            kind = "image" if len(shape.inputs) == 3 else "vector"
            if kind not in entry.cls.input_kinds:
                return (
                    f"learner '{entry.name}' takes inputs of the kind "
                    f"{', '.join(sorted(entry.cls.input_kinds))} only, and split "
                    f"'{self.split.name}' has {kind}s."
                )
            try:
                check_fits(shape, fixed_shape or shape)
            except VsmlBenchError as error:
                return str(error)
        return ""


def _unchanged(split: Split) -> str:
    """The name of the split that this one is with one change, "" for none; VsmlBenchError where the
    two cannot have the same meta-trained learners."""
    if not split.unchanged:
        return ""
    other = find_split(split.unchanged)
    if other.meta_train != split.meta_train:
        raise VsmlBenchError(
            f"split '{split.name}': unchanged: '{other.name}' has another meta-train side, so that "
            "it shows another learner; give both the same."
        )
    return other.name


def _plan(
    suite: Suite, sides: _Sides, entry: LearnerEntry, recipe: Recipe | None, seed: int
) -> CellPlan:
    split = sides.split
    job = MetaTrainingJob(entry, split.meta_train, seed, recipe, sides.few_shot)
    numbers = identity(sides.protocol).values()  # online: steps; few_shot: ways, shots, queries
    hashes = {
        "split": _sha256([split.relation, _side(split.meta_train), _side(split.meta_test)]),
        "data": _sha256(sides.hashes),
        "learner": entry.source_hash(),
        "config": _sha256(identity(entry.config)),
        "meta_training": job.key,
        "protocol": _sha256([suite.protocol, sides.lifetimes, *numbers]),
    }
    return CellPlan(
        id=CellId(suite.name, split.name, entry.name, seed),
        split=split,
        reference=entry.reference,
        config=entry.plain_config(),
        recipe=job.recipe,
        relation=split.relation,
        unchanged=sides.unchanged,
        protocol=suite.protocol,
        few_shot=sides.few_shot,
        meta_test_protocol=sides.protocol,
        lifetimes=sides.lifetimes,
        steps=sides.protocol.predictions,
        fixed_episodes=sides.fixed_episodes,
        time_limit=suite.time_limit,
        family=entry.cls.family,
        has_meta_parameters=entry.has_meta_parameters,
        data_hashes=sides.hashes,
        meta_train_hash=sides.meta_train_hash,
        hashes=hashes,
        unavailable=sides.unavailable or entry.unavailable or sides.misfit(entry),
    )


def meta_test_axes(distribution: TaskDistribution) -> tuple[str, str]:
    """What pins the meta-test lifetimes: the meta-test side alone, so that splits that share it,
    and all learners and seeds, see the same streams; and the same but for the change where one of
    two sides inverts, scales, mislabels, delays or switches what the other has."""
    return "meta-test", _sha256(_side(without_changes(distribution)))


def _side(distribution: TaskDistribution) -> Any:
    return identity(by_name(distribution))


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def unique_jobs(plans: Iterable[CellPlan]) -> dict[str, CellPlan]:
    """One cell for each distinct meta-training among those whose data are here."""
    return {
        plan.hashes["meta_training"]: plan for plan in reversed(list(plans)) if not plan.unavailable
    }
