"""What a worker process does: look at a split's data, make one artifact, or run one cell, and turn
whatever happens into a record."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vsml_bench.contract import ContractReport
from vsml_bench.contract.suite import check_learner
from vsml_bench.data.distributions import check_disjoint, largest
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.data.transforms import check_fits
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Provenance, Status
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.tasks import failure_of
from vsml_bench.execution import choose_device, decide, device_name
from vsml_bench.meta_training.artifact import ReadyLearner, make_artifact, ready
from vsml_bench.meta_training.checkpoint import load_artifact
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.meta_training.peers import Peers
from vsml_bench.owners import Claim, sweep
from vsml_bench.protocols.evaluation import Evaluation, evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.provenance import peak_memory_bytes, reset_peak_memory, scrub, versions
from vsml_bench.recipes import Shape
from vsml_bench.registry import check_code, find_learners
from vsml_bench.storage import check_writable
from vsml_bench.suites import Split

REASON_CHARACTERS = 2_000


def inspect(
    plans: tuple[Plan, ...], setting: Setting, report: Callable[[float], None]
) -> dict[str, str]:
    """Why plans, all of one split, cannot be run here, by their learners' names: "" where they can.

    Raises UnavailableError where the data are not here, VsmlBenchError for data that the protocol
    cannot use, for sides that share examples, and for damaged checkpoints and tuning records.
    """
    for job in {plan.job.key: plan.job for plan in plans}.values():
        artifact = find_artifact(job, setting.folders)
        if artifact is not None:
            load_artifact(artifact)
    split, root = plans[0].split, setting.root
    train = EpisodeSampler(largest(split.meta_train), root=root)
    test = EpisodeSampler(split.meta_test, root=root)
    for plan in plans:
        plan.protocol.instance().check(test)
        (plan.job.episodes.instance() if plan.job.episodes else Online(1)).check(train)
    check_disjoint(split, root)
    shapes = (train.shape, test.shape)
    return {plan.learner: plan.job.learner.unavailable or _misfit(plan, shapes) for plan in plans}


def _misfit(plan: Plan, shapes: tuple[Shape, ...]) -> str:
    """Why the learner cannot take the split's examples; "" where it can."""
    card = plan.job.learner
    for shape in shapes:
        kind = "image" if len(shape.inputs) == 3 else "vector"
        if kind not in card.input_kinds:
            return (
                f"learner '{card.name}' takes inputs of the kind {', '.join(card.input_kinds)} "
                f"only, and split '{plan.split.name}' has {kind}s."
            )
        try:
            check_fits(shape, card.fixed_shape or shape)
        except VsmlBenchError as error:
            return str(error)
    return ""


def train(job: Job, setting: Setting, report: Callable[[float], None]) -> Path:
    """Makes the artifact of a job and returns its path."""
    execution = decide(setting.device, setting.threads)
    return make_artifact(
        job,
        setting.folders[0],
        execution,
        setting.root,
        starts=setting.folders,
        progress=False,
        command=setting.command,
        report=report,
    )


def train_in_view(
    job: Job,
    split: Split | None,
    setting: Setting,
    threads: int | None,
    progress: bool,
    claim: Claim,
    peers: Peers,
    report: Callable[[float], None],
) -> Path:
    """`train` while somebody watches. split: whose sides must share no example. claim: on the file
    that is made, on behalf of who waits for it. peers: the processes that make it together."""
    if split is not None:
        check_disjoint(split, setting.root)
    execution = decide(setting.device, threads)
    folder = setting.folders[0]
    with peers.joined(execution.device):
        if peers.leads:
            sweep(folder)
            check_writable(folder)
            claim.take_or_wait(waiting=peers.count == 1)
        return make_artifact(
            *(job, folder, execution, setting.root),
            progress=progress,
            command=setting.command,
            report=report,
            peers=peers,
        )


def check(reference: str, report: Callable[[float], None]) -> tuple[ContractReport, ...]:
    """What `check` says of the learners that the reference stands for."""
    entries = find_learners(reference)
    return tuple(
        check_learner(entry, lambda share, i=i: report((i + share) / len(entries)))  # type: ignore[misc]
        for i, entry in enumerate(entries)
    )


