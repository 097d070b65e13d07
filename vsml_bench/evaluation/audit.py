"""Audit by replay: a learner that is not vsml-bench's own has to give its outcomes a second time,
where it cannot know what it should not.

After a cell, a random share of its lifetimes is run again by `predict` and `observe` alone, each in
a fresh process of the learner's (a *witness*), by itself, in another order. Another process (the
*examiner*) has the data, sends each label only after the prediction has come back, and computes the
scores from the logits that were sent. Outcomes must agree within the tolerances of `replay`. That
finds learners that peek, that remember other lifetimes, that change their scores, and fast code
that is wrong. It costs a sixteenth of a cell's lifetimes, which run one by one and uncompiled.

Nobody is accused of rounding: where something is off, the same lifetimes are run once more on
inputs that differ in their last bits, and what moves as far then is no proof of anything. Who hangs
on rounding is accused of accuracy alone, where none of several such runs comes near it.

It does not find data that a learner knows by heart (a side with `label_permutation` or `projection`
defends against that), nor code that leaves notes on disk for a later process.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student

from vsml_bench import cards, paths
from vsml_bench.cards import Card
from vsml_bench.contract import ContractReport
from vsml_bench.contract.suite import QUICK, check_learner
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.replay import DECISIONS, FIRST, LOSS, beginning
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.tasks import Failure, outcome, plain
from vsml_bench.evaluation.witnesses import Broken, Distant, testify
from vsml_bench.evaluation.worker import failed_cell, test
from vsml_bench.execution import decide
from vsml_bench.orphans import end_with_parent
from vsml_bench.protocols.evaluation import padded
from vsml_bench.protocols.protocol import stepwise_loss
from vsml_bench.registry import entry_of
from vsml_bench.seeds import derive_seed, generator
from vsml_bench.storage import canonical_json, seal, sha256_hex, unseal, write_atomically

SHARE = 1 / 16
"""Of a cell's lifetimes that are run again; one at least."""
MOST = 8
"""Lifetimes that are run again, whatever the share."""
NUDGES = (1e-6, -1e-6, 2e-6, -2e-6)
"""How far inputs are moved, relative to themselves, to see what rounding does to outcomes. Of these
the first decides, and all where it does not."""
FALSE_ACCUSATIONS = 1e-4
"""Of learners whose outcomes hang on rounding."""
CHECK_SECONDS = 60.0
"""In which the quick checks of the contract have to end."""
MARGIN = 4.0
"""Outcomes may be off by so many times what a nudge does."""


def test_and_audit(plan: Plan, setting: Setting, report: Callable[[float], None]) -> Cell:
    """Runs a cell in a process of the learner's, audits it, and returns its record.

    This process itself loads no learner and computes nothing, so that all that it forks is clean.
    """
    found: Cell | Failure = apart(test, plan, setting, report)
    if isinstance(found, Failure):
        return failed_cell(plan, setting, found.status, found.reason)
    cell = replace(found, plan=plan, identity={})  # whatever that process says of what it ran
    if cell.status != "ok":
        return cell
    assert cell.outcomes is not None
    due = min(MOST, math.ceil(SHARE * len(cell.outcomes.correct)))
    reason, note = verdict(cell, plan, setting, due)
    contract = contract_note(plan.job.learner)
    notes = "; ".join(filter(None, (cell.provenance.note, contract, note)))
    provenance = replace(cell.provenance, note=notes)
    if reason:
        return replace(cell, status="cheated", reason=reason, outcomes=None, provenance=provenance)
    return replace(cell, provenance=provenance)


