"""`verify --replay`: does today's code give stored results again?

Stale records that it does give again can be adopted, which files them under today's identity.
Declarations change for reasons that leave results as they are: a field is added, a default is
written differently. What was measured then still stands.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vsml_bench import cards, paths
from vsml_bench.config import as_plain
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.audit import apart, verdict
from vsml_bench.evaluation.cell import Adoption, cell_path, load_cell, save_cell
from vsml_bench.evaluation.executors import Executor
from vsml_bench.evaluation.integrity import stored
from vsml_bench.evaluation.plan import EVERYTHING, Place, Plan, plan_suite
from vsml_bench.evaluation.replay import Replay, replay_artifact, replay_cell, replay_file
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.tasks import Failure, Task
from vsml_bench.execution import device_name
from vsml_bench.identity import agrees
from vsml_bench.meta_training.artifact import combinations, note_of
from vsml_bench.meta_training.checkpoint import load_artifact, save_checkpoint
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact
from vsml_bench.meta_training.schedule import beginnings
from vsml_bench.owners import Claim
from vsml_bench.owners import kept as kept_claims
from vsml_bench.provenance import git_state
from vsml_bench.storage import seal, write_atomically
from vsml_bench.suites import find_suite, suite_names

REPLAY = "vsml_bench.evaluation.verification:replay_and_audit"
KEEP_SECONDS = 10.0
"""Between two notes of replays, at least: each time, the whole file is written."""
ADOPT = {kind: f"vsml_bench.evaluation.verification:adopt_{kind}" for kind in ("artifact", "cell")}


def replay(
    folder: Path,
    executor: Executor,
    root: Path | None,
    *,
    lifetimes: int,
    steps: int | None = None,
    adopt: bool = False,
    skip: Collection[Path] = (),
) -> Iterator[dict[str, Any]]:
    """Runs what is stored below `folder` again and compares; yields one report per record, as they
    come: its "file", and the fields of a `Replay`.

    lifetimes: of each cell. steps: only so many of each. adopt: file stale records that replay
    under today's identity, checkpoints first. skip: files that are left out.
    """
    records = [(kind, path) for kind, path in stored(folder) if ".partial." not in path.name]
    setting = Setting(
        folders=(
            *dict.fromkeys(path.parent for kind, path in records if kind == "artifact"),
            paths.results() / "checkpoints",
        ),
        root=root,
        device="cpu",
        command="",
        git=git_state(),
    )
    today = _Today(records) if adopt else None
    for kind in ("artifact", "cell"):  # cells are replayed with checkpoints that are adopted
        tasks = [
            Task(
                path,
                REPLAY if today is None else ADOPT[kind],
                (path, setting, range(lifetimes), steps if today is None else today.like(path)),
                None,
                float(path.stat().st_size),
            )
            for own, path in records
            if own == kind and path not in skip
        ]
        for path, found in executor.run(tasks, f"{kind}s"):
            if isinstance(found, Failure):
                absent = found.status == "unavailable"
                reason, impossible = ("", found.reason) if absent else (found.reason, "")
                found = Replay(kind, reason=reason, impossible=impossible)
            yield {"file": path.relative_to(folder).as_posix(), **asdict(found)}


def keeping(
    folder: Path, reports: Iterable[dict[str, Any]], every: float = KEEP_SECONDS
) -> Generator[dict[str, Any], None, None]:
    """The same reports, of `replay`. Which records came out the same is noted beside them, with the
    first report after so many seconds, at the end, and where an exception ends it. What a kill
    costs is what came since."""
    waiting: list[dict[str, Any]] = []
    noted = time.monotonic()
    try:
        for report in reports:
            waiting.append(report)
            if time.monotonic() - noted >= every:
                _keep(folder, waiting)
                waiting, noted = [], time.monotonic()
            yield report
    finally:
        _keep(folder, waiting)


def _keep(folder: Path, reports: Iterable[Mapping[str, Any]]) -> None:
    same: dict[Path, dict[str, tuple[int, int | None]]] = {}
    other: dict[Path, list[str]] = {}
    for report in reports:
        path = folder / report["file"]
        here, name = path.parents[1], replays.name_of(path)
        if report["reason"]:
            other.setdefault(here, []).append(name)
        elif not report["impossible"]:
            same.setdefault(here, {})[name] = (report["lifetimes"], report["steps"])
    for here in {*same, *other}:
        replays.note(here, same.get(here, {}), other.get(here, ()))


def kept(folder: Path, lifetimes: int, steps: int | None) -> set[Path]:
    """The records below `folder` that this very commit is noted to have run again, that much of
    each."""
    records = {path for _, path in stored(folder)}
    noted = {
        here / name
        for here in {path.parents[1] for path in records}
        for name in replays.by_this_code(here, lifetimes, steps)
    }
    return records & noted


def replay_and_audit(
    path: Path, setting: Setting, lifetimes: Any, steps: int | None, report: Callable[[float], None]
) -> Replay | Failure:
    """`replay_file`, and an audit of one lifetime of a cell that replays: what the fast path gives
    again may still be what it should not be. In processes forked from this one, which loads no
    learner."""
    found: Replay | Failure = apart(replay_file, path, setting, lifetimes, steps, report)
    if isinstance(found, Failure) or found.kind != "cell" or found.reason or found.impossible:
        return found
    cell = load_cell(path)
    setting = replace(setting, precision=cell.provenance.precision)
    accused, note = verdict(cell, cell.plan, setting, 1, steps)
    return replace(found, reason=accused, audit="" if accused else note or "passed")


class _Today:
    """What today's suites would make, to look stale records up in."""

    def __init__(self, records: Sequence[tuple[str, Path]]) -> None:
        """records: those whose suites are looked at; all suites where there are artifacts alone."""
        cells = {path: load_cell(path).plan for kind, path in records if kind == "cell"}
        self._where = {path: (plan.suite, plan.place) for path, plan in cells.items()}
        named = {suite for suite, _ in self._where.values()} & set(suite_names())
        self._plans: dict[tuple[str, Place], Plan] = {}
        for name in sorted(named) or suite_names():
            suite = find_suite(name)
            known = cards.find_all(EVERYTHING.references(suite))
            self._plans.update({(name, p.place): p for p in plan_suite(suite, known)})
        self._jobs = jobs_of(self._plans.values())

    def like(self, path: Path) -> Plan | list[Job] | None:
        """The plan for a cell's place, if there is one, or the jobs that an artifact may be of."""
        if path in self._where:
            return self._plans.get(self._where[path])
        return [job for job in self._jobs if path.name.startswith(job.name.partition("--")[0])]


