"""What one meta-training is, exactly: the identity that its checkpoint is filed under."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vsml_bench.config import identity, replace
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.learner import Recipe
from vsml_bench.protocols.protocol import Protocol
from vsml_bench.registry import LearnerEntry, find_learner
from vsml_bench.specs import TaskDistribution
from vsml_bench.storage import canonical_json

_WITHOUT_EFFECT = frozenset(
    {"checkpoint_every", "validate_every", "validation_lifetimes", "chunk_mib"}
)
_NAMED_ELSEWHERE = frozenset({"starts_from", "shared"})
_OF_EVOLUTION_STRATEGIES = frozenset({"pairs", "noise_std", "chunk_mib"})


NO_TASKS = TaskDistribution(datasets=(), partition="train")
"""The meta-train side of a recipe with a source of its own."""


@dataclass(frozen=True)
class MetaTrainingJob:
    """One learner, one meta-train side, one seed, one way of training."""

    entry: LearnerEntry
    meta_train: TaskDistribution
    seed: int
    recipe: Recipe | None
    """None for a learner that is tuned instead. Its phases have the episodes' number of examples
    for a lifetime, whatever was given, where there are `episodes`."""
    episodes: Protocol | None = None
    """The protocol of meta-training where it is no stream; None is the online protocol."""

    def __post_init__(self) -> None:
        if self.recipe is None:
            return
        if self.recipe.source:
            object.__setattr__(self, "meta_train", NO_TASKS)
            object.__setattr__(self, "episodes", None)
        if self.episodes is not None:
            recipe = _for_episodes(self.recipe, self.episodes.examples)
            object.__setattr__(self, "recipe", recipe)
        where = f"recipe of '{self.entry.name}'"
        _check_recipe(self.recipe, where)
        shared = self.recipe.shared
        if shared and not hasattr(self.entry.config, shared):
            known = closest(shared, [field.name for field in dataclasses.fields(self.entry.config)])
            raise VsmlBenchError(f"{where}: shared: no field '{shared}' to configure; {known}")
        if self.recipe.starts_from == self.entry.name:
            raise VsmlBenchError(f"{where}: starts_from: a learner cannot go on from itself.")

    def identity(self) -> dict[str, Any]:
        """Everything the result depends on, but for the code and the data."""
        recipe = None
        if self.recipe is not None:
            left_out = _WITHOUT_EFFECT | _NAMED_ELSEWHERE | _inert_fields(self.recipe)
            if self.meta_train.sizes:
                left_out |= {"size"}
            recipe = {k: v for k, v in identity(self.recipe).items() if k not in left_out}
        if self.recipe is not None and self.recipe.shared:
            shared = getattr(self.entry.config, self.recipe.shared)
            return {
                "learner": self.entry.cls.__name__,
                "shared": identity(shared),
                "recipe": recipe,
                "seed": self.seed,
            }
        found = {
            "learner": self.entry.name,
            "config": identity(self.entry.config),
            "meta_train": identity(self.meta_train),
            "recipe": recipe,
            "seed": self.seed,
        }
        if recipe is None and self.entry.cls.tuning is not None:
            found["tuning"] = identity(self.entry.cls.tuning)
        if self.episodes is not None:
            found[self.episodes.name] = identity(self.episodes)
        if self.start is not None:
            found["start"] = self.start.key
        return found

    @property
    def start(self) -> MetaTrainingJob | None:
        """The meta-training of another learner, of the same seed, that this one goes on from; None
        for one that begins with fresh meta-parameters."""
        if self.recipe is None or not self.recipe.starts_from:
            return None
        entry = find_learner(self.recipe.starts_from)
        return MetaTrainingJob(entry, self.meta_train, self.seed, entry.cls.recipe, self.episodes)

    @property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    @property
    def name(self) -> str:
        """A file name without ending, readable and unique."""
        learner, data = self.entry.name, "+".join(self.meta_train.datasets)
        if self.recipe is not None and self.recipe.source:
            data = self.recipe.source.rpartition(":")[2].lower()
            learner = self.entry.cls.__name__.lower() if self.recipe.shared else learner
        return f"{learner}--{data}--seed{self.seed}--{self.key[:8]}"


def _for_episodes(recipe: Recipe, examples: int) -> Recipe:
    phases = tuple(
        dataclasses.replace(phase, lifetime=examples, classes=None) for phase in recipe.phases
    )
    return dataclasses.replace(recipe, phases=phases)


def _check_recipe(recipe: Recipe, where: str) -> None:
    """VsmlBenchError for numbers with which no training is possible."""
    if not recipe.phases:
        raise VsmlBenchError(f"{where}: phases: expected at least one, found none.")
    positive = (
        *("lifetimes", "checkpoint_every", "validate_every", "validation_lifetimes"),
        *("pairs", "noise_std", "chunk_mib"),
    )
    numbers = [(name, getattr(recipe, name)) for name in positive]
    for index, phase in enumerate(recipe.phases):
        for name in ("steps", "lifetime", "learning_rate", "lifetimes", "classes"):
            if getattr(phase, name) is not None:
                numbers.append((f"phases[{index}].{name}", getattr(phase, name)))
    for name, value in numbers:
        if not (value > 0 and math.isfinite(value)):
            raise VsmlBenchError(f"{where}: {name}: expected more than 0, found {value}.")
    if recipe.shared and not recipe.source:
        raise VsmlBenchError(f"{where}: shared: has no effect without `source`; leave it out.")
    if not (recipe.clip >= 0 and math.isfinite(recipe.clip)):
        raise VsmlBenchError(
            f"{where}: clip: expected a bound of more than 0, or 0 for none, found {recipe.clip}."
        )


def _inert_fields(recipe: Recipe) -> frozenset[str]:
    """Fields that the recipe's engine does not look at."""
    return _OF_EVOLUTION_STRATEGIES if recipe.engine != "es" else frozenset()


def change_recipe(recipe: Recipe, values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with some fields overridden; VsmlBenchError where one is unknown, does not fit or
    would have no effect.

    where: what to call the source of `values` in errors.
    """
    changed = replace(recipe, values, where)
    inert = sorted(set(values) & _inert_fields(changed))
    if inert:
        raise VsmlBenchError(
            f'{where}: {inert[0]}: has no effect with engine = "{changed.engine}"; leave it out, '
            'or set engine = "es".'
        )
    return changed


def meta_train_side(job: MetaTrainingJob) -> TaskDistribution:
    """The tasks actually trained on: the split's meta-train side, at the recipe's image size unless
    the side itself is a mixture of sizes.

    Raises VsmlBenchError where the learner has a fixed shape and the recipe asks for another size.
    """
    if job.recipe is None or job.recipe.size is None or job.meta_train.sizes:
        return job.meta_train
    if job.entry.create().fixed_shape is not None:
        raise VsmlBenchError(
            f"recipe of '{job.entry.name}': size = {job.recipe.size} needs a learner that takes "
            "any input size, and this one has a fixed shape; leave size out."
        )
    values: Mapping[str, Any] = {**vars(job.meta_train), "size": job.recipe.size}
    return TaskDistribution(**values)
