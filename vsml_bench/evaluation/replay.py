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

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from vsml_bench.config import build
from vsml_bench.data.distributions import largest
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import DivergedError, UnavailableError
from vsml_bench.evaluation.cell import Cell, load_cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.worker import prepare
from vsml_bench.execution import decide
from vsml_bench.learner import Learner
from vsml_bench.meta_training.artifact import score
from vsml_bench.meta_training.checkpoint import Checkpoint, load_artifact
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.meta_training.loop import Training
from vsml_bench.owners import temporary_folder
from vsml_bench.paths import parts
from vsml_bench.protocols.evaluation import Evaluation, evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import Protocol

LOSS = 0.02
"""How far the mean loss of a lifetime may be off, in nats, and each loss of its first steps."""
FIRST = 50
"""Steps in which no rounding has grown yet."""
DECISIONS = 0.01
"""Share of the decisions that may differ, rounded up to one."""
META_LOSS = 1e-3
"""How far a meta-loss of the first updates may be off, relative to 1 + itself; on average all may
be off by `LOSS`."""
FIRST_UPDATES = 5
"""In which no rounding has grown yet, of most meta-trainings."""
DRAWS = 16
"""How often, at most, a meta-training that is further off is run from meta-parameters one unit in
the last place away. In some one lifetime jumps, and not in every draw."""
ROUNDING = 2.0
"""How many times as far as the furthest of these it may be off."""


@dataclass(frozen=True)
class Replay:
    """What became of one stored record."""

    kind: str
    """"cell", "meta-training" or "tuning"; "artifact" where not even that is known."""
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
    audit: str = ""
    """Of a cell that replays: "passed", or why nothing is known."""
    rounding: float = 0.0
    """How far one unit in the last place of its meta-parameters moves the meta-losses of a
    meta-training that replays by that alone."""


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


def beginning(protocol: Protocol, steps: int | None) -> Protocol:
    """The protocol, or that of the first steps where only so many are wanted of a stream."""
    if steps is not None and isinstance(protocol, Online):
        return Beginning(min(steps, protocol.steps), protocol)
    return protocol


def replay_file(
    path: Path,
    setting: Setting,
    lifetimes: Sequence[int],
    steps: int | None,
    report: Callable[[float], None] = lambda share: None,
) -> Replay:
    """Replays the cell, checkpoint or tuning record at `path` as it says that it was made."""
    folders, root = setting.folders, setting.root
    if path.parent.name != "cells":
        record = load_artifact(path)
        job = build(Job, record.document["job"], path.name)
        return replay_artifact(record, job, folders, root)
    cell = load_cell(path)
    if cell.status != "ok":
        return Replay("cell", impossible=f"it is {cell.status}")
    return replay_cell(cell, cell.plan, folders, root, lifetimes, steps)


def replay_cell(
    cell: Cell,
    plan: Plan,
    folders: tuple[Path, ...],
    root: Path | None,
    lifetimes: Sequence[int],
    steps: int | None = None,
) -> Replay:
    """Runs these lifetimes of a cell that is ok again, as far as it has them, as `plan` says, which
    is the cell's own or today's for its place.

    A cell of a GPU is run on a CPU where there is no GPU. A cell in mixed precision is run whole:
    in few lifetimes or steps, its rounding weighs too much. folders: of checkpoints. steps: run
    only so many of each lifetime, of a stream without traces.
    """
    assert cell.outcomes is not None
    absent = _absent(plan.job)
    if absent:
        return Replay("cell", impossible=absent)
    provenance = cell.provenance
    usable = provenance.processor == "cpu" or torch.cuda.is_available()
    execution = decide(provenance.processor if usable else "cpu", 1, provenance.precision)
    found = prepare(plan, folders, root)
    seeds, now, then = found.seeds, found.data_hashes, provenance.data_hashes
    if seeds != provenance.seeds["meta_test"]:
        return Replay("cell", reason="its lifetimes have other seeds")
    if provenance.precision != "float32":
        # A product's rounding depends on how many run side by side, and on the machine.
        lifetimes, steps = range(len(seeds)), None
    of = cell.outcomes
    if of.traces:  # which are of whole lifetimes
        steps = None
    chosen = [lifetime for lifetime in lifetimes if lifetime < len(seeds)]
    protocol = plan.protocol.instance().fitted(found.sampler)
    protocol = beginning(protocol, steps)
    scores = evaluate(
        found.learner.learner,
        found.sampler,
        [seeds[lifetime] for lifetime in chosen],
        protocol,
        execution,
        plan.job.seed,
    )
    length, there = scores.correct.shape[1], of.correct.shape[1]
    if length > there or (steps is None and length < there):
        return Replay("cell", reason=f"it has {there} predictions a lifetime, not {length}")
    traces = {name: trace[chosen] for name, trace in of.traces.items()}
    replayed = _compared(scores, Outcomes(of.correct[chosen], of.loss[chosen], traces))
    differing = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if differing:
        return replace(replayed, reason=f"other data than then: {', '.join(differing)}")
    return replayed