def jobs_of(plans: Iterable[Plan]) -> list[Job]:
    """All meta-trainings and tunings behind these cells: those that others go on from, and those of
    shorter recipes that they take up, included."""

    def behind(job: Job) -> Iterator[Job]:
        if job.start is not None:
            yield from behind(job.start)
        if job.recipe is not None:
            for recipe in beginnings(job.recipe):
                yield replace(job, recipe=recipe)
        yield job

    found = (job for plan in plans for job in behind(plan.job) if job.makes_artifact)
    return list({job.key: job for job in found}.values())


def adopt_artifact(
    path: Path,
    setting: Setting,
    lifetimes: Sequence[int],
    jobs: Sequence[Job],
    report: Callable[[float], None] = lambda share: None,
) -> Replay:
    """Files a checkpoint or tuning record under the identity of that of `jobs` that it is of, if it
    is stale and replays; the old file goes then."""
    record = load_artifact(path)
    document = record.document
    kind = "tuning" if "trials" in document else "meta-training"
    candidates = {artifact_path(path.parent, job): job for job in jobs if _is_of(document, job)}
    if path in candidates:
        return Replay(kind)
    if not candidates:
        return Replay(kind, impossible="nothing in today's suites is made that way")
    new, job = next(iter(candidates.items()))
    with _making(new):
        if new.exists():
            lines = load_artifact(new).document["adopted"]
            return _superseded(path, kind, [line["formerly"] for line in lines], record.sha256, new)
        found = replay_artifact(record, job, setting.folders, setting.root)
        if found.reason or found.impossible:
            return found
        adopted = {
            **document,
            "job": as_plain(job.published()),
            "identity": job.identity(),
            "adopted": [*document["adopted"], asdict(_adoption(found, record.sha256))],
        }
        if kind == "tuning":
            write_atomically(new, seal(adopted))
        else:
            save_checkpoint(new, record.tensors, adopted)
        path.unlink()
        return found


