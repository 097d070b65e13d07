"""What one meta-training is, exactly: the identity that its checkpoint is filed under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vsml_bench.config import identity
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Recipe
from vsml_bench.registry import LearnerEntry
from vsml_bench.specs import TaskDistribution
from vsml_bench.storage import canonical_json

_WITHOUT_EFFECT = frozenset({"checkpoint_every", "validate_every", "validation_lifetimes"})


@dataclass(frozen=True)
class MetaTrainingJob:
    """One learner, one meta-train side, one seed, one way of training."""

    entry: LearnerEntry
    meta_train: TaskDistribution
    seed: int
    recipe: Recipe | None
    """None for a learner that is tuned instead."""

    def identity(self) -> dict[str, Any]:
        """Everything the result depends on, but for the code and the data."""
        recipe = identity(self.recipe) if self.recipe else None
        if recipe:
            recipe = {k: v for k, v in recipe.items() if k not in _WITHOUT_EFFECT}
        found = {
            "learner": self.entry.name,
            "config": identity(self.entry.config),
            "meta_train": identity(self.meta_train),
            "recipe": recipe,
            "seed": self.seed,
        }
        if recipe is None and self.entry.cls.tuning is not None:
            found["tuning"] = identity(self.entry.cls.tuning)
        return found

    @property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    @property
    def name(self) -> str:
        """A file name without ending, readable and unique."""
        datasets = "+".join(self.meta_train.datasets)
        return f"{self.entry.name}--{datasets}--seed{self.seed}--{self.key[:8]}"


def meta_train_side(job: MetaTrainingJob) -> TaskDistribution:
    """The tasks actually trained on: the split's meta-train side, at the recipe's image size.

    Raises VsmlBenchError where the learner has a fixed shape and the recipe asks for another size.
    """
    if job.recipe is None or job.recipe.size is None:
        return job.meta_train
    if job.entry.create().fixed_shape is not None:
        raise VsmlBenchError(
            f"recipe of '{job.entry.name}': size = {job.recipe.size} needs a learner that takes "
            "any input size, and this one has a fixed shape; leave size out."
        )
    values: Mapping[str, Any] = {**vars(job.meta_train), "size": job.recipe.size}
    return TaskDistribution(**values)
