"""What a worker process does: make one artifact, or run one cell and turn whatever happens into a
record."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsml_bench.config import as_plain, convert
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.mixtures import largest
from vsml_bench.errors import DivergedError, UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Outcomes, Provenance, Status, scrub
from vsml_bench.evaluation.planning import CellPlan, job_of
from vsml_bench.execution import decide, device_name
from vsml_bench.meta_training.artifact import ReadyLearner, find_artifact, make_artifact, ready
from vsml_bench.protocols.evaluation import Scores, evaluate
from vsml_bench.provenance import peak_memory_bytes, reset_peak_memory, versions
from vsml_bench.registry import LearnerEntry, find_learner

REASON_CHARACTERS = 2_000


@dataclass(frozen=True)
class WorkOrder:
    """A cell with where and how to run it."""

    plan: CellPlan
    artifact_folders: tuple[Path, ...]
    """Searched in this order; new artifacts go to the first."""
    root: Path | None
    device: str
    threads: int
    command: str
    """Recorded in what is made."""
    git: tuple[str, bool]
    """Commit and whether the tree was dirty when the run began."""
    precision: str = "float32"
    """Of the meta-test; artifacts are made in float32."""


def entry_of(plan: CellPlan) -> LearnerEntry:
    """The learner of a cell, found again and configured as planned."""
    entry = find_learner(plan.reference)
    config = convert(type(entry.config), plan.config, f"configuration of {entry.name}")
    return LearnerEntry(entry.name, entry.cls, config, entry.origin, entry.reference)


def make_artifact_of(order: WorkOrder, report: Callable[[float], None]) -> Path:
    """Makes the artifact that the cell needs and returns its path."""
    return make_artifact(
        job_of(order.plan, entry_of(order.plan)),
        order.artifact_folders[0],
        decide(order.device, order.threads),
        order.root,
        progress=False,
        command=order.command,
        report=report,
    )


def run_cell(order: WorkOrder, report: Callable[[float], None] = lambda share: None) -> Cell:
    """Runs the cell's meta-test. Never raises for what a learner does: that becomes the status."""
    reset_peak_memory()
    torch.compiler.reset()  # only so many compilations of one function are kept
    try:
        return _run(order, report)
    except UnavailableError as error:
        return failed_cell(order, "unavailable", str(error))
    except DivergedError as error:
        return failed_cell(order, "diverged", str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return failed_cell(order, "out_of_memory", str(error) or "out of memory")
    except VsmlBenchError as error:
        return failed_cell(order, "crashed", str(error))
    except Exception as error:
        if "allocate memory" in str(error):  # how PyTorch's CPU allocator says it
            return failed_cell(order, "out_of_memory", str(error))
        return failed_cell(order, "crashed", traceback.format_exc()[-REASON_CHARACTERS:])


def failed_cell(order: WorkOrder, status: Status, reason: str) -> Cell:
    """The record of a cell that has no scores."""
    device = decide(order.device, order.threads, order.precision).device
    return _cell(order, status, scrub(reason), None, None, device)


def _run(order: WorkOrder, report: Callable[[float], None]) -> Cell:
    plan = order.plan
    if plan.unavailable:
        return failed_cell(order, "unavailable", plan.unavailable)
    execution = decide(order.device, order.threads, order.precision)
    job = job_of(plan, entry_of(plan))
    train = EpisodeSampler(largest(plan.split.meta_train), root=order.root)
    learner = ready(job, find_artifact(job, order.artifact_folders), train.content_hashes)
    sampler = EpisodeSampler(plan.split.meta_test, root=order.root)
    scores = evaluate(
        learner.learner,
        sampler,
        plan.meta_test_seeds,
        plan.meta_test_protocol,
        execution,
        plan.id.seed,
        report,
    )
    if not np.isfinite(scores.loss).all():
        step = int(np.argwhere(~np.isfinite(scores.loss))[:, 1].min())
        reason = f"the loss is not finite from step {step} on"
        return _cell(order, "diverged", reason, None, learner, execution.device)
    return _cell(order, "ok", "", scores, learner, execution.device)


def _cell(
    order: WorkOrder,
    status: Status,
    reason: str,
    scores: Scores | None,
    learner: ReadyLearner | None,
    device: torch.device,
) -> Cell:
    plan = order.plan
    commit, dirty = order.git
    seconds: dict[str, float] = {}
    if scores is not None:
        seconds = {"compile": scores.compile_seconds, "meta_test": scores.seconds}
    if learner is not None:
        seconds["meta_train"] = learner.seconds
    tuning: dict[str, Any] = {}
    if learner is not None and learner.trials:
        tuning = {"trials": learner.trials, "seconds": learner.seconds}
    return Cell(
        id=plan.id,
        status=status,
        reason=reason,
        key=plan.key,
        relation=plan.relation,
        protocol=plan.protocol,
        lifetimes=plan.lifetimes,
        steps=plan.steps,
        outcomes=Outcomes(scores.correct, scores.loss, scores.traces)
        if scores is not None
        else None,
        provenance=Provenance(
            hashes=plan.hashes,
            meta_train_hash=plan.meta_train_hash,
            data_hashes=plan.data_hashes,
            learner_config=plan.config,
            recipe=as_plain(plan.recipe),
            checkpoint=learner.sha256 if learner is not None else None,
            tuned=learner.tuned if learner is not None else {},
            tuning_effort=tuning,
            seeds={"meta_train": plan.id.seed, "meta_test": plan.meta_test_seeds},
            git_commit=commit,
            git_dirty=dirty,
            versions=versions(),
            device=device_name(device),
            threads=order.threads,
            seconds=seconds,
            peak_memory_bytes=peak_memory_bytes(device),
            meta_parameters=sum(p.numel() for p in learner.learner.parameters()) if learner else 0,
            state_floats=scores.state_floats if scores is not None else 0,
            note=learner.note if learner is not None else "",
            created=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            precision=order.precision,
            processor=device.type,
        ),
    )
