"""What one meta-training is, exactly: the identity that its checkpoint is filed under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import paths
from vsml_bench.cards import Card
from vsml_bench.config import as_plain
from vsml_bench.data.distributions import OfSide, identity
from vsml_bench.errors import VsmlBenchError
from vsml_bench.recipes import WITHOUT_EFFECT, Recipe
from vsml_bench.sides import TaskDistribution
from vsml_bench.storage import canonical_json, sha256_hex

if TYPE_CHECKING:
    from vsml_bench.protocols.protocol import Protocol

NO_TASKS = TaskDistribution(datasets=(), partition="train")
"""The meta-train side of a learner whose meta-updates have a source of their own."""


@dataclass(frozen=True)
class ProtocolCard:
    """A protocol with its numbers, as plain data."""

    reference: str
    """What finds it in another process: its name, "path/to/file.py:Class" or "module:Class"."""
    name: str
    version: int
    metric: str
    """What the means of a board are, such as "cumulative_accuracy"."""
    stream: bool
    """Whether predictions follow one another, so that the first and the last ones mean
    something."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Fields of the protocol's instance."""

    predictions: int = 0
    """Scored predictions of a lifetime, unless the data have fewer examples."""
    examples: int = 0
    """All examples of a lifetime, likewise."""

    def identity(self) -> dict[str, Any]:
        """What results depend on."""
        return {"name": self.name, "version": self.version, "numbers": self.numbers}

    def published(self) -> ProtocolCard:
        """Without the path at which its file was found."""
        return replace(self, reference=paths.published(self.reference))

    def instance(self) -> Protocol:
        """The protocol itself."""
        from vsml_bench.protocols.protocol import find_protocol

        return find_protocol(self.reference)(**self.numbers)


@dataclass(frozen=True)
class Job:
    """One learner made ready: meta-trained, tuned, or taken as it is. It can be sent to another
    process."""

    learner: Card
    side: TaskDistribution
    """The meta-train side; `NO_TASKS` where the recipe has a source of its own."""
    seed: int
    """The meta-train seed."""
    recipe: Recipe | None
    """None for a learner that is tuned, or has nothing to learn. Its phases have the number of
    examples of `episodes`, where these are given, for a lifetime."""
    episodes: ProtocolCard | None = None
    """The protocol of meta-training or tuning where that is no stream; None is online lifetimes as
    long as the recipe or the grid says."""
    start: Job | None = None
    """The meta-training of another learner that this one goes on from."""

    def published(self) -> Job:
        """Without this machine's paths."""
        return replace(
            self,
            learner=self.learner.published(),
            episodes=self.episodes.published() if self.episodes is not None else None,
            start=self.start.published() if self.start is not None else None,
        )

    @property
    def makes_artifact(self) -> bool:
        """Whether the learner must be meta-trained or tuned before it can be meta-tested."""
        return self.recipe is not None or self.learner.tuning is not None

    def identity(self, of: OfSide = identity) -> dict[str, Any]:
        """Everything that is declared and that the result depends on, with every default.

        of: what is said of a side.
        """
        learner: Any = self.learner.identity()
        recipe = None
        if self.recipe is not None:
            recipe = _effective(as_plain(self.recipe))
            if self.side.sizes:
                del recipe["size"]
            if self.recipe.shared:
                learner = {
                    "class": self.learner.class_name,
                    self.recipe.shared: self.learner.config[self.recipe.shared],
                    **{part: learner[part] for part in ("version", "code", "package")},
                }
        return {
            "learner": learner,
            "side": of(self.side),
            "seed": self.seed,
            "recipe": recipe,
            "tuning": as_plain(self.learner.tuning) if recipe is None else None,
            "episodes": self.episodes.identity() if self.episodes is not None else None,
            "start": self.start.identity(of) if self.start is not None else None,
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return sha256_hex(canonical_json(self.identity()))

    @property
    def name(self) -> str:
        """A file name without ending, readable and unique."""
        learner, data = self.learner.name, "+".join(self.side.datasets)
        if self.recipe is not None and self.recipe.source:
            data = self.recipe.source.rpartition(":")[2].lower()
            learner = self.learner.class_name.lower() if self.recipe.shared else learner
        return f"{learner}--{data}--seed{self.seed}--{self.key[:8]}"


def artifact_path(folder: Path, job: Job) -> Path:
    """Where the outcome belongs in `folder`: a checkpoint, or the record of a tuning."""
    return folder / f"{job.name}{'.safetensors' if job.recipe is not None else '.json'}"


def partial_path(folder: Path, job: Job) -> Path:
    """Where the checkpoint of an unfinished meta-training belongs in `folder`."""
    return folder / f"{job.name}.partial.safetensors"


def find_artifact(job: Job, folders: Sequence[Path]) -> Path | None:
    """The first existing outcome in `folders`; None where there is none, or none is needed."""
    if not job.makes_artifact:
        return None
    places = (artifact_path(folder, job) for folder in folders)
    return next((place for place in places if place.is_file()), None)


def trained_side(job: Job) -> TaskDistribution:
    """The tasks actually trained on: the split's meta-train side, at the recipe's image size unless
    the side itself is a mixture of sizes.

    Raises VsmlBenchError where the learner has a fixed shape and the recipe asks for another size,
    and where a phase has sizes of its own beside those of the side.
    """
    recipe, side = job.recipe, job.side
    if recipe is None:
        return side
    where = f"recipe of '{job.learner.name}'"
    size = None if side.sizes else recipe.size
    of_phases = [one for phase in recipe.phases for one in phase.sizes]
    if of_phases and side.sizes:
        raise VsmlBenchError(
            f"{where}: sizes: the meta-train side has sizes of its own, {list(side.sizes)}; leave "
            "those of phases out."
        )
    for name, asked in (("size", size), ("sizes", of_phases)):
        if asked and job.learner.fixed_shape is not None:
            raise VsmlBenchError(
                f"{where}: {name} = {asked} needs a learner that takes any input size, and this "
                f"one has a fixed shape; leave {name} out."
            )
    return side if size is None else replace(side, size=size)


def _effective(recipe: dict[str, Any]) -> dict[str, Any]:
    """Without what changes no meta-parameter."""
    kept = {key: value for key, value in recipe.items() if key not in WITHOUT_EFFECT}
    kept["engine"] = {k: v for k, v in recipe["engine"].items() if k not in WITHOUT_EFFECT}
    return kept
