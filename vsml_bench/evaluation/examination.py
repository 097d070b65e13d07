"""Does a submission hold? Whoever checks one believes none of its numbers.

Everything is derived from the files again: the contract from the learner, the keys from the suite,
outcomes from the checkpoints. Random lifetimes are run twice: audited (`audit`), where the learner
runs alone in processes that nothing else is computed in, and replayed (`replay`), by the fast path
that made them.
"""

from __future__ import annotations

import datetime
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vsml_bench import paths
from vsml_bench.config import as_plain
from vsml_bench.contract import ContractReport
from vsml_bench.errors import VsmlBenchError, shortened
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import Cell, load_cell
from vsml_bench.evaluation.executors import Executor, run_apart
from vsml_bench.evaluation.integrity import damaged, stored
from vsml_bench.evaluation.merging import merge
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.replays import replayed_on
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.submissions import (
    DOCUMENT,
    LEARNER,
    SUMMARY,
    Submission,
    files_of,
    keep,
    planned,
    published_folders,
    variants_of,
)
from vsml_bench.evaluation.tasks import Failure, Task
from vsml_bench.meta_training.job import Job
from vsml_bench.provenance import git_state, scrub
from vsml_bench.storage import file_hash, write_atomically
from vsml_bench.suites import find_suite

CHECK_SECONDS = 300.0
"""In which the checks of the contract have to end."""
AGAIN = {how: f"vsml_bench.evaluation.examination:{how}_again" for how in ("audit", "replay")}


@dataclass(frozen=True)
class Rerun:
    """What became of a record that was run again."""

    file: str
    how: str
    """"audit" or "replay"."""
    fault: str = ""
    """Why it is not to be believed."""
    undecided: str = ""
    """Why it could not be run again here."""
    lifetimes: int = 0
    difference: float = 0.0
    """The largest of a loss, in nats."""


