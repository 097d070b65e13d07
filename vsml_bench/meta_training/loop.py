"""The meta-training loop: samples lifetimes, follows the meta-gradient, validates, checkpoints.

All randomness of meta-update s comes from seeds derived from (seed, s), so an interrupted training
that continues from its last checkpoint ends in the same meta-parameters, bit for bit on a CPU.
Several processes follow the same loop with the same meta-parameters (`peers`); the first of them
alone looks for checkpoints, validates, writes and shows progress, on which nothing else depends.
"""

from __future__ import annotations

import dataclasses
import math
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsml_bench import paths
from vsml_bench.config import as_plain
from vsml_bench.errors import DivergedError, VsmlBenchError
from vsml_bench.execution import Execution, device_name
from vsml_bench.learner import Learner
from vsml_bench.meta_training import bptt, es, schedule
from vsml_bench.meta_training.checkpoint import (
    Checkpoint,
    checkpoint_bytes,
    load_checkpoint,
    load_meta_parameters,
    origin,
    read_checkpoint,
    save_checkpoint,
)
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact, partial_path
from vsml_bench.meta_training.lifetimes import TaskLifetimes
from vsml_bench.meta_training.objective import MetaGradient, Objective, Source
from vsml_bench.meta_training.peers import ALONE, Peers
from vsml_bench.meta_training.progress import Progress, all_tensors, provenance, restore
from vsml_bench.owners import Claim, kept
from vsml_bench.plugins import load
from vsml_bench.progress import ProgressBar
from vsml_bench.provenance import git_state, versions
from vsml_bench.recipes import ES, Recipe
from vsml_bench.registry import check_code, entry_of
from vsml_bench.seeds import derive_seed, seed_globally

