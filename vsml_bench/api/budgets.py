"""What to run next, when there is time for some of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsml_bench import cards, paths
from vsml_bench.api.planning import cost_model, made_before, plan, results_folder
from vsml_bench.boards import statistics
from vsml_bench.boards.budget import Step, Widths, candidates, choose
from vsml_bench.boards.variances import Scores
from vsml_bench.data import datasets
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, load_cells
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.prices import unavailable
from vsml_bench.evaluation.runner import RETRIED, CostModel
from vsml_bench.meta_training.job import find_artifact
from vsml_bench.suites import find_suite

EXTRA_SEEDS = 32
"""Beyond a suite's own that a learner may get."""


@dataclass(frozen=True)
class Spending:
    """Which cells to run within a time."""

    before: dict[str, float]
    """Comparison -> half the width of its interval, as a share."""
    after: dict[str, float]
    """As it is to be expected."""
    steps: tuple[Step, ...]
    seconds: float
    """Of one core, all steps together."""
    cheapest: float | None
    """Seconds of the cheapest step that there is; None where there is none."""
    commands: tuple[str, ...]
    left_out: dict[str, str]
    """Learner -> why cells of it were not thought of."""


def worth_running(
    suite: str,
    seconds: float,
    compare: Sequence[str] = (),
    data_root: Path | str | None = None,
    **selection: Any,
) -> Spending:
    """The missing cells and further seeds that shrink intervals most within so many seconds of one
    core: that of the difference of the two learners of `compare`, or those of all learners' means
    over splits. selection: see `plan`. VsmlBenchError for learners that `compare` does not name."""
    if selection.get("overrides"):
        raise VsmlBenchError("--budget: knows cells as they are; leave --set out.")
    if compare:
        if selection.get("learners") or selection.get("extra_learners"):
            raise VsmlBenchError("--compare: names the learners itself; leave --learner out.")
        if len(set(compare)) != 2:
            raise VsmlBenchError("--compare: expected two different learners.")
        selection["learners"] = list(compare)
    planned = plan(suite, **selection)
    names = list(dict.fromkeys(each.learner for each in planned))
    if compare:
        for reference in compare:
            cards.only(reference, cards.find(reference))
    comparisons = [tuple(names)] if compare else [(name,) for name in names]
    seeds = sorted({each.job.seed for each in planned})
    further = [*seeds, *range(seeds[-1] + 1, seeds[-1] + 1 + EXTRA_SEEDS)]
    every = plan(suite, **{**selection, "seeds": further})
    stored = _stored(suite)
    everything = plan(suite, splits=selection.get("splits") or ())
    known = {each.key: each for each in (*everything, *every)}
    splits = list(dict.fromkeys(each.split.name for each in planned))
    trained = {each.learner for each in known.values() if each.job.recipe is not None}
    scores = _scores(known.values(), stored)
    costs, folders = cost_model(suite), _folders(suite)
    lacking = [each for each in every if each.key not in stored or _again(stored[each.key])]
    left_out: dict[str, str] = {}
    possible = []
    root = datasets.data_root(data_root)
    for each in lacking:
        reason = unavailable(each, root) or _unpriced(each, costs, folders)
        if reason:
            left_out.setdefault(each.learner, reason)
        else:
            possible.append(each)

    runnable = {each.split.name for each in possible}
    counted = [s for s in splits if s in runnable or any(s in on for on in scores.values())]
    if not counted:
        raise VsmlBenchError(
            f"suite '{suite}': none of its cells has a score or a known price; run some first."
        )
    widths = Widths(scores, counted, trained)

    def price(plans: Sequence[Plan]) -> float:
        jobs = {each.job.key: each.job for each in plans if each.job.makes_artifact}
        due = [job for job in jobs.values() if find_artifact(job, folders) is None]
        making = [costs.making_seconds(job) or 0.0 for job in due]
        return sum(map(costs.seconds, plans)) + sum(making)

    steps = choose(widths, comparisons, possible, price, seconds)
    after = dict(widths.now)
    for step in steps:
        for split in step.splits:
            after[step.learner, split] = after.get((step.learner, split), 0) + 1
    labels = {" minus ".join(sides): sides for sides in comparisons}
    return Spending(
        before={label: widths.half_width(of, widths.now) for label, of in labels.items()},
        after={label: widths.half_width(of, after) for label, of in labels.items()},
        steps=tuple(steps),
        seconds=round(sum(step.seconds for step in steps), 1),
        cheapest=min(map(price, candidates(possible, widths.now)), default=None),
        commands=_commands(suite, selection.get("splits") or (), steps, possible, planned),
        left_out=left_out,
    )


