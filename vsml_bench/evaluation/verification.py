"""`verify`: are stored results what was written, and does today's code give them again?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from vsml_bench import cards, paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.evaluation.executors import Executor, Failure, Task
from vsml_bench.evaluation.plan import EVERYTHING, Plan, plan_suite
from vsml_bench.evaluation.runner import Setting
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.schedule import beginnings
from vsml_bench.provenance import git_state
from vsml_bench.storage import unseal
from vsml_bench.suites import find_suite, suite_names

REPLAY = "vsml_bench.evaluation.replay:replay_file"
ADOPT = "vsml_bench.evaluation.adoption:adopt_file"


def stored(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every cell, checkpoint and tuning record below `folder`: its kind, "cell" or "artifact", and
    its path. VsmlBenchError where it is no folder."""
    if not folder.is_dir():
        raise VsmlBenchError(f"{folder} is not a folder; name one that holds results.")
    for path in sorted(folder.rglob("*")):
        if path.parent.name == "checkpoints" and path.suffix in (".safetensors", ".json"):
            yield "artifact", path
        elif path.parent.name == "cells" and path.suffix == ".json":
            yield "cell", path


def damaged(folder: Path) -> tuple[int, dict[str, str]]:
    """How many records are what was written, and what is wrong with the others, by their paths."""
    from vsml_bench.meta_training.artifact import load_artifact

    good, bad = 0, {}
    load: dict[str, Callable[[Path], Any]] = {"cell": _intact_cell, "artifact": load_artifact}
    for kind, path in stored(folder):
        try:
            load[kind](path)
            good += 1
        except VsmlBenchError as error:
            bad[path.relative_to(folder).as_posix()] = str(error)
    return good, bad


def _intact_cell(path: Path) -> None:
    """Refuses a damaged cell, but not one of an earlier version."""
    if unseal(path.read_bytes(), f"cell {path.name}").get("format") != 1:
        load_cell(path)


def replay(
    folder: Path,
    executor: Executor,
    root: Path | None,
    *,
    lifetimes: int,
    steps: int | None = None,
    adopt: bool = False,
) -> list[dict[str, Any]]:
    """Runs what is stored below `folder` again and compares; one report per record, as the fields
    of `replay.Replay`.

    lifetimes: of each cell. steps: only so many of each. adopt: file stale records that replay
    under today's identity, checkpoints first.
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
    reports = []
    for kind in ("artifact", "cell"):  # cells are replayed with checkpoints that are adopted
        tasks = [
            Task(path, function, arguments, None, float(path.stat().st_size))
            for own, path in records
            if own == kind
            for function, arguments in [
                (ADOPT, (path, today.like(kind, path), setting, lifetimes))
                if today is not None
                else (REPLAY, (path, setting, lifetimes, steps))
            ]
        ]
        for path, found in executor.run(tasks, f"{kind}s"):
            name = path.relative_to(folder).as_posix()
            if isinstance(found, Failure):
                which = "impossible" if found.status == "unavailable" else "reason"
                found = {"kind": kind, "reason": "", "impossible": "", which: found.reason}
            reports.append({**found, "file": name})
    return sorted(reports, key=lambda report: str(report["file"]))


class _Today:
    """What today's suites would make, to look stale records up in."""

    def __init__(self, records: Sequence[tuple[str, Path]]) -> None:
        """records: those whose suites are looked at; all suites where there are artifacts alone."""
        self._where = {path: _place_of(path) for kind, path in records if kind == "cell"}
        named = {suite for suite, _ in self._where.values()} & set(suite_names())
        self._plans: dict[Place, Plan] = {}
        for name in sorted(named) or suite_names():
            suite = find_suite(name)
            known = cards.find_all(EVERYTHING.references(suite))
            self._plans.update({(name, p.place): p for p in plan_suite(suite, known)})
        self._jobs = jobs_of(self._plans.values())

    def like(self, kind: str, path: Path) -> list[Plan] | list[Job]:
        """The plan for a cell's place, if there is one, or the jobs that an artifact may be of."""
        if kind == "cell":
            plan = self._plans.get(self._where[path])
            return [plan] if plan is not None else []
        return [job for job in self._jobs if path.name.startswith(job.name.partition("--")[0])]


Place: TypeAlias = tuple[str, tuple[str, str, int]]
"""Suite, and place in it."""


def _place_of(path: Path) -> Place:
    document = unseal(path.read_bytes(), path.name)
    if "id" in document:  # format 1
        own = document["id"]
        return own["suite"], (own["split"], own["learner"], own["seed"])
    cell = load_cell(path)
    return cell.plan.suite, cell.plan.place


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
