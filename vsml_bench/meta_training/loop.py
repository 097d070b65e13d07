"""The meta-training loop: samples lifetimes, follows the meta-gradient, validates, checkpoints.

All randomness of meta-update s comes from seeds derived from (seed, s), so an interrupted training
that continues from its last checkpoint ends in the same meta-parameters, bit for bit on a CPU.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsml_bench import paths
from vsml_bench.config import as_plain
from vsml_bench.errors import DivergedError, VsmlBenchError
from vsml_bench.execution import Execution, device_name
from vsml_bench.learner import Learner, Recipe
from vsml_bench.meta_training import bptt, es, schedule
from vsml_bench.meta_training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_meta_parameters,
    save_checkpoint,
)
from vsml_bench.meta_training.imitation import Imitation
from vsml_bench.meta_training.job import MetaTrainingJob
from vsml_bench.meta_training.lifetimes import TaskLifetimes
from vsml_bench.meta_training.objective import MetaGradient, Objective
from vsml_bench.meta_training.source import Source
from vsml_bench.progress import progress_bar
from vsml_bench.provenance import git_state, versions
from vsml_bench.seeds import derive_seed
from vsml_bench.vsml.cloning import Clone


def checkpoint_path(folder: Path, job: MetaTrainingJob) -> Path:
    """Where a finished meta-training is kept."""
    return folder / f"{job.name}.safetensors"


def meta_train(
    job: MetaTrainingJob,
    folder: Path,
    execution: Execution,
    root: Path | None = None,
    *,
    progress: bool = True,
    command: str = "",
    report: Callable[[float], None] = lambda share: None,
) -> Path:
    """Runs a meta-training to its end, from its last checkpoint where there is one, and returns
    the path of the finished checkpoint (at once where it exists).

    folder: where checkpoints go. root: data root. command: recorded in the checkpoint.
    report: called with the share of the meta-updates that is done.
    Raises DivergedError where the meta-loss is no longer finite, UnavailableError where the data
    cannot be had.
    """
    path = checkpoint_path(folder, job)
    if path.exists():
        load_checkpoint(path)
        return path
    recipe = job.recipe
    if recipe is None:
        raise VsmlBenchError(f"learner '{job.entry.name}' has no meta-parameters to train.")
    training = _Training(job, recipe, folder, execution, root, command)
    training.resume()
    if training.done == 0 and job.start is not None:
        training.start_from(_start(job.start, folder, execution, root, progress, command))
    steps = range(training.done, recipe.steps)
    with progress_bar(
        recipe.steps, job.name, progress, initial=training.done, smoothing=0.1
    ) as bar:
        for step in steps:
            training.update(step)
            bar.update()
            report(training.done / recipe.steps)
            bar.set_postfix(training.latest, refresh=False)
            finished = training.done == recipe.steps
            if training.done % recipe.validate_every == 0 or finished:
                training.validate()
                if progress:
                    bar.write(training.describe(), file=sys.stderr)
            if training.done % recipe.checkpoint_every == 0 and not finished:
                training.save(training.partial)
    training.save(path)
    training.partial.unlink(missing_ok=True)
    return path


def _start(
    job: MetaTrainingJob,
    folder: Path,
    execution: Execution,
    root: Path | None,
    progress: bool,
    command: str,
) -> Path:
    """The finished checkpoint of the meta-training that another goes on from, made if need be."""
    published = checkpoint_path(paths.results() / "checkpoints", job)
    if published.is_file():
        return published
    return meta_train(job, folder, execution, root, progress=progress, command=command)


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where the beginning of a meta-training comes from."""
    kept = ("steps", "seconds", "command", "git_commit", "git_dirty", "versions", "device")
    return {"checkpoint": checkpoint.sha256, **{key: checkpoint.document[key] for key in kept}}