FIRST_LOSSES = 25
"""Meta-losses that a checkpoint keeps of the first meta-updates, for replay."""
DIVERGED = torch.finfo(torch.float16).max
"""Nats, as which a validation is kept whose loss is not finite, as in a cell. Its lifetimes may be
longer than those of meta-training, so that a learner that diverges there may yet become a good
one."""


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
    peers: Peers = ALONE,
) -> Path:
    """Runs a meta-training to its end, from its last checkpoint where there is one, and returns
    the path of the finished checkpoint (at once where it exists).

    folder: where checkpoints go. root: data root. starts: further folders that the checkpoint to
    start from is looked for in, after the published ones. command: recorded in the checkpoint.
    report: called with the share of the meta-updates that is done. peers: the processes that all
    run this, and have joined; the path is that of process 0.
    Raises DivergedError where the meta-loss is no longer finite, UnavailableError where the data
    cannot be had.
    """
    path = artifact_path(folder, job)
    if peers.decided(path.exists()):
        if peers.leads:
            load_checkpoint(path)
            partial_path(folder, job).unlink(missing_ok=True)  # of a run that was killed just then
        return path
    recipe = job.recipe
    if recipe is None:
        raise VsmlBenchError(f"learner '{job.learner.name}' has no meta-parameters to train.")
    training = Training(job, recipe, folder, execution, root, command, peers=peers)
    training.begin(starts, progress)
    steps = range(training.progress.steps, recipe.steps)
    with ProgressBar(recipe.steps, job.name, progress, training.progress.steps) as bar:
        for step in steps:
            training.update(step)
            done = training.progress.steps
            bar.reach(done, f"{done}/{recipe.steps}, {training.latest}")
            report(done / recipe.steps)
            if not peers.leads:
                continue
            finished = training.progress.steps == recipe.steps
            if training.progress.steps % recipe.validate_every == 0 or finished:
                training.validate()
                bar.say(training.describe())
            if training.progress.steps % recipe.checkpoint_every == 0 and not finished:
                training.save(training.partial)
    if peers.leads:
        training.save(path)
        training.partial.unlink(missing_ok=True)
    return path


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
        peers: Peers = ALONE,
    ) -> None:
        """compiling: whether steps are compiled where all the updates together pay for that."""
        self.peers = peers
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
        engine, name = recipe.engine, job.learner.name
        if isinstance(engine, ES):
            tried = self._largest_objective()
            self.population = es.prepare(self.learner.train(), tried, engine, name, peers)
        else:
            if engine.micro_batch is not None or peers.count > 1:
                bptt.check(self._largest_objective(), engine, recipe, peers, name)
            if compiling:
                self.source.accelerate(sum(p.steps * p.lifetime for p in recipe.phases))
        self.git = git_state()  # of the code that is running, whatever becomes of the tree
        self.progress = Progress()
        self.latest = ""

    def _largest_objective(self) -> Objective:
        longest = max(schedule.phase_starts(self.recipe), key=lambda u: u.lifetimes * u.lifetime)
        return self.source.objective(longest, 0, largest=True)

    def start_from(self, path: Path) -> None:
        """Begins with the meta-parameters of a finished meta-training."""
        checkpoint = load_checkpoint(path)
        load_meta_parameters(self.learner, checkpoint, path.name)
        self.progress.begun_by = provenance(checkpoint)

    def begin(self, starts: Sequence[Path], progress: bool) -> None:
        """Continues from where an earlier run of the same stopped, or begins; all processes with
        what process 0 has found."""
        self.peers.agree(self._common())
        if self.peers.leads:
            self.resume(starts)
        job = self.job.start
        if job is not None and self.peers.decided(self.progress.steps == 0):
            made = find_artifact(job, (paths.results() / "checkpoints", self.folder, *starts))
            if self.peers.decided(made is None):
                where = (self.folder, self.execution, self.root)
                claim = Claim(artifact_path(self.folder, job))
                with kept([claim] if self.peers.leads else []):
                    if self.peers.leads:
                        claim.take_or_wait(waiting=self.peers.count == 1)
                    made = meta_train(
                        job, *where, progress=progress, command=self.command, peers=self.peers
                    )
            if self.peers.leads and made is not None:
                self.start_from(made)
        if self.peers.count > 1:
            how_far = dataclasses.asdict(self.progress)
            own = checkpoint_bytes(self._tensors(), how_far) if self.peers.leads else b""
            self._restore(read_checkpoint(self.peers.told(own), "of process 0"), "of process 0")

    def _common(self) -> dict[str, Any]:
        """What must be the same in all processes."""
        return {
            "inputs": {"job": self.job.key, "data": self.source.data_hashes},
            "versions": versions(),
            "hardware": device_name(self.execution.device),
            "threads": self.execution.threads,
        }

    def update(self, step: int) -> float:
        """One meta-update; returns its meta-loss."""
        began = time.perf_counter()
        self._reseed(step)
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
        learner, peers, mark = self.learner.train(), self.peers, self._mark(step)
        engine = self.recipe.engine
        if self.population is None:
            assert not isinstance(engine, ES)
            return bptt.meta_gradient(
                *(learner, objective, engine),
                peers=peers,
                reseed=lambda index: self._reseed(step, index),
                mark=mark,
            )
        noise_seed = derive_seed(self.job.seed, "population", step)
        return es.meta_gradient(
            *(learner, objective, self.population, noise_seed),
            peers=peers,
            reseed=lambda: self._reseed(step),
            mark=mark,
        )

    def _reseed(self, *place: int) -> None:
        """Seeds what a learner may draw in training: of a meta-update, or a piece of one."""
        seed_globally(derive_seed(self.job.seed, "training noise", *place), self.execution.device)

    def _mark(self, step: int) -> int:
        """A number that tells whether processes are at the same step with the same
        meta-parameters."""
        mark = step
        if self.peers.count > 1:
            for parameter in self.learner.parameters():
                numbers = parameter.detach().cpu().reshape(-1).view(torch.uint8)
                mark = zlib.crc32(numbers.numpy().tobytes(), mark)
        return mark

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
                "validation_loss": found.loss if math.isfinite(found.loss) else DIVERGED,
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
        tensors = self._tensors() if path == self.partial else self.learner.state_dict()
        document = origin(self.job, self.source.data_hashes, self.execution, self.git, self.command)
        how_far = dataclasses.asdict(self.progress)
        side_by_side = {"threads": self.execution.threads, "processes": self.peers.count}
        save_checkpoint(path, tensors, {**document, **how_far, **side_by_side})

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
        document = checkpoint.document
        found = document.get("identity"), document.get("data_hashes")
        if found != (as_plain(job.identity()), self.source.data_hashes):
            raise VsmlBenchError(
                f"{path.name} comes from another meta-training or from other data, so it "
                "cannot be continued; delete it and meta-train again."
            )
        self._restore(checkpoint, path.name)
        return provenance(checkpoint)

    def _tensors(self) -> dict[str, Tensor]:
        return all_tensors(self.learner, self.optimizer, self.source)

    def _restore(self, checkpoint: Checkpoint, where: str) -> None:
        self.progress = restore(self.learner, self.optimizer, self.source, checkpoint, where)
