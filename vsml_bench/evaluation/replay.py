"""Replay: what is stored is run again with today's code, data and libraries, and compared.

What results are of is declared: versions, configurations, recipes (`Plan.identity`). Replay guards
the declarations. It sees what no declaration does: a change of an equation, of C++ code, of data,
of a protocol, of PyTorch itself.

Two float32 computations of the same equations may differ in their last bits, by the number of
lifetimes side by side, by the CPU, or by the order of a sum, and a lifetime of learning lets such a
difference grow. So losses are compared within `LOSS` and decisions within `DECISIONS`. Where a cell
is replayed on the kind of device that it was run on the differences are 0 nearly always.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsml_bench.config import build
from vsml_bench.data.distributions import largest
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import UnavailableError
from vsml_bench.evaluation.cell import Cell, load_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.worker import prepare
from vsml_bench.execution import decide
from vsml_bench.meta_training.artifact import load_artifact
from vsml_bench.meta_training.checkpoint import Checkpoint
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.meta_training.loop import FIRST_LOSSES, Training
from vsml_bench.meta_training.tuning import score
from vsml_bench.paths import parts
from vsml_bench.protocols.evaluation import Scores, evaluate
from vsml_bench.protocols.online import Online

LOSS = 0.02
"""How far the mean loss of a lifetime may be off, in nats, and each loss of its first steps."""
FIRST = 50
"""Steps in which no rounding has grown yet."""
DECISIONS = 0.01
"""Share of the decisions that may differ, rounded up to one."""
MOST_UPDATES = 100
"""Of a meta-training that are repeated."""
META_LOSS = 1e-3
"""How far a meta-loss may be off, relative to 1 + itself."""


@dataclass(frozen=True)
class Replay:
    """What became of one stored record."""

    file: str
    kind: str
    """"cell", "meta-training" or "tuning"."""
    lifetimes: int = 0
    steps: int = 0
    """Of each lifetime, or meta-updates."""
    difference: float = 0.0
    """The largest of a loss, in nats."""
    decisions: int = 0
    """That differ."""
    reason: str = ""
    """Why it does not replay; "" where it does."""
    impossible: str = ""
    """Why it cannot be replayed here; "" where it can."""


@dataclass(frozen=True)
class Beginning(Online):
    """The first steps of longer lifetimes."""

    whole: Online = field(default_factory=lambda: Online(1))
    """They are the beginnings of these."""

    def sample(self, sampler: EpisodeSampler, seeds: Sequence[int]) -> Episode:
        """The beginnings of whole lifetimes, in which something may happen at half."""
        episode = self.whole.sample(sampler, seeds)
        targets = None if episode.targets is None else episode.targets[: self.steps]
        return Episode(episode.inputs[: self.steps], episode.labels[: self.steps], targets)


def replay_cell(
    cell: Cell,
    plan: Plan,
    folders: tuple[Path, ...],
    root: Path | None,
    lifetimes: int,
    steps: int | None = None,
    file: str = "",
) -> Replay:
    """Runs the first `lifetimes` of a cell that is ok again, as `plan` says, which is the cell's
    own or today's for its place.

    A cell of a GPU is run on a CPU where there is no GPU. All lifetimes of a cell in mixed
    precision are run. folders: of checkpoints. steps: run only so many of each lifetime, of a
    stream.
    """
    assert cell.outcomes is not None
    absent = _absent(plan.job)
    if absent:
        return Replay(file, "cell", impossible=absent)
    provenance = cell.provenance
    usable = provenance.processor == "cpu" or torch.cuda.is_available()
    execution = decide(provenance.processor if usable else "cpu", 1, provenance.precision)
    found = prepare(plan, folders, root)
    differing = sorted(
        name
        for name in {*found.data_hashes, *provenance.data_hashes}
        if found.data_hashes.get(name) != provenance.data_hashes.get(name)
    )
    seeds, stored = found.seeds, provenance.seeds["meta_test"]
    if seeds != stored:
        return Replay(file, "cell", reason="its lifetimes have other seeds")
    if provenance.precision != "float32":
        lifetimes = len(seeds)  # a product's rounding depends on how many run side by side
    protocol = plan.protocol.instance().fitted(found.sampler)
    if steps is not None and isinstance(protocol, Online):
        protocol = Beginning(min(steps, protocol.steps), protocol)
    scores = evaluate(
        found.learner.learner, found.sampler, seeds[:lifetimes], protocol, execution, plan.job.seed
    )
    compared = _compared(scores, cell.outcomes)
    if differing:
        compared = replace(compared, reason=f"other data than then: {', '.join(differing)}")
    return replace(compared, file=file)


def _compared(scores: Scores, outcomes: Outcomes) -> Replay:
    """How far today's scores [E, T] are from the first E lifetimes and T steps of what is
    stored."""
    count, length = scores.correct.shape
    loss = outcomes.loss[:count, :length].astype(np.float64)
    today = Outcomes(scores.correct, np.nan_to_num(scores.loss, nan=65504.0, posinf=65504.0)).loss
    off = np.abs(today.astype(np.float64) - loss)
    differ = (scores.correct != outcomes.correct[:count, :length]).sum(1)
    reasons = []
    if differ.max() > np.ceil(DECISIONS * length):
        reasons.append(f"{differ.sum()} of {differ.size * length} decisions differ")
    if scores.refused:
        reasons.append("the learner's fast code gives something else than its written steps")
    early = (off > LOSS * (1 + loss))[:, :FIRST].any()
    if early or (off.mean(1) > LOSS * (1 + loss.mean(1))).any():
        reasons.append(f"a loss is off by {off.max():.3g} nats")
    found = Replay("", "cell", count, length, round(float(off.max()), 6), int(differ.sum()))
    return replace(found, reason="; ".join(reasons))


def _absent(job: Job) -> str:
    """Which file of the learner's is not here; "" where none is missing. What is stored names no
    folder, so that it is looked for in the working folder."""
    file, _ = parts(job.learner.reference)
    if not file or Path(file).is_file():
        return ""
    return f"the file of learner '{job.learner.name}', {file}, is not in the working folder"


def replay_training(
    checkpoint: Checkpoint, job: Job, folders: tuple[Path, ...], root: Path | None, file: str = ""
) -> tuple[Replay, list[float]]:
    """Repeats the first meta-updates from the recorded seed, on a CPU with one thread, and compares
    the meta-losses with those recorded; also these losses.

    A checkpoint from before meta-losses were recorded has their mean up to the first validation: of
    it all these updates are repeated, or, if they are more than `MOST_UPDATES`, nothing can be
    compared and the replay has 0 steps.
    """
    first = list(checkpoint.document.get("first_losses", ()))
    history = checkpoint.document["history"]
    count = len(first) or int(history[0]["step"])
    found = Replay(file, "meta-training")
    if count > MOST_UPDATES:
        return found, first_losses(job, folders, root, FIRST_LOSSES)
    losses = first_losses(job, folders, root, count)
    if first:
        pairs = list(zip(losses, first, strict=True))
    else:
        pairs = [(sum(losses) / len(losses), history[0]["loss"])]
    off = max(abs(now - stored) / (1 + abs(stored)) for now, stored in pairs)
    reason = f"meta-losses are off by {off:.3g}" if off > META_LOSS else ""
    found = replace(found, steps=count, difference=round(off, 9), reason=reason)
    return found, losses[:FIRST_LOSSES]


def first_losses(
    job: Job, folders: tuple[Path, ...], root: Path | None, updates: int
) -> list[float]:
    """Meta-losses of the first meta-updates of a job, from fresh meta-parameters or from those that
    it starts from, which must be in one of the folders."""
    assert job.recipe is not None
    start = find_artifact(job.start, folders) if job.start is not None else None
    if job.start is not None and start is None:
        raise UnavailableError(
            f"the meta-training that it goes on from, {job.start.name}, is not here"
        )
    with tempfile.TemporaryDirectory() as folder:
        cpu = decide("cpu", 1)
        training = Training(job, job.recipe, Path(folder), cpu, root, "", compiling=False)
        if start is not None:
            training.start_from(start)
        return [training.update(step) for step in range(updates)]


def replay_tuning(record: Checkpoint, job: Job, root: Path | None, file: str = "") -> Replay:
    """Scores the best point of the grid again."""
    document = record.document
    (stored,) = [trial for trial in document["trials"] if trial["values"] == document["best"]]
    sampler = EpisodeSampler(largest(job.side), root=root)
    accuracy, _ = score(job, document["best"], sampler, decide("cpu", 1))
    off = abs(accuracy - stored["accuracy"])
    reason = f"the accuracy of its best point is off by {off:.3g}" if off > DECISIONS else ""
    return Replay(file, "tuning", difference=round(off, 9), reason=reason)


def replay_file(
    path: Path,
    setting: Setting,
    lifetimes: int,
    steps: int | None,
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Replays the cell, checkpoint or tuning record at `path` as it says that it was made. Returns
    the fields of a `Replay`."""
    return asdict(_replay(path, setting, lifetimes, steps))


def _replay(path: Path, setting: Setting, lifetimes: int, steps: int | None) -> Replay:
    if path.parent.name == "cells":
        cell = load_cell(path)
        if cell.status != "ok":
            return Replay(path.name, "cell", impossible=f"it is {cell.status}")
        return replay_cell(
            cell, cell.plan, setting.folders, setting.root, lifetimes, steps, path.name
        )
    record = load_artifact(path)
    job = build(Job, record.document["job"], path.name)
    absent = _absent(job)
    if absent:
        kind = "tuning" if job.recipe is None else "meta-training"
        return Replay(path.name, kind, impossible=absent)
    if job.recipe is None:
        return replay_tuning(record, job, setting.root, path.name)
    return replay_training(record, job, setting.folders, setting.root, path.name)[0]