def _is_of(document: Mapping[str, Any], job: Job) -> bool:
    """Whether an artifact came from what the job declares, versions and new fields left out."""
    if "trials" in document:
        tried, grid = [trial["values"] for trial in document["trials"]], job.learner.tuning
        if grid is None or job.recipe is not None or tried != as_plain(list(combinations(grid))):
            return False
    found, today = document["identity"], as_plain(job.identity())
    old, new = ({**of["learner"]} for of in (found, today))
    for part in ("version", "code", "package"):
        old.pop(part), new.pop(part)
    parts = ("seed", "side", "recipe", "tuning", "episodes")
    return (
        all(old.get(part) == new.get(part) for part in ("name", "class"))
        and agrees(old, new)
        and all(agrees(found[part], today[part]) for part in parts)
    )


def adopt_cell(
    path: Path,
    setting: Setting,
    lifetimes: Sequence[int],
    plan: Plan | None,
    report: Callable[[float], None] = lambda share: None,
) -> Replay:
    """Files a cell under the identity of today's plan for its place, if it is stale and replays;
    the old file goes then."""
    cell = load_cell(path)
    if plan is None:
        return Replay("cell", impossible="today's suites have no such cell")
    new = cell_path(path.parent, plan, plan.key, cell.provenance.manner)
    if new == path:
        return Replay("cell")
    with _making(new):
        if new.exists():
            lines = load_cell(new).provenance.adopted
            return _superseded(path, "cell", [line.formerly for line in lines], cell.key, new)
        if cell.status != "ok":
            return Replay("cell", impossible=f"it is {cell.status}; run it again")
        if not agrees(cell.plan.job.learner.config, plan.job.learner.config):
            return Replay("cell", impossible="its configuration is not that of today's plan")
        found = replay_cell(cell, plan, setting.folders, setting.root, lifetimes)
        if found.reason or found.impossible:
            return found
        artifact = find_artifact(plan.job, setting.folders)
        provenance = replace(
            cell.provenance,
            checkpoint=load_artifact(artifact).sha256 if artifact is not None else None,
            note=note_of(plan.job),
            adopted=(*cell.provenance.adopted, _adoption(found, cell.key)),
        )
        save_cell(path.parent, replace(cell, plan=plan, provenance=provenance, identity={}))
        path.unlink()
        return found


@contextlib.contextmanager
def _making(new: Path) -> Iterator[None]:
    """Meanwhile no other process makes this record; waits for one that does."""
    claim = Claim(new)
    claim.take_or_wait()
    with kept_claims([claim]):
        yield


def _superseded(path: Path, kind: str, formerly: Sequence[str], own: str, new: Path) -> Replay:
    """What becomes of a record where today's is there already: the old file goes if that was made
    from it, by an adoption that was cut short; else both stay.

    formerly: of the adoptions of today's record. own: hash or key of the old one.
    """
    if own[:16] in formerly:
        path.unlink()
        return Replay(kind)
    return Replay(kind, impossible=f"today's record, {new.name}, is there already")


def _adoption(found: Replay, formerly: str) -> Adoption:
    return Adoption(
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        git_commit=git_state()[0],
        lifetimes=found.lifetimes,
        steps=found.steps,
        largest_difference=found.difference,
        device=device_name(torch.device("cpu")),
        formerly=formerly[:16],
    )
