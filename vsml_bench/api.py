"""The Python API: the same verbs as the command line, for notebooks and scripts.

Learners are known by their cards here, so that nothing of theirs runs in this process, and it needs
no PyTorch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import cards, paths
from vsml_bench.cards import Card
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, Problem, load_cells
from vsml_bench.evaluation.executors import Executor, LocalExecutor, run_apart
from vsml_bench.evaluation.plan import Plan, Selection, check_protocol, plan_job, plan_suite
from vsml_bench.evaluation.processes import start_server
from vsml_bench.evaluation.runner import (
    CostModel,
    Policy,
    RunOptions,
    RunReport,
    Setting,
    run_cells,
)
from vsml_bench.meta_training.job import Job, artifact_path
from vsml_bench.owners import Claim, kept
from vsml_bench.plugins import is_place
from vsml_bench.protocols.protocol import protocol_of
from vsml_bench.provenance import git_state
from vsml_bench.suites import Suite, find_split, find_suite

if TYPE_CHECKING:
    import pandas as pd

    from vsml_bench.boards.board import Board
    from vsml_bench.contract import ContractReport


CHECK_SECONDS = 300.0
"""In which a check has to end; each one ends itself in 120 s where Python can."""


def list_learners() -> list[Card]:
    """All learners that are found without being pointed at."""
    return list(cards.shipped().values())


def check(learner: str) -> ContractReport:
    """Whether a learner keeps every promise of the contract.

    learner: a name, or `path/to/file.py:ClassName`.
    Raises VsmlBenchError where it cannot be found or made.
    """
    given: Any = learner
    if not isinstance(given, str):
        found = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise VsmlBenchError(
            f"learner: expected a name or path/to/file.py:ClassName, found {found}; "
            "write it into a file, since it runs in processes of its own."
        )
    reports = check_all(learner)
    if len(reports) != 1:
        names = ", ".join(report.learner for report in reports) or "none"
        raise VsmlBenchError(f"'{learner}' stands for several learners; name one of: {names}.")
    return reports[0]


def check_all(reference: str) -> tuple[ContractReport, ...]:
    """`check` of all learners that the reference stands for, in a process of their own."""
    found: tuple[ContractReport, ...]
    found = run_apart("check", reference, stall_limit=CHECK_SECONDS)
    return found


def plan(
    suite: str,
    *,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
) -> list[Plan]:
    """The cells that `run` would run with the same arguments."""
    of = find_suite(suite)
    lists = {"splits": splits, "learners": learners, "extra_learners": extra_learners}
    for name, given in lists.items():
        _check_list(name, given, str)
    _check_list("seeds", seeds, int)
    chosen, besides = _places(learners, of), _places(extra_learners, of)
    selection = Selection(splits, chosen, besides, seeds)
    known = cards.find_all(selection.references(of), overrides)
    plans = plan_suite(of, known, selection)
    if not plans:
        raise VsmlBenchError(
            f"suite '{of.name}': nothing is left to run; name splits and learners."
        )
    return plans


def _check_list(name: str, given: Any, kind: type) -> None:
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    if not listed or not all(type(one) is kind for one in given):
        what = {str: "names", int: "whole numbers"}[kind]
        hint = f"; write {name}=[{given!r}]" if type(given) is kind else ""
        raise VsmlBenchError(f"{name}: expected a list of {what}, found {given!r}{hint}.")


def _places(names: Sequence[str], suite: Suite) -> Sequence[str]:
    """The same with places for the names of learners that the suite names by their file."""
    known = cards.shipped() if names else {}
    if all(name in known or is_place(name) for name in names):
        return names
    files = filter(is_place, suite.learners)
    own = {card.name: card.reference for file in files for card in cards.find(file)}
    return [own.get(name, name) for name in names]


def run(
    suite: str,
    *,
    out: Path | str | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    jobs: int | None = None,
    policy: Policy = "only-missing",
    progress: bool = True,
    command: str = "",
    executor: Executor | None = None,
    **selection: Any,
) -> RunReport:
    """Runs a suite's cells and stores them in `out` (default `runs/<suite>`).

    selection: `splits`, `seeds`: keep only these of the suite's. `learners`: run these instead of
    the suite's own, names or `path/to/file.py:ClassName`; `extra_learners`: run these as well.
    `overrides`: configuration fields of the learners that run. precision: of the meta-tests,
    "float32" or "bfloat16" (mixed). policy: see `RunOptions`. executor: who does the work, instead
    of `jobs` processes of this machine.
    Raises VsmlBenchError for bad input, before anything is run.
    """
    if executor is None:
        executor = LocalExecutor(jobs, progress)
        if policy != "never":
            start_server()  # while the plan is made
    published, *besides = made_before(suite)
    options = RunOptions(
        folder=results_folder(suite, out),
        published=published,
        besides=tuple(besides),
        root=_path(data_root),
        device=device,
        precision=precision,
        policy=policy,
        executor=executor,
        command=command,
    )
    return run_cells(plan(suite, **selection), options, cost_model(suite))


def leaderboard(suite: str, folder: Path | str | None = None, **selection: Any) -> pd.DataFrame:
    """The board of a suite as a DataFrame, one row per split and learner.

    folder: where its cells are (default `runs/<suite>`, and beside these the published
    ones). selection: `splits`, `learners`, `extra_learners`, `seeds`, `overrides` as in `run`.
    """
    from vsml_bench.boards.formats import to_frame

    return to_frame(board(suite, folder, **selection))


def board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of a suite: a pure function of the cells in the folder and today's plan.

    folder: as in `leaderboard`. Where PyTorch is not installed, learners' cards cannot be read, and
    it is `stored_board`.
    """
    if importlib.util.find_spec("torch") is None:
        selection.pop("overrides", None)
        return stored_board(suite, folder, **selection)
    return _board(find_suite(suite), _stored(suite, folder), plan(suite, **selection))


