"""Runs the cells of a plan: first the meta-trainings that several of them share, then the cells.
Each finished cell is on disk before the next is waited for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.evaluation.cell import Cell, cell_path, load_cell, manner, path_of, save_cell
from vsml_bench.evaluation.executors import Executor, LocalExecutor
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.sharing import share
from vsml_bench.evaluation.tasks import Elsewhere, Failure, Task
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact, partial_path
from vsml_bench.owners import Claim, sweep
from vsml_bench.provenance import git_state
from vsml_bench.storage import check_writable

Policy = Literal["always", "never", "only-missing", "only-cached"]
RETRIED = frozenset({"crashed", "timeout", "out_of_memory", "unavailable"})
"""Statuses that `only-missing` runs again: they may have been the machine's fault."""
AUDIT = "vsml_bench.evaluation.audit:test_and_audit"
START_SECONDS = 2.0
"""Reading data and making streams, about the same for every cell."""
GUESSED_RATE = 1e-4
"""Seconds per example of a meta-training."""


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
    policy: Policy = "only-missing"
    """always: every cell again. only-missing: those without a valid result. only-cached: of these,
    those that need no meta-training or tuning first. never: none."""
    executor: Executor = field(default_factory=LocalExecutor)
    command: str = ""


@dataclass(frozen=True)
class Setting:
    """Where and how work is done, the same for all of a run. It is sent to worker processes."""

    folders: tuple[Path, ...]
    """Of checkpoints and tuning records, searched in this order; new ones go to the first."""
    root: Path | None
    device: str
    command: str
    """Recorded in what is made."""
    git: tuple[str, bool]
    """Commit and whether the tree was dirty when the run began."""
    precision: str = "float32"
    """Of the meta-test; artifacts are made in float32."""
    threads: int = 1


@dataclass
class RunReport:
    """What became of the planned cells."""

    cells: list[Cell] = field(default_factory=list)
    reused: int = 0
    missing: list[Plan] = field(default_factory=list)
    """Not run, because the policy says so."""

    @property
    def failed(self) -> list[Cell]:
        """Cells that should have a score and have none; `unavailable` ones are not failures."""
        return [cell for cell in self.cells if cell.status not in ("ok", "unavailable")]


class CostModel:
    """Seconds per cell on one thread of a CPU, in float32: the median of comparable earlier cells,
    per example."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._measured: dict[tuple[str, str], list[float]] = {}  # of all splits as well, as ""
        self._making: dict[str, list[float]] = {}
        for cell in cells:
            spent = cell.provenance.seconds.get("meta_train", 0.0)
            if cell.status == "ok" and cell.plan.job.makes_artifact and spent:
                rate = spent / examples_of(cell.plan.job)
                self._making.setdefault(cell.plan.learner, []).append(rate)
            if cell.status != "ok" or cell.provenance.manner:
                continue
            seconds = cell.provenance.seconds
            spent = seconds.get("meta_test", 0.0) + seconds.get("compile", 0.0)
            per_example = spent / cell.correct.size
            split, learner, _ = cell.plan.place
            for where in (split, ""):
                self._measured.setdefault((where, learner), []).append(per_example)

    def known(self, plan: Plan) -> bool:
        """Whether any cell of this learner has been measured."""
        return ("", plan.learner) in self._measured

    def making_seconds(self, job: Job) -> float | None:
        """Expected seconds of the meta-training or tuning, as earlier ones of this learner took on
        whatever devices they were made; None where nothing is known."""
        found = self._making.get(job.learner.name)
        return median(found) * examples_of(job) if found else None

    def seconds(self, plan: Plan) -> float:
        """Expected seconds of the cell's meta-test; just the start-up where nothing is known."""
        split, learner, _ = plan.place
        found = self._measured.get((split, learner)) or self._measured.get(("", learner))
        examples = plan.lifetimes * plan.protocol.predictions
        return START_SECONDS + (median(found) * examples if found else 0.0)


def examples_of(job: Job) -> int:
    """Examples in all lifetimes of a meta-training or tuning: what it costs."""
    if job.recipe is not None:
        return job.recipe.examples
    grid = job.learner.tuning
    if grid is None:
        return 0
    return prod(map(len, grid.values.values())) * grid.lifetimes * grid.steps