def verdict(
    cell: Cell, plan: Plan, setting: Setting, lifetimes: int, steps: int | None = None
) -> tuple[str, str]:
    """What a cell that is ok is accused of, and what a reader of the board must know of its audit;
    "" for nothing. lifetimes: of the cell, drawn at random, that are run again. steps: only so many
    of each, of a stream."""
    if setting.precision != "float32":
        return "", "not audited, since rounding is coarse"
    assert cell.outcomes is not None
    chosen = drawn(len(cell.outcomes.correct), lifetimes)
    then = Scores(cell.outcomes.correct[chosen], cell.outcomes.loss[chosen].astype(np.float64))
    now = _again(plan, setting, chosen, 0.0, steps)
    if isinstance(now, Refusal):
        return ("", f"not audited: {now.reason}") if now.harmless else (now.reason, "")
    if steps is not None:
        length = now.loss.shape[1]
        then = Scores(then.correct[:, :length], then.loss[:, :length])
    if now.correct.shape != then.correct.shape:
        return f"it has outcomes of {then.correct.shape[1]} steps of {now.correct.shape[1]}", ""
    if not _differing(now, then, None):
        return "", ""
    runs, differing = [now], list[int]()
    for nudge in NUDGES:
        nudged = _again(plan, setting, chosen, nudge, steps)
        if isinstance(nudged, Refusal):
            return "", f"audit undecided: {nudged.reason}"
        runs.append(nudged)
        differing = _differing(now, then, runs[1])
        if differing:
            break
    differing = differing or _gains(then, runs)
    if not differing:
        return "", "audit undecided: its outcomes hang on rounding"
    return _accusation(now, then, differing[0], chosen[differing[0]]), ""


def drawn(count: int, lifetimes: int) -> list[int]:
    """So many of `count` lifetimes, or all, as nobody can foresee."""
    return random.SystemRandom().sample(range(count), min(count, lifetimes))


@dataclass(frozen=True)
class Scores:
    """Of some lifetimes."""

    correct: npt.NDArray[np.bool_]  # [E, T]
    loss: npt.NDArray[np.float64]  # [E, T], as a cell keeps it


@dataclass(frozen=True)
class Refusal:
    """Why there are no scores."""

    reason: str
    harmless: bool
    """Whether that is the protocol's fault."""


def _differing(now: Scores, then: Scores, nudged: Scores | None) -> list[int]:
    """The lifetimes whose outcomes are further apart than rounding explains. nudged: what a nudge
    made of `now`; None where that is not known."""
    off, decisions = np.abs(now.loss - then.loss), (now.correct != then.correct).sum(1)
    moved = np.zeros_like(off) if nudged is None else MARGIN * np.abs(nudged.loss - now.loss)
    flipped = 0 if nudged is None else MARGIN * (nudged.correct != now.correct).sum(1)
    allowed = LOSS * (1 + then.loss)
    early = (off > allowed + moved.max(1, keepdims=True))[:, :FIRST].any(1)
    late = off.mean(1) > allowed.mean(1) + moved.mean(1)
    often = decisions > np.ceil(DECISIONS * off.shape[1]) + flipped
    return [int(i) for i in np.flatnonzero(early | late | often)]


def _gains(then: Scores, runs: Sequence[Scores]) -> list[int]:
    """The lifetimes, the most suspicious first, if they were right more often than they are when
    they are run again, whatever rounding does; none where they may have been lucky.

    An honest outcome is as good as any of the runs, so that its distance to their mean, over that
    of one from another, has Student's distribution. They cannot be closer to one another than by
    chance of each prediction.
    """
    again = np.stack([run.correct.mean(1) for run in runs])  # [R, E]
    count, lifetimes = again.shape
    gains = then.correct.mean(1) - again.mean(0)
    chance = again.mean() * (1 - again.mean()) / then.correct.shape[1]
    variance = max(again.var(0, ddof=1).mean(), chance) * (1 + 1 / count) / lifetimes
    most = student.ppf(1 - FALSE_ACCUSATIONS, lifetimes * (count - 1)) * math.sqrt(variance)
    return [int(i) for i in np.argsort(-gains)] if gains.mean() > most else []


def _accusation(now: Scores, then: Scores, row: int, lifetime: int) -> str:
    off = np.abs(now.loss[row] - then.loss[row]) > LOSS * (1 + then.loss[row])
    decisions = now.correct[row] != then.correct[row]
    step = int(np.argmax(off | decisions))
    return (
        f"lifetime {lifetime}, run again alone and with each label sent after its prediction, "
        f"differs from step {step} on: its accuracy is {now.correct[row].mean():.3f} instead of "
        f"{then.correct[row].mean():.3f}, its loss {now.loss[row].mean():.3g} instead of "
        f"{then.loss[row].mean():.3g} nats"
    )


