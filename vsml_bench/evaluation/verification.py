"""`verify`: are stored results what was written, and does today's code give them again?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vsml_bench import cards, paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.evaluation.executors import Executor, Failure, Task
from vsml_bench.evaluation.plan import Plan, Selection, plan_suite
from vsml_bench.evaluation.runner import Setting
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

    lifetimes: of each cell. steps: only so many of each. adopt: file stale records that replay under
    today's identity, checkpoints first.
    """
    records = list(stored(folder))
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
    plans = _todays_plans(_suites_in(records)) if adopt else []
    reports = []
    for kind in ("artifact", "cell"):  # cells are replayed with checkpoints that are adopted
        tasks = [
            Task(path, function, arguments, None, float(path.stat().st_size))
            for own, path in records
            if own == kind
            for function, arguments in [
                (ADOPT, (path, plans, setting, lifetimes))
                if adopt
                else (REPLAY, (path, setting, lifetimes, steps))
            ]
        ]
        for path, found in executor.run(tasks, f"{kind}s"):
            name = path.relative_to(folder).as_posix()
            if isinstance(found, Failure):
                found = {"kind": kind, "reason": found.reason}
            reports.append({**found, "file": name})
    return sorted(reports, key=lambda report: str(report["file"]))


def _suites_in(records: Sequence[tuple[str, Path]]) -> list[str]:
    """Suites that a record below the folder is of; all where there are artifacts alone."""
    found = set()
    for kind, path in records:
        if kind == "cell":
            document = unseal(path.read_bytes(), path.name)
            found.add(document["id"]["suite"] if "id" in document else document["plan"]["suite"])
    return sorted(found & set(suite_names())) or suite_names()


def _todays_plans(suites: Sequence[str]) -> list[Plan]:
    plans = []
    for name in suites:
        suite = find_suite(name)
        plans += plan_suite(suite, cards.find_all(Selection().references(suite)))
    return plans