def stored_board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of stored cells, which needs nothing else: the newest cards in them stand for the
    learners. selection: as in `board`, but for `overrides`."""
    of = find_suite(suite)
    stored = _stored(suite, folder)
    cells = [*stored.own, *stored.published]
    chosen = Selection(**selection)
    known = {name: cards_in(cells, name, of) for name in chosen.references(of)}
    for card in [card for found in known.values() for card in found]:
        if card.recipe is not None and card.recipe.starts_from:
            name = card.recipe.starts_from
            known.setdefault(name, cards_in(cells, name, of))
    return _board(of, stored, plan_suite(of, known, chosen))


@dataclass(frozen=True)
class _Stored:
    """The cells that a board may show, and files that should hold some."""

    own: list[Cell]
    published: list[Cell]
    problems: list[Problem]


def _stored(suite: str, folder: Path | str | None) -> _Stored:
    """The user's own cells and, where no folder is named, the published ones."""
    own, problems = load_cells(results_folder(suite, folder) / "cells")
    if folder is not None:
        return _Stored(own, [], problems)
    published, damaged = load_cells(paths.results() / find_suite(suite).name / "cells")
    return _Stored(own, published, problems if own else [*problems, *damaged])


def _board(of: Suite, stored: _Stored, plans: Sequence[Plan]) -> Board:
    from vsml_bench.boards.board import build_board

    beside = _beside(stored.own, stored.published, plans) if stored.own else stored.published
    return build_board(of.name, [*stored.own, *beside], plans, stored.problems, of.study)


def _beside(own: Sequence[Cell], published: Iterable[Cell], plans: Iterable[Plan]) -> list[Cell]:
    """The published cells that count today, but for those that one has run again."""
    planned = {plan.key for plan in plans}
    again = {(cell.key, cell.provenance.hardware) for cell in own if cell.status == "ok"}
    return [
        cell
        for cell in published
        if cell.key in planned and (cell.key, cell.provenance.hardware) not in again
    ]


def cards_in(cells: Iterable[Cell], reference: str, suite: Suite) -> list[Card]:
    """The newest card of each learner in the cells that the reference stands for; one that matches
    no cell where there is none."""
    found: dict[str, Card] = {}
    for cell in sorted(cells, key=lambda cell: cell.provenance.created):
        job = cell.plan.job
        for card in (job.learner, *([job.start.learner] if job.start is not None else [])):
            if reference == card.name or card.reference.startswith(f"{reference}:"):
                found[card.name] = card
    return list(found.values()) or [cards.unknown(reference, protocol_of(suite).needs)]


def meta_train(
    split: str,
    learner: str,
    seed: int = 0,
    *,
    suite: str | None = None,
    out: Path | str | None = None,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Meta-trains (or tunes) a learner on a split's meta-train side, from its last checkpoint where
    there is one, and returns the path of the result.

    split: "" where the learner's recipe has a source of its own. suite: use that suite's protocol
    and recipe. recipe, overrides: fields of the recipe and of the learner's configuration to
    change. out: the folder of checkpoints (default `runs/checkpoints`).
    """
    job = meta_training_job(split, learner, seed, suite, recipe, overrides)
    if not job.makes_artifact:
        raise VsmlBenchError(
            f"learner '{learner}' has no meta-parameters and nothing to tune; run it as it is."
        )
    folder = Path(out) if out is not None else paths.made()
    setting = Setting((folder,), _path(data_root), device, command, git_state())
    of_split = find_split(split) if job.side.datasets else None
    claim = Claim(artifact_path(folder, job))
    with kept([claim]):
        arguments = (job, of_split, setting, threads, progress, claim)
        path: Path = run_apart("train_in_view", *arguments)
    return path


def meta_training_job(
    split: str,
    learner: str,
    seed: int,
    suite: str | None = None,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Job:
    """What `meta_train` with the same arguments trains."""
    known = cards.find_all([learner], overrides)
    card = cards.only(learner, known[learner])
    of = Suite("", "", ())
    if suite:
        of = find_suite(suite)
        check_protocol(card, of)
    if not split and not (card.recipe is not None and card.recipe.source):
        raise VsmlBenchError(
            f"--split: learner '{card.name}' is made ready on tasks; name the split whose "
            "meta-train side has them."
        )
    side = find_split(split).meta_train if split else None
    return plan_job(card, side, seed, of, known, recipe)


def results_folder(suite: str, out: Path | str | None) -> Path:
    """Where a run of the suite stores its results."""
    name = find_suite(suite).name
    return _path(out) or Path("runs") / name


def made_before(suite: str) -> tuple[Path, ...]:
    """Folders whose checkpoints and tuning records a run of the suite uses, besides its own: what
    is published for all suites, what is published for this one, and what `meta-train` has made."""
    results = paths.results()
    return (results / "checkpoints", results / find_suite(suite).name / "checkpoints", paths.made())


def cost_model(suite: str) -> CostModel:
    """Costs as measured by the published cells and the user's own."""
    name = find_suite(suite).name
    cells: list[Cell] = []
    for folder in (paths.results() / name, Path("runs") / name):
        cells += load_cells(folder / "cells")[0]
    return CostModel(cells)


def _path(value: Path | str | None) -> Path | None:
    return Path(paths.expanded(str(value))) if value is not None else None