def run_cells(plans: Sequence[Plan], options: RunOptions, costs: CostModel) -> RunReport:
    """Runs what the policy asks for; the report covers every planned cell.

    Raises VsmlBenchError before any work where results could not be saved, where data do not suit
    a split, and for a stored cell, checkpoint or tuning record that is damaged.
    """
    if options.policy not in get_args(Policy):
        raise VsmlBenchError(
            f"unknown policy '{options.policy}'; {closest(options.policy, get_args(Policy))}"
        )
    for folder in ("", "cells", "checkpoints"):
        sweep(options.folder / folder)
    report, due = _reusable(plans, options)
    if options.policy == "never":
        report.missing = due
        return report
    if not due:
        return report
    return _Run(options, costs, report).run(due)


def _reusable(plans: Sequence[Plan], options: RunOptions) -> tuple[RunReport, list[Plan]]:
    report, due = RunReport(), []
    how = manner(_processor(options), options.precision)
    for plan in plans:
        path = cell_path(options.folder / "cells", plan, plan.key, how)
        cell = load_cell(path) if path.is_file() and options.policy != "always" else None
        if cell is None or (cell.status in RETRIED and options.policy == "only-missing"):
            due.append(plan)
        else:
            report.cells.append(cell)
            report.reused += 1
    return report, due


def _processor(options: RunOptions) -> str:
    """Its kind; VsmlBenchError for an unknown device or precision. "auto" is what this machine has,
    and other machines have what is asked of them."""
    if (options.device, options.precision) == ("cpu", "float32"):
        return "cpu"
    if options.device == "cuda" and not options.executor.shares_folders:
        return "cuda"
    from vsml_bench.execution import choose_device

    return choose_device(options.device, options.precision).type


