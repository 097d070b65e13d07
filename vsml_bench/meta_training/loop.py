"""The meta-training loop: samples lifetimes, follows the meta-gradient, validates, checkpoints.

All randomness of meta-update s comes from seeds derived from (seed, s), so an interrupted training
that continues from its last checkpoint ends in the same meta-parameters, bit for bit on a CPU.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsml_bench import paths
from vsml_bench.config import as_plain
from vsml_bench.errors import DivergedError, VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner
from vsml_bench.meta_training import es, schedule
from vsml_bench.meta_training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_meta_parameters,
    origin,
    save_checkpoint,
)
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact, partial_path
from vsml_bench.meta_training.lifetimes import TaskLifetimes
from vsml_bench.meta_training.objective import MetaGradient, Objective, Source, backpropagate
from vsml_bench.plugins import load
from vsml_bench.progress import ProgressBar
from vsml_bench.provenance import git_state
from vsml_bench.recipes import ES, Recipe
from vsml_bench.registry import check_code, entry_of
from vsml_bench.seeds import derive_seed, seed_globally

FIRST_LOSSES = 25
"""Meta-losses that a checkpoint keeps of the first meta-updates, for replay."""


def meta_train(
    job: Job,
    folder: Path,
    execution: Execution,
    root: Path | None = None,
    *,
    starts: Sequence[Path] = (),
    progress: bool = True,
    command: str = "",
    report: Callable[[float], None] = lambda share: None,
) -> Path:
    """Runs a meta-training to its end, from its last checkpoint where there is one, and returns
    the path of the finished checkpoint (at once where it exists).

    folder: where checkpoints go. root: data root. starts: further folders that the checkpoint to
    start from is looked for in, after the published ones. command: recorded in the checkpoint.
    report: called with the share of the meta-updates that is done.
    Raises DivergedError where the meta-loss is no longer finite, UnavailableError where the data
    cannot be had.
    """
    path = artifact_path(folder, job)
    if path.exists():
        load_checkpoint(path)
        partial_path(folder, job).unlink(missing_ok=True)  # of a run that was killed just then
        return path
    recipe = job.recipe
    if recipe is None:
        raise VsmlBenchError(f"learner '{job.learner.name}' has no meta-parameters to train.")
    training = Training(job, recipe, folder, execution, root, command)
    training.begin(starts, progress)
    steps = range(training.progress.steps, recipe.steps)
    with ProgressBar(recipe.steps, job.name, progress, training.progress.steps) as bar:
        for step in steps:
            training.update(step)
            done = training.progress.steps
            bar.reach(done, f"{done}/{recipe.steps}, {training.latest}")
            report(done / recipe.steps)
            finished = training.progress.steps == recipe.steps
            if training.progress.steps % recipe.validate_every == 0 or finished:
                training.validate()
                bar.say(training.describe())
            if training.progress.steps % recipe.checkpoint_every == 0 and not finished:
                training.save(training.partial)
    training.save(path)
    training.partial.unlink(missing_ok=True)
    return path


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where the beginning of a meta-training comes from."""
    kept = ("steps", "seconds", "command", "git_commit", "git_dirty", "versions", "device")
    return {"checkpoint": checkpoint.sha256, **{key: checkpoint.document[key] for key in kept}}


@dataclass
class Progress:
    """How far a meta-training is, and what came out so far, as its checkpoint says."""

    steps: int = 0
    """Meta-updates done."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per validation."""
    first_losses: list[float] = field(default_factory=list)
    since_validation: list[tuple[float, float]] = field(default_factory=list)
    """Loss and accuracy of each meta-update since the last validation."""
    adopted: list[dict[str, Any]] = field(default_factory=list)
    begun_by: dict[str, Any] | None = None
    """What it went on from."""


