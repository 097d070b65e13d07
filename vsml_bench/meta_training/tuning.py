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
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.sides import largest
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution, device_name
from vsml_bench.learner import TuningGrid
from vsml_bench.meta_training.job import MetaTrainingJob
from vsml_bench.progress import progress_bar
from vsml_bench.protocols.evaluation import evaluate, lifetime_seeds
from vsml_bench.protocols.online import Online
from vsml_bench.provenance import git_state, versions
from vsml_bench.storage import seal, unseal, write_atomically


def combinations(grid: TuningGrid) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values, as configuration fields."""
    for values in itertools.product(*grid.values.values()):
        yield dict(zip(grid.values, values, strict=True))


def tuning_path(folder: Path, job: MetaTrainingJob) -> Path:
    """Where the outcome of a finished search is kept."""
    return folder / f"{job.name}.json"


def tune(
    job: MetaTrainingJob,
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
    path = tuning_path(folder, job)
    if path.exists():
        load_tuning(path)
        return path
    grid = job.entry.cls.tuning
    if grid is None:
        raise VsmlBenchError(f"learner '{job.entry.name}' has nothing to tune.")
    sampler = EpisodeSampler(largest(job.meta_train), root=root)
    protocol = job.few_shot or Online(min(grid.steps, sampler.max_steps or grid.steps))
    protocol.check(sampler)
    lifetimes = grid.lifetimes
    if job.few_shot is not None:
        lifetimes = -(-grid.lifetimes * grid.steps // protocol.predictions)
    seeds = lifetime_seeds(lifetimes, "tuning")
    commit, dirty = git_state()
    began = time.perf_counter()
    trials: list[dict[str, Any]] = []
    candidates = list(combinations(grid))
    bar = progress_bar(len(candidates), job.name, progress)
    for values in candidates:
        torch.compiler.reset()  # only so many compilations of one function are kept
        learner = job.entry.configured(values).create(job.seed)
        scores = evaluate(learner, sampler, seeds, protocol, execution, job.seed)
        accuracy = float(scores.correct.mean())
        bar.update()
        report((len(trials) + 1) / len(candidates))
        trials.append({"values": values, "accuracy": accuracy, "loss": float(scores.loss.mean())})
    bar.close()
    best = max(trials, key=lambda trial: (math.isfinite(trial["loss"]), trial["accuracy"]))
    document = {
        "format": 1,
        "identity": job.identity(),
        "best": best["values"],
        "trials": [{**t, "loss": repr(t["loss"])} for t in trials],
        "lifetimes": lifetimes,
        "steps": protocol.predictions,
        "seconds": time.perf_counter() - began,
        "meta_train": as_plain(job.meta_train),
        "data_hashes": sampler.content_hashes,
        "learner_hash": job.entry.source_hash(),
        "command": command,
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "device": device_name(execution.device),
    }
    write_atomically(path, seal(document))
    return path


def load_tuning(path: Path) -> dict[str, Any]:
    """The document that `tune` wrote; VsmlBenchError where it is torn or tampered with."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VsmlBenchError(f"cannot read tuning record {path.name}: {error.strerror}.") from error
    return unseal(data, path.name)
