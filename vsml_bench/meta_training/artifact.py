"""The outcome of a meta-training, whichever kind the learner needs: meta-parameters in a
checkpoint, tuned hyper-parameters in a record, or nothing at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsml_bench.config import as_plain
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner
from vsml_bench.meta_training.checkpoint import Checkpoint, load_checkpoint, load_meta_parameters
from vsml_bench.meta_training.job import Job, artifact_path, trained_side
from vsml_bench.meta_training.loop import meta_train
from vsml_bench.meta_training.tuning import load_tuning, tune
from vsml_bench.recipes import ENGINES
from vsml_bench.registry import LearnerEntry, entry_of
from vsml_bench.seeds import derive_seed


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


def load_artifact(path: Path) -> Checkpoint:
    """A checkpoint, or a tuning record as one without tensors; VsmlBenchError where it is torn or
    was changed after it was written."""
    return load_checkpoint(path) if path.suffix == ".safetensors" else load_tuning(path)


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
) -> Path:
    """Meta-trains or tunes, continuing what was interrupted, and returns the outcome's path.

    starts: further folders that the checkpoint to start from is looked for in.
    """
    if progress and artifact_path(folder, job).exists():
        print(f"{job.name} exists and is not made again.", file=sys.stderr)
    where = (job, folder, execution, root)
    if job.recipe is None:
        return tune(*where, progress=progress, command=command, report=report)
    return meta_train(*where, starts=starts, progress=progress, command=command, report=report)


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
    sourced = job.recipe is not None and bool(job.recipe.source)
    check_origin(document, job, {} if sourced else data_hashes, path)
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


def check_origin(
    document: Mapping[str, Any], job: Job, data_hashes: Mapping[str, str], path: Path
) -> None:
    """VsmlBenchError where an artifact comes from another meta-training than `job`, or from other
    data."""
    expected, found = as_plain(job.identity()), document.get("identity", {})
    differing = sorted(part for part in expected if found.get(part) != expected[part])
    if document.get("data_hashes") != data_hashes:
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
