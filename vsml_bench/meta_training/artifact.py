"""How a learner gets ready, whichever way it needs: meta-parameters in a checkpoint, tuned
hyper-parameters in a record, or nothing at all.

Tuning is a grid search on the meta-train side, for learners that have hyper-parameters but no
meta-parameters. It never sees a meta-test example.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vsml_bench.config import as_plain
from vsml_bench.data.distributions import largest
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.meta_training.checkpoint import load_artifact, load_meta_parameters, origin
from vsml_bench.meta_training.job import Job, artifact_path, trained_side
from vsml_bench.meta_training.loop import meta_train
from vsml_bench.meta_training.peers import ALONE, Peers
from vsml_bench.progress import ProgressBar
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import Protocol
from vsml_bench.provenance import git_state
from vsml_bench.recipes import ENGINES, TuningGrid
from vsml_bench.registry import entry_of
from vsml_bench.seeds import derive_seed, lifetime_seeds
from vsml_bench.storage import seal, write_atomically


@dataclass(frozen=True)
class ReadyLearner:
    """A learner that can be meta-tested, and how it got ready."""

    learner: Learner
    entry: LearnerEntry
    sha256: str | None = None
    """Of the checkpoint or tuning record; None where the learner needs neither."""
    seconds: float = 0.0
    """Of meta-training or tuning."""
    tuned: dict[str, Any] = field(default_factory=dict)
    trials: int = 0
    note: str = ""


def make_artifact(
    job: Job,
    folder: Path,
    execution: Execution,
    root: Path | None,
    *,
    starts: Sequence[Path] = (),
    progress: bool = True,
    command: str = "",
    report: Callable[[float], None] = lambda share: None,
    peers: Peers = ALONE,
) -> Path:
    """Meta-trains or tunes, continuing what was interrupted, and returns the outcome's path.

    starts: further folders that the checkpoint to start from is looked for in. peers: the processes
    that share a meta-training; tuning is for one.
    """
    if progress and artifact_path(folder, job).exists():
        print(f"{job.name} exists and is not made again.", file=sys.stderr)
    where = (job, folder, execution, root)
    if job.recipe is None:
        return tune(*where, progress=progress, command=command, report=report)
    return meta_train(
        *where, starts=starts, progress=progress, command=command, report=report, peers=peers
    )


def ready(job: Job, path: Path | None, data_hashes: Mapping[str, str]) -> ReadyLearner:
    """The learner with what the artifact at `path` says.

    data_hashes: dataset -> content hash of today's meta-train partition. VsmlBenchError where the
    artifact is damaged or comes from another meta-training or from other data.
    """
    entry = entry_of(job.learner)
    if not job.makes_artifact:
        seed = derive_seed(job.seed, "meta-initialisation")
        return ReadyLearner(entry.create(seed), entry)
    if path is None:
        raise VsmlBenchError(f"{job.name} has not been meta-trained; run `vsml-bench meta-train`.")
    artifact = load_artifact(path)
    document = artifact.document
    _check_origin(document, job, data_hashes, path)
    if job.recipe is None:
        return ReadyLearner(
            entry.configured(document["best"]).create(job.seed),
            entry,
            artifact.sha256,
            document["seconds"],
            document["best"],
            len(document["trials"]),
        )
    learner = entry.create()
    load_meta_parameters(learner, artifact, path.name)
    return ReadyLearner(
        learner, entry, artifact.sha256, document["seconds"], note=note_of(job), trials=1
    )


def _check_origin(
    document: Mapping[str, Any], job: Job, data_hashes: Mapping[str, str], path: Path
) -> None:
    """VsmlBenchError where an artifact comes from another meta-training than `job`, or from other
    data."""
    expected, found = as_plain(job.identity()), document.get("identity", {})
    differing = sorted(part for part in expected if found.get(part) != expected[part])
    sourced = job.recipe is not None and bool(job.recipe.source)
    if document.get("data_hashes") != ({} if sourced else data_hashes):
        differing.append("data")
    if job.recipe is not None and document["steps"] != job.recipe.steps:
        differing.append("steps done")
    if differing:
        raise VsmlBenchError(
            f"{path.name} comes from another meta-training (different: {', '.join(differing)}); "
            "delete it and meta-train again."
        )


def note_of(job: Job) -> str:
    """What a reader of the board must know of an unusual meta-training."""
    if job.recipe is None:
        return ""
    notes = []
    own = job.learner.recipe
    if own is not None and job.recipe.engine.name != own.engine.name:
        notes.append(f"meta-trained by {ENGINES[job.recipe.engine.name]}")
    size = trained_side(job).size
    if size != job.side.size:
        notes.append(f"meta-trained on images of {size}x{size}")
    return "; ".join(notes)


def combinations(grid: TuningGrid) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values, as configuration fields."""
    for values in itertools.product(*grid.values.values()):
        yield dict(zip(grid.values, values, strict=True))


def tune(
    job: Job,
    folder: Path,
    execution: Execution,
    root: Path | None = None,
    *,
    progress: bool = True,
    command: str = "",
    report: Callable[[float], None] = lambda share: None,
) -> Path:
    """Tries the whole grid on pinned lifetimes of the meta-train side, keeps the best accuracy (the
    earlier one of equals; one that diverged only where all did) and writes all that was tried.
    Under few_shot there are as many episodes as give the grid's number of predictions. Of a mixture
    of shapes it sees the largest. Returns the file's path, at once where it exists."""
    path = artifact_path(folder, job)
    if path.exists():
        load_artifact(path)
        return path
    grid = job.learner.tuning
    if grid is None:
        raise VsmlBenchError(f"learner '{job.learner.name}' has nothing to tune.")
    git = git_state()
    began = time.perf_counter()
    trials: list[dict[str, Any]] = []
    candidates = list(combinations(grid))
    sampler = EpisodeSampler(largest(job.side), root=root)
    with ProgressBar(len(candidates), job.name, progress) as bar:
        for values in candidates:
            accuracy, loss = score(job, values, sampler, execution)
            trials.append({"values": values, "accuracy": accuracy, "loss": loss})
            bar.reach(len(trials), f"{len(trials)}/{len(candidates)}")
            report(len(trials) / len(candidates))
    entry_of(job.learner)  # whose code may have changed meanwhile, or grown by a late import
    best = max(trials, key=lambda trial: (math.isfinite(trial["loss"]), trial["accuracy"]))
    document = {
        **origin(job, sampler.content_hashes, execution, git, command),
        "best": best["values"],
        "trials": [{**t, "loss": repr(t["loss"])} for t in trials],
        "seconds": time.perf_counter() - began,
        "adopted": [],
    }
    write_atomically(path, seal(document))
    return path


def score(
    job: Job, values: dict[str, Any], sampler: EpisodeSampler, execution: Execution
) -> tuple[float, float]:
    """Accuracy and mean loss of one point of the grid on the pinned lifetimes."""
    grid = job.learner.tuning
    assert grid is not None
    protocol: Protocol = Online(grid.steps).fitted(sampler)
    lifetimes = grid.lifetimes
    if job.episodes is not None:
        protocol = job.episodes.instance()
        lifetimes = -(-grid.lifetimes * grid.steps // protocol.predictions)
    protocol.check(sampler)
    torch.compiler.reset()  # only so many compilations of one function are kept
    learner = entry_of(job.learner).configured(values).create(job.seed)
    seeds = lifetime_seeds(lifetimes, "tuning")
    found = evaluate(learner, sampler, seeds, protocol, execution, job.seed)
    return float(found.correct.mean()), float(found.loss.mean())
