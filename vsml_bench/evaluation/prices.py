"""What planned cells would cost, and why some cannot be run here. What is not known is said to be
so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsml_bench.data import datasets
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import CostModel
from vsml_bench.meta_training.job import find_artifact


@dataclass(frozen=True)
class Price:
    """What the cells of one learner would cost, as far as is known."""

    learner: str
    cells: int
    unavailable: int
    """Cells that cannot be run here."""
    reasons: tuple[str, ...]
    """Why, each once."""
    not_measured: int
    """Cells that can, and of which no like has been measured."""
    core_seconds: float | None
    """Of the meta-tests of the others; None where there are none."""
    meta_training_examples: int
    """In all meta-trainings and tunings behind the cells, made or not."""
    to_make: int
    """Meta-trainings and tunings that no folder has the outcome of."""
    meta_training_seconds: float | None
    """Of these; None where one of them is of a learner that was never measured."""


def prices(
    plans: Sequence[Plan], costs: CostModel, folders: Sequence[Path], root: Path
) -> list[Price]:
    """What the planned cells of each learner would cost.

    folders: of checkpoints and tuning records that are there. root: of the data.
    """
    found = []
    for learner in dict.fromkeys(plan.learner for plan in plans):
        own = [plan for plan in plans if plan.learner == learner]
        why = {plan.place: unavailable(plan, root) for plan in own}
        runnable = [plan for plan in own if not why[plan.place]]
        measured = [costs.seconds(plan) for plan in runnable if costs.known(plan)]
        jobs = {plan.job.key: plan.job for plan in runnable if plan.job.makes_artifact}
        due = [job for job in jobs.values() if find_artifact(job, folders) is None]
        making = [costs.making_seconds(job) for job in due]
        known = [seconds for seconds in making if seconds is not None]
        found.append(
            Price(
                learner=learner,
                cells=len(own),
                unavailable=len(own) - len(runnable),
                reasons=tuple(dict.fromkeys(filter(None, why.values()))),
                not_measured=len(runnable) - len(measured),
                core_seconds=round(sum(measured), 1) if measured else None,
                meta_training_examples=sum(
                    job.recipe.examples for job in jobs.values() if job.recipe is not None
                ),
                to_make=len(due),
                meta_training_seconds=round(sum(known), 1) if len(known) == len(due) else None,
            )
        )
    return found


def unavailable(plan: Plan, root: Path) -> str:
    """Why a cell cannot be run here, as far as headers of files and lists of packages tell; ""
    where nothing speaks against it."""
    for side in (plan.split.meta_train, plan.split.meta_test):
        for name in side.datasets:
            found = datasets.status(side.location(name), root)
            if getattr(found, side.partition) is None and found.reason:
                return found.reason
    return plan.job.learner.unavailable