class _Training:
    """An unfinished meta-training: what a checkpoint must hold for it to continue exactly."""

    def __init__(
        self,
        job: MetaTrainingJob,
        recipe: Recipe,
        folder: Path,
        execution: Execution,
        root: Path | None,
        command: str,
    ) -> None:
        self.job, self.recipe, self.execution, self.command = job, recipe, execution, command
        self.folder = folder
        self.partial = folder / f"{job.name}.partial.safetensors"
        self.learner: Learner = job.entry.create(derive_seed(job.seed, "meta-initialisation"))
        self.learner.to(execution.device)
        self.source = _source(job, recipe, self.learner, execution, root)
        self.optimizer = torch.optim.Adam(self.learner.parameters(), lr=0.0)
        self.population: es.Population | None = None
        if recipe.engine == "es":
            longest = max(schedule.phase_starts(recipe), key=lambda u: u.lifetimes * u.lifetime)
            tried = self.source.objective(longest, 0, largest=True)
            self.population = es.prepare(self.learner.train(), tried, recipe, job.entry.name)
        else:
            self.source.accelerate(sum(p.steps * p.lifetime for p in recipe.phases))
        self.git = git_state()  # of the code that is running, whatever becomes of the tree
        self.done = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.begun_by: dict[str, Any] | None = None
        self.latest: dict[str, str] = {}
        self._since_validation: list[tuple[float, float]] = []

    def start_from(self, path: Path) -> None:
        """Begins with the meta-parameters of a finished meta-training."""
        checkpoint = load_checkpoint(path)
        load_meta_parameters(self.learner, checkpoint, path.name)
        self.begun_by = _provenance(checkpoint)

    def update(self, step: int) -> None:
        """One meta-update."""
        began = time.perf_counter()
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
        self.done = step + 1
        self.seconds += time.perf_counter() - began
        self._since_validation.append((outcome.loss, outcome.accuracy))
        self.latest = {"loss": f"{outcome.loss:.3f}", "accuracy": f"{outcome.accuracy:.3f}"}

    def _meta_gradient(self, objective: Objective, step: int) -> MetaGradient:
        learner = self.learner.train()
        if self.population is None:
            return bptt.meta_gradient(learner, objective)
        noise_seed = derive_seed(self.job.seed, "population", step)
        return es.meta_gradient(learner, objective, self.population, noise_seed)

    def validate(self) -> None:
        """Scores what no meta-gradient sees."""
        began = time.perf_counter()
        found = self.source.validate()
        self.seconds += time.perf_counter() - began
        losses, accuracies = zip(*self._since_validation, strict=True)
        self.history.append(
            {
                "step": self.done,
                "loss": sum(losses) / len(losses),
                "accuracy": sum(accuracies) / len(accuracies),
                "validation_loss": found.loss,
                "validation_accuracy": found.accuracy,
            }
        )
        self._since_validation = []

    def describe(self) -> str:
        """The last validation in a line."""
        last = self.history[-1]
        return (
            f"{self.job.name} step {last['step']:.0f}: loss {last['loss']:.4g}, accuracy "
            f"{last['accuracy']:.3f}; validation loss {last['validation_loss']:.4g}, accuracy "
            f"{last['validation_accuracy']:.3f}"
        )

    def save(self, path: Path) -> None:
        """Writes everything needed to continue, or, at the end, the meta-parameters alone."""
        tensors: dict[str, Tensor] = dict(self.learner.state_dict())
        if path == self.partial:
            for name, parameter in self.learner.named_parameters():
                for moment, tensor in self.optimizer.state[parameter].items():
                    tensors[f"adam/{moment}/{name}"] = tensor
            for name, tensor in self.source.carried.items():
                tensors[f"carried/{name}"] = tensor
        save_checkpoint(path, tensors, self._document())

    def resume(self) -> None:
        """Continues from the last checkpoint, if there is one, else from the finished training of
        a shorter recipe that this one goes on from."""
        if self.partial.exists():
            self._take_up(self.partial, self.job)
            return
        for recipe in schedule.beginnings(self.recipe):
            shorter = dataclasses.replace(self.job, recipe=recipe)
            path = checkpoint_path(self.folder, shorter)
            if path.exists():
                self.begun_by = self._take_up(path, shorter)
                return

    def _take_up(self, path: Path, job: MetaTrainingJob) -> dict[str, Any]:
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
        if (document.get("identity"), document.get("data_hashes")) != (
            as_plain(job.identity()),
            self.source.data_hashes,
        ):
            raise VsmlBenchError(
                f"{path.name} comes from another meta-training or from other data, so it "
                "cannot be continued; delete it and meta-train again."
            )
        self.done, self.seconds = document["steps"], document["seconds"]
        self.history = document["history"]
        self.begun_by = document.get("begun_by")
        self._since_validation = [tuple(pair) for pair in document["since_validation"]]
        return _provenance(checkpoint)

    def _document(self) -> dict[str, Any]:
        commit, dirty = self.git
        return {
            "format": 1,
            "identity": self.job.identity(),
            "config": as_plain(self.job.entry.config),
            "recipe": as_plain(self.recipe),
            "meta_train": as_plain(self.job.meta_train),
            "data_hashes": self.source.data_hashes,
            "learner_hash": self.job.entry.source_hash(),
            "steps": self.done,
            "seconds": self.seconds,
            "history": self.history,
            "since_validation": self._since_validation,
            "begun_by": self.begun_by,
            "command": self.command,
            "git_commit": commit,
            "git_dirty": dirty,
            "versions": versions(),
            "device": device_name(self.execution.device),
            "threads": self.execution.threads,
        }


def _source(
    job: MetaTrainingJob,
    recipe: Recipe,
    learner: Learner,
    execution: Execution,
    root: Path | None,
) -> Source:
    if job.imitated is not None:
        assert isinstance(learner, Clone)
        return Imitation(job, recipe, learner, execution)
    return TaskLifetimes(job, recipe, learner, execution, root)