def _stored(suite: str) -> dict[str, Cell]:
    """Key -> cell, on CPUs in float32, one's own before what is published, with scores first."""
    found: dict[str, Cell] = {}
    for folder in (results_folder(suite, None), paths.results() / find_suite(suite).name):
        for cell in load_cells(folder / "cells")[0]:
            if not cell.provenance.manner and (
                cell.key not in found or found[cell.key].status != "ok"
            ):
                found[cell.key] = cell
    return found


def _folders(suite: str) -> tuple[Path, ...]:
    return (results_folder(suite, None) / "checkpoints", *made_before(suite))


def _again(cell: Cell) -> bool:
    """Whether `run` would run it again."""
    return cell.status in RETRIED


def _unpriced(each: Plan, costs: CostModel, folders: Sequence[Path]) -> str:
    """Why nobody knows what a cell costs; "" where somebody does."""
    if not costs.known(each):
        return "none of its cells has been run, so that their price is not known"
    makes = each.job.makes_artifact and find_artifact(each.job, folders) is None
    if makes and costs.making_seconds(each.job) is None:
        return "its meta-training or tuning was never timed"
    return ""


def _scores(plans: Iterable[Plan], stored: Mapping[str, Cell]) -> dict[str, dict[str, Scores]]:
    """Of the seeds that have a score, learner by learner and split by split."""
    cells: dict[tuple[str, str], dict[int, Cell]] = {}
    for each in plans:
        cell = stored.get(each.key)
        if cell is not None and cell.status == "ok":
            cells.setdefault((each.learner, each.split.name), {})[each.job.seed] = cell
    found: dict[str, dict[str, Scores]] = {}
    for (learner, split), of in cells.items():
        correct = [of[seed].correct for seed in sorted(of)]
        if len({one.shape for one in correct}) == 1:
            scores = statistics.lifetime_scores(np.stack(correct))
            found.setdefault(learner, {})[split] = scores
    return found


def _commands(
    suite: str,
    of_splits: Sequence[str],
    steps: Sequence[Step],
    possible: Sequence[Plan],
    planned: Sequence[Plan],
) -> tuple[str, ...]:
    """`run` for what was chosen, and the board of it where it has more seeds than the suite.
    of_splits: the only ones that were thought of; none for all."""
    references = {each.learner: each.job.learner.reference for each in possible}
    trained = {each.learner for each in possible if each.job.recipe is not None}
    lacking: dict[tuple[str, int], set[str]] = {}
    for each in possible:
        lacking.setdefault((each.learner, each.job.seed), set()).add(each.split.name)
    chosen: dict[tuple[str, int], list[str]] = {}
    for step in steps:
        chosen.setdefault((step.learner, step.seed), []).extend(step.splits)
    together: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for (learner, seed), of in sorted(chosen.items()):
        whole = set(of) == lacking[learner, seed] and not of_splits
        together.setdefault((learner, () if whole else tuple(sorted(of))), []).append(seed)
    lines = []
    for (learner, splits), seeds in together.items():
        words = ["vsml-bench", "run", "--suite", suite, "--learner", references[learner]]
        words += [word for split in splits for word in ("--split", split)]
        if learner in trained:
            words += [word for seed in seeds for word in ("--seed", str(seed))]
        lines.append(shlex.join(words))
    own = {each.job.seed for each in planned}
    if {step.seed for step in steps} - own:
        every = sorted(own | {step.seed for step in steps})
        words = ["vsml-bench", "leaderboard", "--suite", suite]
        words += [word for split in of_splits for word in ("--split", split)]
        lines.append(shlex.join([*words, *(w for seed in every for w in ("--seed", str(seed)))]))
    return tuple(lines)