@dataclass(frozen=True)
class Report:
    """What was found."""

    date: str
    git_commit: str
    by_author: bool
    """Whether whoever submits has looked, so that nobody else vouches for it."""
    contract: tuple[ContractReport, ...] = ()
    faults: tuple[str, ...] = ()
    """Of the folder as a whole, each a sentence."""
    cells: dict[str, int] = field(default_factory=dict)
    """Status -> how many."""
    reruns: tuple[Rerun, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything speaks against it."""
        broken = any(report.failed for report in self.contract)
        return broken or bool(self.faults) or any(rerun.fault for rerun in self.reruns)

    @property
    def replayed(self) -> set[str]:
        """Cells that were run again."""
        return {of.file for of in self.reruns if of.lifetimes and not (of.fault or of.undecided)}

    @property
    def badge(self) -> str:
        """How far the numbers are to be trusted, in a word."""
        if self.failed:
            return "refused"
        if self.by_author or not self.replayed:
            return "self-reported"
        return replayed_on(self.date, self.git_commit)


def contract_of(reference: str) -> tuple[ContractReport, ...]:
    """Every promise of the contract, checked in a process of its own."""
    found: tuple[ContractReport, ...]
    found = run_apart("check", reference, stall_limit=CHECK_SECONDS)
    return tuple(_scrubbed(report) for report in found)


def _scrubbed(report: ContractReport) -> ContractReport:
    results = tuple(replace(found, reason=scrub(found.reason)) for found in report.results)
    return replace(report, results=results)


def keep_report(out: Path, submission: Submission, report: Report, summary: str) -> None:
    """Writes what was found beside what is submitted. summary: in Markdown."""
    keep(out, submission, report={**as_plain(report), "badge": report.badge})
    write_atomically(out / SUMMARY, summary.encode())


def accepted(folder: Path, report: Report, out: Path) -> Report:
    """The report, after a submission that holds is merged into `out`, with a note of which cells
    were run again; what cannot be merged is a fault."""
    if report.failed:
        return report
    problems = merge([folder], out).problems
    if not problems:
        again = [rerun for rerun in report.reruns if rerun.file in report.replayed]
        cells = {of.file: (of.lifetimes, None) for of in again if of.how == "replay"}
        replays.note(out, cells)
    return replace(report, faults=tuple(f"{file}: {why}" for file, why in problems.items()))


def examine(
    folder: Path,
    submission: Submission,
    executor: Executor,
    root: Path | None,
    lifetimes: int,
    contract: Sequence[ContractReport] | None = None,
) -> Report:
    """Everything that can be found out about a submission without its author.

    lifetimes: of each cell, drawn at random, that are audited, and as many that are replayed.
    contract: what the author has just seen of it; None has it checked here.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    report = Report(today, git_state()[0], by_author=contract is not None)
    faults = list(_foreign(folder, submission))
    if faults:  # what is not listed might be what is imported
        return replace(report, faults=tuple(faults))
    reference = str(folder.absolute() / LEARNER / submission.learner)
    try:
        if contract is None:
            contract = contract_of(reference)
        report = replace(report, contract=tuple(contract))
        return _examined(folder, submission, reference, report, executor, root, lifetimes)
    except VsmlBenchError as error:
        return replace(report, faults=(scrub(str(error)),))
    finally:
        for made in (folder / LEARNER).rglob("__pycache__"):  # it has this machine's paths
            shutil.rmtree(made, ignore_errors=True)


def _examined(
    folder: Path,
    submission: Submission,
    reference: str,
    report: Report,
    executor: Executor,
    root: Path | None,
    lifetimes: int,
) -> Report:
    """All but the contract. reference: of the learner in the folder."""
    found, plans = planned(reference, submission.suite)
    faults = []
    if variants_of(found) != submission.variants or files_of(found) != submission.files:
        faults.append(f"{DOCUMENT} says something else of the learner than its files do.")
    bad = damaged(folder)[1]
    faults += [f"{file}: {scrub(reason)}" for file, reason in bad.items()]
    cells = {path: load_cell(path) for kind, path in stored(folder) if kind == "cell" and not bad}
    made = {} if bad else _jobs(folder, plans)
    faults += [] if bad else _unplanned(cells, plans)
    faults += [f"{path.name} is of nothing planned." for path, job in made.items() if job is None]
    counts = Counter(cell.status for cell in cells.values())
    report = replace(report, faults=tuple(faults), cells=dict(sorted(counts.items())))
    if faults:  # no need to run a stranger's code any more
        return report
    work = [*_of_cells(cells, plans), *(("replay", path, job) for path, job in made.items())]
    setting = Setting(
        folders=(folder / "checkpoints", *published_folders(submission.suite)),
        root=root,
        device="cpu",
        command="",
        git=git_state(),
    )
    limit = find_suite(submission.suite).time_limit
    tasks = [
        Task(
            (how, path),
            AGAIN[how],
            (path, of, setting, lifetimes),
            limit,
            float(path.stat().st_size),
        )
        for how, path, of in work
    ]
    return replace(report, reruns=tuple(_rerun(folder, tasks, executor)))


def _foreign(folder: Path, submission: Submission) -> Iterator[str]:
    """What of the folder is not what it says, or is nothing that a submission has."""
    learner = folder / LEARNER
    records = {path for _, path in stored(folder)}
    main = paths.parts(submission.learner)[0]
    if main not in submission.files:
        yield f"{DOCUMENT} names '{shortened(main, 80)}' as the learner, and not among its files."
    for path in sorted(folder.rglob("*")):
        name = shortened(path.relative_to(folder).as_posix(), 80)
        if path.is_symlink():
            yield f"{name} is a link; put the file itself there."
        elif path.is_file() and not path.is_relative_to(learner):
            if name not in (DOCUMENT, SUMMARY) and path not in records:
                yield f"{name} has no place in a submission."
        elif path.is_file():
            digest = submission.files.get(path.relative_to(learner).as_posix())
            if digest is None:
                yield f"{name} is not among the files that {DOCUMENT} names."
            elif digest != file_hash(path):
                yield f"{name} is not the file that {DOCUMENT} names; submit again."
    for name in submission.files:
        if ".." in Path(name).parts or not (learner / name).is_file():
            yield f"{LEARNER}/{shortened(name, 80)} is not there."


def _unplanned(cells: Mapping[Path, Cell], plans: Sequence[Plan]) -> list[str]:
    """Cells that do not count for the suite, and those that it lacks."""
    keys = {plan.key: plan for plan in plans}
    faults = []
    for path, cell in cells.items():
        plan = keys.get(cell.key)
        # what the key covers is declared in the cell twice; a lie in one of both is found here
        if plan is None or cell.plan.key != cell.key or cell.plan.suite != plan.suite:
            faults.append(f"cells/{path.name} is not what the suite plans today; run it again.")
        elif cell.plan.job.learner.files != plan.job.learner.files:
            faults.append(f"cells/{path.name} was run by other files of the learner.")
        elif cell.status == "cheated":
            faults.append(f"cells/{path.name} is of a learner that was found to cheat.")
        elif cell.provenance.precision != "float32":
            faults.append(f"cells/{path.name} was run in {cell.provenance.precision}.")
        elif cell.provenance.adopted:
            faults.append(f"cells/{path.name} has been adopted, by nobody who is known here.")
    there = {cell.key for cell in cells.values()}
    faults += [f"the cell of {plan} is not here." for key, plan in keys.items() if key not in there]
    return faults


def _of_cells(
    cells: Mapping[Path, Cell], plans: Sequence[Plan]
) -> Iterator[tuple[str, Path, Plan | Job | None]]:
    """How each is run again, and as what: today's plan, not what the cell says of itself."""
    keys = {plan.key: plan for plan in plans}
    for path, cell in cells.items():
        if cell.status == "ok":
            yield "audit", path, keys[cell.key]
            yield "replay", path, keys[cell.key]


def _jobs(folder: Path, plans: Sequence[Plan]) -> dict[Path, Job | None]:
    """What each checkpoint and tuning record is of; None where nothing like it is planned."""
    jobs = [job for plan in plans for job in (plan.job.start, plan.job) if job is not None]
    return {
        path: next((job for job in jobs if path.name.startswith(job.name)), None)
        for kind, path in stored(folder)
        if kind == "artifact"
    }


def _rerun(folder: Path, tasks: Sequence[Task], executor: Executor) -> list[Rerun]:
    """Each in a process of its own: one that has run the learner's code is not believed beyond its
    own result."""
    reruns = []
    for (how, path), found in executor.run(tasks, "audits and replays"):
        rerun = Rerun(path.relative_to(folder).as_posix(), how)
        if isinstance(found, Failure):
            absent, reason = found.status == "unavailable", scrub(found.reason)
            fault, undecided = ("", reason) if absent else (reason, "")
            reruns.append(replace(rerun, fault=fault, undecided=undecided))
        else:
            reruns.append(replace(rerun, **found))
    return sorted(reruns, key=lambda rerun: (rerun.file, rerun.how))


def audit_again(
    path: Path, plan: Plan, setting: Setting, lifetimes: int, report: Callable[[float], None]
) -> dict[str, Any]:
    """Fields of a `Rerun`, of a cell. This process loads no learner."""
    from vsml_bench.evaluation.audit import verdict

    fault, note = verdict(load_cell(path), plan, setting, lifetimes)
    return {"fault": fault, "undecided": scrub(note), "lifetimes": 0 if note else lifetimes}


def replay_again(
    path: Path, of: Plan | Job, setting: Setting, lifetimes: int, report: Callable[[float], None]
) -> dict[str, Any]:
    """Fields of a `Rerun`, of a cell, or of a meta-training or tuning."""
    from vsml_bench.evaluation.audit import drawn
    from vsml_bench.evaluation.replay import replay_artifact, replay_cell
    from vsml_bench.meta_training.checkpoint import load_artifact

    if isinstance(of, Plan):
        cell = load_cell(path)
        chosen = drawn(len(cell.correct), lifetimes)
        found = replay_cell(cell, of, setting.folders, setting.root, chosen)
    else:
        found = replay_artifact(load_artifact(path), of, setting.folders, setting.root)
    return {
        "fault": scrub(found.reason),
        "undecided": scrub(found.impossible),
        "lifetimes": found.lifetimes,
        "difference": found.difference,
    }