def _again(
    plan: Plan, setting: Setting, lifetimes: Sequence[int], nudge: float, steps: int | None
) -> Scores | Refusal:
    """Scores of these lifetimes, in this order, each with a witness of its own."""
    pairs = [_FORK.Pipe() for _ in lifetimes]
    ends = [own for own, _ in pairs]
    with tempfile.TemporaryFile() as file:
        examiner = _start(file, _examine, plan, setting, tuple(lifetimes), nudge, steps, ends)
        for own in ends:
            own.close()
        for _, end in pairs:
            witness = _FORK.Process(target=testify, args=(plan.job, setting, end))
            witness.start()
            end.close()
            witness.join()
        examiner.join()
        file.seek(0)
        found: Scores | Refusal | Failure = plain(file)
    if isinstance(found, Failure):
        return Refusal(found.reason, harmless=True)
    return found


def contract_note(card: Card) -> str:
    """What a reader of the board must know of the learner's promises; "" where it keeps those that
    are quick to check. They are checked once for each version of its code."""
    known = [card.identity(), cards.own_code(), torch.__version__]
    place = paths.cache() / "contracts" / f"{sha256_hex(canonical_json(known))}.json"
    with suppress(OSError, VsmlBenchError):
        return str(unseal(place.read_bytes(), place.name)["note"])
    with tempfile.TemporaryFile() as file:
        process = _start(file, _check, card)
        process.join(CHECK_SECONDS)
        process.kill()
        process.join()
        file.seek(0)
        found: ContractReport | Failure = plain(file)
    if isinstance(found, Failure):
        return f"contract not checked: {found.reason}"
    failed = ", ".join(finding.check for finding in found.failed)
    note = f"breaks the contract: {failed}" if failed else ""
    with suppress(VsmlBenchError):  # a cache that cannot be written is none
        write_atomically(place, seal({"note": note}))
    return note


def _check(card: Card) -> ContractReport:
    return check_learner(entry_of(card), checks=QUICK)


_FORK = multiprocessing.get_context("fork")


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process of its own. This one ends as that does, where that
    ends without a result, so that the executor says how."""
    with tempfile.TemporaryFile() as file:
        process = _start(file, function, *arguments)
        process.join()
        if process.exitcode:
            if process.exitcode < 0:
                os.kill(os.getpid(), -process.exitcode)
            os._exit(process.exitcode)
        if not os.fstat(file.fileno()).st_size:
            os._exit(0)
        file.seek(0)
        return plain(file)


def _start(file: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    process = _FORK.Process(target=_serve, args=(file, function, arguments))
    process.start()
    return process


def _serve(file: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    end_with_parent(signal.SIGKILL)
    file.write(outcome(function, *arguments))
    file.flush()
    os._exit(0)


def _examine(
    plan: Plan,
    setting: Setting,
    lifetimes: tuple[int, ...],
    nudge: float,
    steps: int | None,
    witnesses: Sequence[Connection],
) -> Scores | Refusal:
    """What the examiner does: it has the data, and no learner."""
    decide("cpu", setting.threads)
    sampler = EpisodeSampler(plan.split.meta_test, root=setting.root)
    seeds = plan.meta_test_seeds(sampler.fixed_episodes)
    protocol = beginning(plan.protocol.instance().fitted(sampler), steps)
    shape = plan.job.learner.fixed_shape or sampler.shape
    correct, loss = [], []
    for lifetime, witness in zip(lifetimes, witnesses, strict=True):
        seed = seeds[lifetime]
        sampled = protocol.sample(sampler, [seed])
        episode = padded(sampled, sampler.shape, shape, torch.device("cpu"))
        if nudge:
            noise = torch.randn(episode.inputs.shape, generator=generator(seed))
            episode = replace(episode, inputs=episode.inputs * (1 + nudge * noise))
        runner = Distant(witness, shape.classes)
        try:
            runner.tell((derive_seed(plan.job.seed, "inner", seed), shape))
            found = protocol.run(runner, 0, episode)  # type: ignore[arg-type]
        except (EOFError, OSError, Broken) as error:
            return Refusal(f"its audit crashed: {error or 'its process ended'}", harmless=False)
        except Exception as error:
            return Refusal(f"the protocol asks for more ({error})", harmless=True)
        witness.close()
        correct.append((found.logits.argmax(-1) == found.labels)[:, 0].numpy())
        loss.append(stepwise_loss(found.logits, found.labels)[:, 0].numpy())
    numbers = np.nan_to_num(np.stack(loss), nan=65504.0, posinf=65504.0)
    kept = Outcomes(np.stack(correct), numbers)
    return Scores(kept.correct, kept.loss.astype(np.float64))