def _compared(scores: Evaluation, outcomes: Outcomes) -> Replay:
    """How far today's scores are from what is stored of the same lifetimes."""
    loss = np.nan_to_num(scores.loss, nan=65504.0, posinf=65504.0)
    found = compared(Outcomes(scores.correct, loss, scores.traces), outcomes)
    if not scores.refused:
        return found
    refused = "the learner's fast code gives something else than its written steps"
    return replace(found, reason="; ".join(filter(None, (found.reason, refused))))


def compared(now: Outcomes, then: Outcomes) -> Replay:
    """How far outcomes [E, T] are from others of the same lifetimes, which may be longer and have
    no traces then."""
    count, length = now.correct.shape
    loss = then.loss[:, :length].astype(np.float64)
    off = np.abs(now.loss.astype(np.float64) - loss)
    differ = (now.correct != then.correct[:, :length]).sum(1)
    reasons = []
    if differ.max() > np.ceil(DECISIONS * length):
        reasons.append(f"{differ.sum()} of {differ.size * length} decisions differ")
    early = (off > LOSS * (1 + loss))[:, :FIRST].any()
    if early or (off.mean(1) > LOSS * (1 + loss.mean(1))).any():
        reasons.append(f"a loss is off by {off.max():.3g} nats")
    others = sorted(
        name
        for name in now.traces.keys() | then.traces.keys()
        if not _is_near(now.traces.get(name), then.traces.get(name))
    )
    if others:
        reasons.append(f"what the protocol measured besides differs: {', '.join(others)}")
    largest = round(float(off.max()), 6)
    return Replay("cell", count, length, largest, int(differ.sum()), "; ".join(reasons))


def _is_near(now: np.ndarray | None, then: np.ndarray | None) -> bool:
    """Whether a trace [E, ...] is in each lifetime what it was, as the losses are on average."""
    if now is None or then is None or now.shape != then.shape:
        return False
    known = np.isfinite(then)
    if not np.array_equal(known, np.isfinite(now)):
        return False
    off, size = (
        np.where(known, np.abs(part), 0.0).reshape(len(then), -1).sum(1)
        for part in (now.astype(np.float64) - then, then.astype(np.float64))
    )
    count = known.reshape(len(then), -1).sum(1)
    return bool((off <= LOSS * (count + size)).all())


def _absent(job: Job) -> str:
    """Which file of the learner's is not here; "" where none is missing. What is stored names no
    folder, so that it is looked for in the working folder."""
    file, _ = parts(job.learner.reference)
    if not file or Path(file).is_file():
        return ""
    return f"the file of learner '{job.learner.name}', {file}, is not in the working folder"


