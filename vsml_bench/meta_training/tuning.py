"""Grid search on the meta-train side, for learners that have hyper-parameters but no
meta-parameters. It never sees a meta-test example."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from vsml_bench.config import as_plain
from vsml_bench.data.distributions import largest
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution, device_name
from vsml_bench.meta_training.checkpoint import Checkpoint
from vsml_bench.meta_training.job import Job, artifact_path
from vsml_bench.printing import progress_bar
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import Protocol
from vsml_bench.provenance import git_state, versions
from vsml_bench.recipes import TuningGrid
from vsml_bench.registry import entry_of
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.storage import seal, sha256_hex, unseal, write_atomically


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
        load_tuning(path)
        return path
    grid = job.learner.tuning
    if grid is None:
        raise VsmlBenchError(f"learner '{job.learner.name}' has nothing to tune.")
    commit, dirty = git_state()
    began = time.perf_counter()
    trials: list[dict[str, Any]] = []
    candidates = list(combinations(grid))
    sampler = EpisodeSampler(largest(job.side), root=root)
    bar = progress_bar(len(candidates), job.name, progress)
    for values in candidates:
        accuracy, loss = score(job, values, sampler, execution)
        bar.update()
        report((len(trials) + 1) / len(candidates))
        trials.append({"values": values, "accuracy": accuracy, "loss": loss})
    bar.close()
    best = max(trials, key=lambda trial: (math.isfinite(trial["loss"]), trial["accuracy"]))
    document = {
        "format": 2,
        "job": as_plain(job.published()),
        "identity": job.identity(),
        "best": best["values"],
        "trials": [{**t, "loss": repr(t["loss"])} for t in trials],
        "seconds": time.perf_counter() - began,
        "data_hashes": sampler.content_hashes,
        "command": command,
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "device": device_name(execution.device),
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


def load_tuning(path: Path) -> Checkpoint:
    """What `tune` wrote, as a checkpoint without tensors; VsmlBenchError where it is torn or
    tampered with."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VsmlBenchError(f"cannot read tuning record {path.name}: {error.strerror}.") from error
    return Checkpoint({}, unseal(data, path.name), sha256_hex(data))