def test(
    plan: Plan, setting: Setting, report: Callable[[float], None] = lambda share: None
) -> Cell:
    """Runs a cell's meta-test. Never raises for what a learner does: that becomes the status."""
    reset_peak_memory()
    torch.compiler.reset()  # only so many compilations of one function are kept
    try:
        return _test(plan, setting, report)
    except Exception as error:
        failure = failure_of(error)
        reason = failure.reason
        if failure.status == "crashed" and not isinstance(error, VsmlBenchError):
            reason = traceback.format_exc()[-REASON_CHARACTERS:]
        return failed_cell(plan, setting, failure.status, reason)


def failed_cell(plan: Plan, setting: Setting, status: Status, reason: str) -> Cell:
    """The record of a cell that has no scores."""
    return Cell(plan, status, scrub(reason), None, _provenance(plan, setting))


@dataclass(frozen=True)
class Prepared:
    """A learner and the lifetimes that it is to be tested on."""

    learner: ReadyLearner
    sampler: EpisodeSampler
    seeds: list[int]
    data_hashes: dict[str, str]


def prepare(plan: Plan, folders: tuple[Path, ...], root: Path | None) -> Prepared:
    """Today's learner with what its artifact says, and today's data."""
    train = EpisodeSampler(largest(plan.split.meta_train), root=root)
    learner = ready(plan.job, find_artifact(plan.job, folders), train.content_hashes)
    sampler = EpisodeSampler(plan.split.meta_test, root=root)
    hashes = {
        f"{side}/{dataset}": content
        for side, of in (("meta_train", train), ("meta_test", sampler))
        for dataset, content in of.content_hashes.items()
    }
    return Prepared(learner, sampler, plan.meta_test_seeds(sampler.fixed_episodes), hashes)


def _test(plan: Plan, setting: Setting, report: Callable[[float], None]) -> Cell:
    execution = decide(setting.device, setting.threads, setting.precision)
    found = prepare(plan, setting.folders, setting.root)
    scores = evaluate(
        found.learner.learner,
        found.sampler,
        found.seeds,
        plan.protocol.instance().fitted(found.sampler),
        execution,
        plan.job.seed,
        report,
    )
    check_code(found.learner.entry, plan.job.learner)
    provenance = _provenance(plan, setting, found, scores)
    if not np.isfinite(scores.loss).all():
        step = int(np.argwhere(~np.isfinite(scores.loss))[:, 1].min())
        return Cell(
            plan, "diverged", f"the loss is not finite from step {step} on", None, provenance
        )
    outcomes = Outcomes(scores.correct, scores.loss, scores.traces)
    return Cell(plan, "ok", "", outcomes, provenance)


def _provenance(
    plan: Plan, setting: Setting, found: Prepared | None = None, scores: Evaluation | None = None
) -> Provenance:
    commit, dirty = setting.git
    try:
        device = choose_device(setting.device, setting.precision)
        model, processor = device_name(device), device.type
    except VsmlBenchError:  # it failed on a machine that has another one
        device, model, processor = torch.device("cpu"), setting.device, setting.device
    learner = found.learner if found is not None else None
    seconds: dict[str, float] = {}
    if scores is not None:
        seconds = {"compile": scores.compile_seconds, "meta_test": scores.seconds}
    effort: dict[str, float] = {}
    if learner is not None:
        seconds["meta_train"] = learner.seconds
        if learner.trials:
            effort = {"trials": learner.trials, "seconds": learner.seconds}
    return Provenance(
        data_hashes=found.data_hashes if found is not None else {},
        checkpoint=learner.sha256 if learner is not None else None,
        tuned=learner.tuned if learner is not None else {},
        tuning_effort=effort,
        seeds={
            "meta_train": plan.job.seed,
            "meta_test": found.seeds if found is not None else [],
            "shuffled": found.sampler.shuffled if found is not None else None,
        },
        git_commit=commit,
        git_dirty=dirty,
        versions=versions(),
        device=model,
        threads=setting.threads,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        meta_parameters=sum(p.numel() for p in learner.learner.parameters()) if learner else 0,
        state_floats=scores.state_floats if scores is not None else 0,
        note="; ".join(filter(None, (plan.note, learner.note if learner is not None else ""))),
        created=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        precision=setting.precision,
        processor=processor,
    )