def replay_artifact(
    record: Checkpoint, job: Job, folders: tuple[Path, ...], root: Path | None
) -> Replay:
    """Repeats the first updates of a meta-training, or the best trial of a tuning, on a CPU with
    one thread.

    folders: where the checkpoint is looked for that a meta-training goes on from; UnavailableError
    where that is in none of them.
    """
    found = Replay("tuning" if job.recipe is None else "meta-training")
    absent = _absent(job)
    if absent:
        return replace(found, impossible=absent)
    if job.recipe is None:
        off = _tuning_off(record, job, root)
        reason = f"the accuracy of its best point is off by {off:.3g}" if off > DECISIONS else ""
    else:
        stored = record.document["first_losses"]
        again = functools.partial(_first_losses, job, folders, root)
        off, reason, rounding = drift(again(len(stored)), stored, again)
        found = replace(found, steps=len(stored), rounding=round(rounding, 9))
    return replace(found, difference=round(off, 9), reason=reason)


def drift(
    now: Sequence[float], then: Sequence[float], again: Callable[[int, int], Sequence[float]]
) -> tuple[float, str, float]:
    """How far the meta-losses of the first updates are off at most, relative to 1 + what is stored,
    why that is too far, "" where it is not, and how far rounding moves them where that is why.

    Rounding grows from update to update. Some meta-trainings magnify it by 10^5 within five, as
    they show where they begin one unit in the last place away.
    again: the meta-losses of so many updates, of such a beginning by its number. No more are asked
    for than explain it.
    """
    off, rounding = _apart(now, then), 0.0
    for updates, of_all, allowed, said in (
        (FIRST_UPDATES, np.maximum.accumulate, META_LOSS, "of the first updates are off by {:.3g}"),
        (len(then), np.mean, LOSS, "are off by {:.3g} on average"),
    ):
        begun, found = now[:updates], of_all(off[:updates])
        if np.all(found <= allowed):  # nor where it is NaN
            continue
        bound = np.asarray(allowed)
        for draw in range(DRAWS):
            try:
                moved = _apart(again(len(begun), draw), begun)
            except DivergedError:  # which says nothing of how far rounding goes
                continue
            rounding = max(rounding, float(moved.max()))
            bound = np.maximum(bound, ROUNDING * of_all(moved))
            if np.all(found <= bound):
                break
        else:
            return float(off.max()), f"meta-losses {said.format(np.max(found))}", 0.0
    return float(off.max()), "", rounding


def _apart(now: Sequence[float], then: Sequence[float]) -> np.ndarray:
    """[U] between meta-losses [U], relative to 1 + the second."""
    apart: np.ndarray = np.abs(np.subtract(now, then)) / (1 + np.abs(then))
    return apart


def _first_losses(
    job: Job, folders: tuple[Path, ...], root: Path | None, updates: int, draw: int | None = None
) -> list[float]:
    """Meta-losses of the first meta-updates, from the recorded seed.

    draw: of which each meta-parameter begins one unit in its last place higher or lower.
    """
    assert job.recipe is not None
    start = find_artifact(job.start, folders) if job.start is not None else None
    if job.start is not None and start is None:
        raise UnavailableError(
            f"the meta-training that it goes on from, {job.start.name}, is not here"
        )
    with temporary_folder() as folder:
        cpu = decide("cpu", 1)
        training = Training(job, job.recipe, folder, cpu, root, "", compiling=False)
        if start is not None:
            training.start_from(start)
        if draw is not None:
            _nudge(training.learner, draw)
        return [training.update(step) for step in range(updates)]


@torch.no_grad()
def _nudge(learner: Learner, draw: int) -> None:
    """Moves each meta-parameter by one unit in its last place, up or down as `draw` has it."""
    generator = torch.Generator().manual_seed(draw)
    for parameter in learner.parameters():
        up = torch.randint(2, parameter.shape, generator=generator) == 1
        parameter.copy_(parameter.nextafter(torch.where(up, torch.inf, -torch.inf)))


def _tuning_off(record: Checkpoint, job: Job, root: Path | None) -> float:
    """How far today's accuracy of the best point of the grid is from the recorded one."""
    trials, best = record.document["trials"], record.document["best"]
    (stored,) = [trial for trial in trials if trial["values"] == best]
    sampler = EpisodeSampler(largest(job.side), root=root)
    accuracy, _ = score(job, best, sampler, decide("cpu", 1))
    return abs(accuracy - float(stored["accuracy"]))