class _Run:
    """What is under way. Work is named by strings, so that this process imports no learner."""

    def __init__(self, options: RunOptions, costs: CostModel, report: RunReport) -> None:
        self.options, self.costs, self.report = options, costs, report
        self.setting = Setting(
            folders=(options.folder / "checkpoints", options.published, *options.besides),
            root=options.root,
            device=_processor(options),
            command=options.command,
            git=git_state(),
            precision=options.precision,
        )

    def run(self, due: Sequence[Plan]) -> RunReport:
        """Each meta-training and tuning once, and each cell as soon as it has what it needs;
        failures are kept as cells."""
        folder = self.options.folder
        how = manner(self.setting.device, self.options.precision)
        # made before anything is looked at, so that what others make meanwhile is noticed
        of_cells = {
            plan.place: Claim(cell_path(folder / "cells", plan, plan.key, how)) for plan in due
        }
        ready, jobs = self._to_make(self._inspect(due))
        tasks = [*self._makings(jobs, ready), *(self._testing(plan, jobs) for plan in ready)]
        claims = [Claim(artifact_path(folder / "checkpoints", job)) for job in jobs.values()]
        claims += [of_cells[plan.place] for plan in ready]
        for what, result in share(self.options.executor, tasks, claims, "run"):
            if isinstance(what, Job):
                continue  # the cells that wait for it end as it does
            if isinstance(result, Elsewhere):
                self.report.cells.append(load_cell(of_cells[what.place].result))
                self.report.reused += 1
            else:
                self._keep(what, result)
        return self.report

    def _inspect(self, due: Sequence[Plan]) -> list[Plan]:
        """Those that data and packages are here for; the others become `unavailable`."""
        by_split: dict[str, list[Plan]] = {}
        for plan in due:
            by_split.setdefault(plan.split.name, []).append(plan)
        tasks = [
            Task(
                name,
                "inspect",
                (tuple(plans), self.setting),
                plans[0].time_limit,
                1.0,
                needs=self._artifacts(plan.job for plan in plans),
            )
            for name, plans in by_split.items()
        ]
        reasons: dict[str, dict[str, str]] = {}
        for name, found in self.options.executor.run(tasks, ""):
            if isinstance(found, Failure) and found.status != "unavailable":
                raise VsmlBenchError(found.reason)
            if isinstance(found, Failure):
                found = dict.fromkeys((plan.learner for plan in by_split[name]), found.reason)
            reasons[name] = found
        for folder in ("cells", "checkpoints"):  # only now, since bad input leaves no trace
            check_writable(self.options.folder / folder)
        possible = []
        for plan in due:
            reason = reasons[plan.split.name][plan.learner]
            if reason:
                self._keep(plan, Failure("unavailable", reason))
            else:
                possible.append(plan)
        return possible

    def _to_make(self, plans: Sequence[Plan]) -> tuple[list[Plan], dict[str, Job]]:
        """The cells to run, and the meta-trainings and tunings that they need and no folder has,
        by their keys, each after the one that it goes on from."""
        jobs: dict[str, Job] = {}
        for plan in reversed(plans):
            if self._lacks(plan.job):
                for job in (plan.job.start, plan.job):
                    if job is not None and self._lacks(job):
                        jobs[job.key] = job
        if self.options.policy != "only-cached":
            return list(plans), jobs
        self.report.missing += [plan for plan in plans if plan.job.key in jobs]
        return [plan for plan in plans if plan.job.key not in jobs], {}

    def _lacks(self, job: Job) -> bool:
        return job.makes_artifact and find_artifact(job, self.setting.folders) is None

    def _artifacts(self, jobs: Iterable[Job | None]) -> tuple[Path, ...]:
        """What is there for these jobs."""
        found = (find_artifact(job, self.setting.folders) for job in jobs if job is not None)
        return tuple(dict.fromkeys(path for path in found if path is not None))

    def _makings(self, jobs: Mapping[str, Job], plans: Sequence[Plan]) -> list[Task]:
        stall_limit = max((plan.time_limit for plan in plans), default=None)
        made = []
        for job in jobs.values():
            begun = partial_path(self.setting.folders[0], job)
            made.append(
                Task(
                    job,
                    "train",
                    (job, self.setting),
                    None,
                    self.costs.making_seconds(job) or _guess(job),
                    stall_limit,
                    key=f"train-{job.key}",
                    after=_after(job.start, jobs),
                    needs=(*self._artifacts([job.start]), *([begun] if begun.is_file() else [])),
                )
            )
        return made

    def _testing(self, plan: Plan, jobs: Mapping[str, Job]) -> Task:
        return Task(
            plan,
            _test_of(plan),
            (plan, self.setting),
            plan.time_limit,
            self.costs.seconds(plan),
            key=f"cell-{plan.key}",
            after=_after(plan.job, jobs),
            needs=self._artifacts([plan.job]),
        )

    def _keep(self, plan: Plan, result: Cell | Failure) -> None:
        if isinstance(result, Failure):
            from vsml_bench.evaluation.worker import failed_cell

            result = failed_cell(plan, self.setting, result.status, result.reason)
        folder = self.options.folder / "cells"
        path = path_of(folder, result)
        retried, kind = result.status in RETRIED, result.provenance.kind
        known = path.is_file() and (retried or kind != "cpu")
        stored = load_cell(path) if known else None
        has_score = stored is not None and stored.status == "ok"
        then = stored.provenance.kind if stored is not None else kind
        if has_score and not retried and then != kind:
            raise VsmlBenchError(
                f"{path.name} was run on {then}, and this is {kind}; name another --out."
            )
        if retried and stored is not None and _unavailable(stored) == _unavailable(result) != "":
            self.report.reused += 1  # today's look at data and packages has found nothing new
        # A failure that may be the machine's fault takes nothing away that was measured.
        elif not (retried and has_score):
            save_cell(folder, result)
        self.report.cells.append(result)


def _unavailable(cell: Cell) -> str:
    return cell.reason if cell.status == "unavailable" else ""


def _test_of(plan: Plan) -> str:
    """The function that runs it. Whose learner is not vsml-bench's own is audited."""
    card = plan.job.learner
    return AUDIT if card.files or card.package else "test"


def _after(job: Job | None, jobs: Mapping[str, Job]) -> tuple[str, ...]:
    return (f"train-{job.key}",) if job is not None and job.key in jobs else ()


def _guess(job: Job) -> float:
    """Seconds of what was never measured: in the order of what it does, and tuning last."""
    return START_SECONDS + (GUESSED_RATE * job.recipe.examples if job.recipe is not None else 0.0)
