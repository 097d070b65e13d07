"""The outcome of a meta-training, whichever kind the learner needs: meta-parameters in a
checkpoint, tuned hyper-parameters in a record, or nothing at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsml_bench.config import as_plain
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Engine, Learner
from vsml_bench.meta_training.checkpoint import load_checkpoint, load_meta_parameters
from vsml_bench.meta_training.job import MetaTrainingJob, meta_train_side
from vsml_bench.meta_training.loop import checkpoint_path, meta_train
from vsml_bench.meta_training.tuning import load_tuning, tune, tuning_path
from vsml_bench.seeds import derive_seed

ENGINES: Mapping[Engine, str] = {
    "bptt": "backpropagation through time",
    "es": "evolution strategies",
}
"""What boards call them."""


@dataclass(frozen=True)
class ReadyLearner:
    """A learner that can be meta-tested, and how it got ready."""

    learner: Learner
    sha256: str | None = None
    """Of the checkpoint or tuning record; None where the learner needs neither."""
    seconds: float = 0.0
    """Of meta-training or tuning."""
    tuned: dict[str, Any] = field(default_factory=dict)
    trials: int = 0
    note: str = ""


def needs_artifact(job: MetaTrainingJob) -> bool:
    """Whether the learner must be meta-trained or tuned before it can be meta-tested."""
    return job.recipe is not None or job.entry.cls.tuning is not None


def artifact_path(folder: Path, job: MetaTrainingJob) -> Path:
    """Where the outcome belongs in `folder`."""
    return checkpoint_path(folder, job) if job.recipe is not None else tuning_path(folder, job)


def find_artifact(job: MetaTrainingJob, folders: Sequence[Path]) -> Path | None:
    """The first existing outcome in `folders`."""
    paths = [artifact_path(folder, job) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def check_artifact(job: MetaTrainingJob, path: Path) -> None:
    """VsmlBenchError where the artifact at `path` is torn or was changed after it was written."""
    if job.recipe is not None:
        load_checkpoint(path)
    else:
        load_tuning(path)


def make_artifact(
    job: MetaTrainingJob,
    folder: Path,
    execution: Execution,
    root: Path | None,
    *,
    progress: bool = True,
    command: str = "",
    report: Callable[[float], None] = lambda share: None,
) -> Path:
    """Meta-trains or tunes, continuing what was interrupted, and returns the outcome's path."""
    make = meta_train if job.recipe is not None else tune
    return make(job, folder, execution, root, progress=progress, command=command, report=report)


def ready(job: MetaTrainingJob, path: Path | None, data_hashes: Mapping[str, str]) -> ReadyLearner:
    """The learner with what the artifact at `path` says.

    data_hashes: dataset -> content hash of today's meta-train partition. VsmlBenchError where the
    artifact is damaged or comes from another meta-training or from other data.
    """
    if not needs_artifact(job):
        return ReadyLearner(job.entry.create(derive_seed(job.seed, "meta-initialisation")))
    if path is None:
        raise VsmlBenchError(f"{job.name} has not been meta-trained; run `vsml-bench meta-train`.")
    if job.recipe is None:
        record = load_tuning(path)
        _check(record, job, data_hashes, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        learner = job.entry.configured(record["best"]).create(job.seed)
        return ReadyLearner(
            learner,
            sha256,
            record["seconds"],
            record["best"],
            len(record["trials"]),
            _outdated(record, job, "tuned"),
        )
    checkpoint = load_checkpoint(path)
    _check(checkpoint.document, job, {} if job.recipe.source else data_hashes, path)
    learner = job.entry.create()
    load_meta_parameters(learner, checkpoint, path.name)
    notes = [_outdated(checkpoint.document, job, "meta-trained")]
    own = job.entry.cls.recipe
    if own is not None and job.recipe.engine != own.engine:
        notes.append(f"meta-trained by {ENGINES[job.recipe.engine]}")
    size = meta_train_side(job).size
    if size != job.meta_train.size:
        notes.append(f"meta-trained on images of {size}x{size}")
    return ReadyLearner(
        learner,
        checkpoint.sha256,
        checkpoint.document["seconds"],
        note="; ".join(filter(None, notes)),
        trials=1,
    )


def _outdated(document: Mapping[str, Any], job: MetaTrainingJob, made: str) -> str:
    """What the board says where the learner's code has changed since: the result is still used,
    for meta-training may have taken days, but never silently."""
    if document["learner_hash"] == job.entry.source_hash():
        return ""
    return f"{made} by an earlier version of the learner's code"


def _check(
    document: Mapping[str, Any],
    job: MetaTrainingJob,
    data_hashes: Mapping[str, str],
    path: Path,
) -> None:
    expected = job.identity()
    found = document.get("identity", {})
    differing = sorted(key for key in expected if found.get(key) != as_plain(expected[key]))
    if document.get("data_hashes") != data_hashes:
        differing.append("data")
    if differing:
        raise VsmlBenchError(
            f"{path.name} comes from another meta-training (different: {', '.join(differing)}); "
            "delete it and meta-train again."
        )