class Training:
    """An unfinished meta-training: what a checkpoint must hold for it to continue exactly."""

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        folder: Path,
        execution: Execution,
        root: Path | None,
        command: str,
        compiling: bool = True,
    ) -> None:
        """compiling: whether steps are compiled where all the updates together pay for that."""
        self.job, self.recipe, self.execution, self.command = job, recipe, execution, command
        self.folder, self.root = folder, root
        self.partial = partial_path(folder, job)
        self.entry = entry_of(job.learner)
        self.learner: Learner = self.entry.create(derive_seed(job.seed, "meta-initialisation"))
        self.learner.to(execution.device)
        source: type[Source] = TaskLifetimes
        if recipe.source:
            source = load(recipe.source, "source", self.entry.cls.__module__)
        self.source = source(job, recipe, self.learner, execution, root)
        self.optimizer = torch.optim.Adam(self.learner.parameters(), lr=0.0)
        self.population: es.Population | None = None
        if isinstance(recipe.engine, ES):
            longest = max(schedule.phase_starts(recipe), key=lambda u: u.lifetimes * u.lifetime)
            tried = self.source.objective(longest, 0, largest=True)
            self.population = es.prepare(
                self.learner.train(), tried, recipe.engine, job.learner.name
            )
        elif compiling:
            self.source.accelerate(sum(p.steps * p.lifetime for p in recipe.phases))
        self.git = git_state()  # of the code that is running, whatever becomes of the tree
        self.progress = Progress()
        self.latest = ""

    def start_from(self, path: Path) -> None:
        """Begins with the meta-parameters of a finished meta-training."""
        checkpoint = load_checkpoint(path)
        load_meta_parameters(self.learner, checkpoint, path.name)
        self.progress.begun_by = _provenance(checkpoint)

    def begin(self, starts: Sequence[Path], progress: bool) -> None:
        """Continues from where an earlier run of the same stopped, or begins."""
        self.resume(starts)
        job = self.job.start
        if self.progress.steps == 0 and job is not None:
            made = find_artifact(job, (paths.results() / "checkpoints", self.folder, *starts))
            if made is None:
                where = (self.folder, self.execution, self.root)
                made = meta_train(job, *where, progress=progress, command=self.command)
            self.start_from(made)

    def update(self, step: int) -> float:
        """One meta-update; returns its meta-loss."""
        began = time.perf_counter()
        seed_globally(derive_seed(self.job.seed, "training noise", step), self.execution.device)
        planned = schedule.at(self.recipe, step)
        if planned.fresh_optimizer:
            self.optimizer.state.clear()
        outcome = self._meta_gradient(self.source.objective(planned, step), step)
        bound = self.recipe.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), bound)
        if not (math.isfinite(outcome.loss) and bool(torch.isfinite(norm))):
            raise DivergedError(
                f"meta-training of {self.job.name} diverged at meta-update {step}: loss "
                f"{outcome.loss}, gradient norm {norm.item()}; lower the learning rate or the clip."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = planned.learning_rate
        self.optimizer.step()
        self.progress.steps = step + 1
        self.progress.seconds += time.perf_counter() - began
        self.progress.since_validation.append((outcome.loss, outcome.accuracy))
        if step < FIRST_LOSSES:
            self.progress.first_losses.append(outcome.loss)
        self.latest = f"loss {outcome.loss:.3f}, accuracy {outcome.accuracy:.3f}"
        return outcome.loss

    def _meta_gradient(self, objective: Objective, step: int) -> MetaGradient:
        learner = self.learner.train()
        if self.population is None:
            return backpropagate(learner, objective)
        noise_seed = derive_seed(self.job.seed, "population", step)
        return es.meta_gradient(learner, objective, self.population, noise_seed)

    def validate(self) -> None:
        """Scores what no meta-gradient sees."""
        began = time.perf_counter()
        found = self.source.validate()
        self.progress.seconds += time.perf_counter() - began
        losses, accuracies = zip(*self.progress.since_validation, strict=True)
        self.progress.history.append(
            {
                "step": self.progress.steps,
                "loss": sum(losses) / len(losses),
                "accuracy": sum(accuracies) / len(accuracies),
                "validation_loss": found.loss,
                "validation_accuracy": found.accuracy,
            }
        )
        self.progress.since_validation = []

    def describe(self) -> str:
        """The last validation in a line."""
        last = self.progress.history[-1]
        return (
            f"{self.job.name} step {last['step']:.0f}: loss {last['loss']:.4g}, accuracy "
            f"{last['accuracy']:.3f}; validation loss {last['validation_loss']:.4g}, accuracy "
            f"{last['validation_accuracy']:.3f}"
        )

    def save(self, path: Path) -> None:
        """Writes everything needed to continue, or, at the end, the meta-parameters alone.
        VsmlBenchError where the learner's code is not what was planned."""
        check_code(self.entry, self.job.learner)
        tensors: dict[str, Tensor] = dict(self.learner.state_dict())
        if path == self.partial:
            for name, parameter in self.learner.named_parameters():
                for moment, tensor in self.optimizer.state[parameter].items():
                    tensors[f"adam/{moment}/{name}"] = tensor
            for name, tensor in self.source.carried.items():
                tensors[f"carried/{name}"] = tensor
        document = origin(self.job, self.source.data_hashes, self.execution, self.git, self.command)
        how_far = dataclasses.asdict(self.progress)
        threads = {"threads": self.execution.threads}
        save_checkpoint(path, tensors, {**document, **how_far, **threads})

    def resume(self, besides: Sequence[Path] = ()) -> None:
        """Continues from the last checkpoint, if there is one, else from the finished training of
        a shorter recipe that this one goes on from.

        besides: further folders that the last checkpoint is looked for in.
        """
        for folder in (self.folder, *besides):
            partial = partial_path(folder, self.job)
            if partial.exists():
                self._take_up(partial, self.job)
                return
        for recipe in schedule.beginnings(self.recipe):
            shorter = dataclasses.replace(self.job, recipe=recipe)
            path = artifact_path(self.folder, shorter)
            if path.exists():
                self.progress.begun_by = self._take_up(path, shorter)
                return

    def _take_up(self, path: Path, job: Job) -> dict[str, Any]:
        """Loads the state of `job`'s training and returns how it came about."""
        checkpoint = load_checkpoint(path)
        adam = {n: t for n, t in checkpoint.tensors.items() if n.startswith("adam/")}
        carried = {n: t for n, t in checkpoint.tensors.items() if n.startswith("carried/")}
        own = {n: t for n, t in checkpoint.tensors.items() if n not in {*adam, *carried}}
        load_meta_parameters(
            self.learner, Checkpoint(own, checkpoint.document, checkpoint.sha256), path.name
        )
        for name, parameter in self.learner.named_parameters():
            moments = {
                moment: adam[f"adam/{moment}/{name}"].to(
                    "cpu" if moment == "step" else parameter.device
                )
                for moment in ("step", "exp_avg", "exp_avg_sq")
                if f"adam/{moment}/{name}" in adam
            }
            if moments:  # Adam keeps nothing of a parameter that the loss does not depend on
                self.optimizer.state[parameter] = moments
        self.source.carried = {n.removeprefix("carried/"): t for n, t in carried.items()}
        document = checkpoint.document
        found = document.get("identity"), document.get("data_hashes")
        if found != (as_plain(job.identity()), self.source.data_hashes):
            raise VsmlBenchError(
                f"{path.name} comes from another meta-training or from other data, so it "
                "cannot be continued; delete it and meta-train again."
            )
        names = {each.name for each in dataclasses.fields(Progress)}
        self.progress = Progress(**{k: v for k, v in document.items() if k in names})
        return _provenance(checkpoint)
