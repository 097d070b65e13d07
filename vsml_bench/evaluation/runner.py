"""Runs the cells of a plan: first the meta-trainings that several of them share, then the cells.
Each finished cell is on disk before the next is waited for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.evaluation import work
from vsml_bench.evaluation.cell import Cell, cell_path, load_cell, manner, save_cell
from vsml_bench.evaluation.cost import CostModel
from vsml_bench.evaluation.planning import CellPlan, job_of, unique_jobs
from vsml_bench.evaluation.pool import Failure, Task, run_tasks
from vsml_bench.evaluation.work import WorkOrder
from vsml_bench.execution import decide
from vsml_bench.meta_training.artifact import check_artifact, find_artifact, needs_artifact
from vsml_bench.provenance import git_state
from vsml_bench.storage import check_writable

Policy = Literal["always", "never", "only-missing", "only-cached"]
RETRIED = frozenset({"crashed", "timeout", "out_of_memory"})
"""Statuses that `only-missing` runs again: they may have been the machine's fault."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how to run."""

    folder: Path
    """Gets `cells/` and `checkpoints/`."""
    published: Path
    """Checkpoints and tuning records that are used before making any."""
    besides: tuple[Path, ...] = ()
    """Further folders of checkpoints and tuning records, looked into last."""
    root: Path | None = None
    device: str = "auto"
    precision: str = "float32"
    """Of the meta-tests, see `execution.PRECISIONS`; a cell is kept for each, and for each kind of
    device."""
    jobs: int | None = None
    """Processes side by side, one thread each; None is one per core."""
    policy: Policy = "only-missing"
    """always: every cell again. only-missing: those without a valid result. only-cached: of these,
    those that need no meta-training or tuning first. never: none."""
    progress: bool = True
    command: str = ""


@dataclass
class RunReport:
    """What became of the planned cells."""

    cells: list[Cell] = field(default_factory=list)
    reused: int = 0
    missing: list[CellPlan] = field(default_factory=list)
    """Not run, because the policy says so."""

    @property
    def failed(self) -> list[Cell]:
        """Cells that should have a score and have none; `unavailable` ones are not failures."""
        return [cell for cell in self.cells if cell.status not in ("ok", "unavailable")]


def run_cells(plans: Sequence[CellPlan], options: RunOptions, costs: CostModel) -> RunReport:
    """Runs what the policy asks for; the report covers every planned cell.

    Raises VsmlBenchError before any work where results could not be saved, and for a stored cell,
    checkpoint or tuning record that is damaged.
    """
    if options.jobs is not None and options.jobs < 1:
        raise VsmlBenchError(f"jobs: expected at least 1 process, found {options.jobs}.")
    if options.policy not in get_args(Policy):
        raise VsmlBenchError(
            f"unknown policy '{options.policy}'; {closest(options.policy, get_args(Policy))}"
        )
    report, due = _reusable(plans, options)
    if options.policy == "never":
        report.missing = due
        return report
    if not due:
        return report
    for name in ("cells", "checkpoints"):
        check_writable(options.folder / name)
    git = git_state()
    orders = [_order(plan, options, git) for plan in due]
    failures = _make_artifacts(orders, options)
    ready = []
    for order in orders:
        failure = failures.get(order.plan.hashes["meta_training"])
        if order.plan.unavailable:
            failure = Failure("unavailable", order.plan.unavailable)
        if failure is None:
            ready.append(order)
        elif failure is _NOT_CACHED:
            report.missing.append(order.plan)
        else:
            _keep(report, options.folder, order, failure)
    tasks = [
        Task(order, work.run_cell, order.plan.time_limit, costs.seconds(order.plan))
        for order in ready
    ]
    for order, result in run_tasks(tasks, _jobs(options), "cells", options.progress):
        _keep(report, options.folder, order, result)
    return report


_NOT_CACHED = Failure("unavailable", "not meta-trained yet")


def _reusable(plans: Sequence[CellPlan], options: RunOptions) -> tuple[RunReport, list[CellPlan]]:
    report, due = RunReport(), []
    processor = decide(options.device).device.type
    for plan in plans:
        path = cell_path(
            options.folder / "cells", plan.id, plan.key, manner(processor, options.precision)
        )
        cell = load_cell(path) if path.is_file() and options.policy != "always" else None
        if cell is None or (_again(cell, plan) and options.policy == "only-missing"):
            due.append(plan)
        else:
            report.cells.append(cell)
            report.reused += 1
    return report, due


def _again(cell: Cell, plan: CellPlan) -> bool:
    """Whether a stored cell without a score may get one today."""
    return cell.status in RETRIED or (cell.status == "unavailable" and not plan.unavailable)


def _order(plan: CellPlan, options: RunOptions, git: tuple[str, bool]) -> WorkOrder:
    return WorkOrder(
        plan=plan,
        artifact_folders=(options.folder / "checkpoints", options.published, *options.besides),
        root=options.root,
        device=options.device,
        threads=1,
        command=options.command,
        git=git,
        precision=options.precision,
    )


def _make_artifacts(orders: Sequence[WorkOrder], options: RunOptions) -> dict[str, Failure]:
    """Meta-trains and tunes what the cells need and no folder has; returns what failed, by job."""
    wanted = unique_jobs(order.plan for order in orders)
    failures: dict[str, Failure] = {}
    tasks = []
    for order in orders:
        key = order.plan.hashes["meta_training"]
        if wanted.get(key) is not order.plan:
            continue
        job = job_of(order.plan, work.entry_of(order.plan))
        if not needs_artifact(job):
            continue
        found = find_artifact(job, order.artifact_folders)
        if found is not None:
            check_artifact(job, found)
        elif options.policy == "only-cached":
            failures[key] = _NOT_CACHED
        else:
            tasks.append(Task(order, work.make_artifact_of, None, _training_examples(order.plan)))
    for order, result in run_tasks(tasks, _jobs(options), "meta-training", options.progress):
        if isinstance(result, Failure):
            failures[order.plan.hashes["meta_training"]] = result
    return failures


def _training_examples(plan: CellPlan) -> float:
    return 1.0 + (plan.recipe.examples if plan.recipe is not None else 0)


def _keep(report: RunReport, folder: Path, order: WorkOrder, result: Cell | Failure) -> None:
    if isinstance(result, Failure):
        result = work.failed_cell(order, result.status, result.reason)
    path = cell_path(folder / "cells", result.id, result.key, result.provenance.manner)
    # A failure that may be the machine's fault takes nothing away that was measured.
    if not (result.status in RETRIED and path.is_file() and load_cell(path).status == "ok"):
        save_cell(folder / "cells", result)
    report.cells.append(result)


def _jobs(options: RunOptions) -> int:
    return options.jobs if options.jobs is not None else (os.cpu_count() or 1)
