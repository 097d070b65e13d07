"""The Python API: the same verbs as the command line, for notebooks and scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vsml_bench
from vsml_bench import paths, registry
from vsml_bench.contract.findings import ContractReport
from vsml_bench.contract.suite import check_learner
from vsml_bench.data import datasets
from vsml_bench.data.sides import check_disjoint
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, load_cells
from vsml_bench.evaluation.conformance import probe
from vsml_bench.evaluation.cost import CostModel
from vsml_bench.evaluation.planning import (
    CellPlan,
    check_numbers,
    check_protocol,
    few_shot_of,
    plan_suite,
    recipe_of,
)
from vsml_bench.evaluation.runner import Policy, RunOptions, RunReport, run_cells
from vsml_bench.execution import decide
from vsml_bench.figures import write_introspection
from vsml_bench.leaderboard.board import Board, PlannedCell, build_board
from vsml_bench.leaderboard.introspection import curves
from vsml_bench.leaderboard.render import to_frame
from vsml_bench.leaderboard.sections import Finished
from vsml_bench.meta_training.artifact import artifact_path, make_artifact, needs_artifact
from vsml_bench.meta_training.job import NO_TASKS, MetaTrainingJob, change_recipe
from vsml_bench.registry import LearnerEntry
from vsml_bench.storage import check_writable

if TYPE_CHECKING:
    import pandas as pd


CLONED_LAYERS = (1, 2, 3)
"""Layers of the networks of clones that are learners by themselves."""
BESIDE = ("sgd-linear", "1-nn")
"""Learners that `introspect` draws beside the one that is asked for."""


def list_learners() -> list[LearnerEntry]:
    """All learners that are found without being pointed at."""
    return list(registry.learners().values())


def check(learner: str) -> ContractReport:
    """Whether a learner keeps every promise of the contract.

    learner: a name, or `path/to/file.py:ClassName`.
    Raises VsmlBenchError where it cannot be found or made.
    """
    return check_learner(registry.find_learner(learner))


def plan(
    suite: str,
    *,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
    data_root: Path | str | None = None,
) -> list[CellPlan]:
    """The cells that `run` would run with the same arguments."""
    return plan_suite(
        registry.find_suite(suite),
        _path(data_root),
        splits=splits,
        learners=learners,
        extra_learners=extra_learners,
        seeds=seeds,
        overrides=overrides,
    )


def run(
    suite: str,
    *,
    out: Path | str | None = None,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    jobs: int | None = None,
    policy: Policy = "only-missing",
    progress: bool = True,
    command: str = "",
) -> RunReport:
    """Runs a suite's cells and stores them in `out` (default `runs/<suite>`).

    splits, seeds: keep only these of the suite's. learners: run these instead of the suite's own,
    names or `path/to/file.py:ClassName`; extra_learners: run these as well. overrides:
    configuration fields of the learners that run. precision: of the meta-tests, "float32" or
    "bfloat16" (mixed). policy: see `RunOptions`.
    Raises VsmlBenchError for bad input, before anything is run.
    """
    plans = plan(
        suite,
        splits=splits,
        learners=learners,
        extra_learners=extra_learners,
        seeds=seeds,
        overrides=overrides,
        data_root=data_root,
    )
    decide(device, precision=precision)
    options = RunOptions(
        folder=results_folder(suite, out),
        published=paths.results() / "checkpoints",
        root=_path(data_root),
        device=device,
        precision=precision,
        jobs=jobs,
        policy=policy,
        progress=progress,
        command=command,
    )
    return run_cells(plans, options, cost_model(suite))


def leaderboard(suite: str, folder: Path | str | None = None, **selection: Any) -> pd.DataFrame:
    """The board of a suite as a DataFrame, one row per split and learner.

    folder: where its cells are (default `runs/<suite>`, or the published ones where that does not
    exist). selection: `splits`, `learners`, `extra_learners`, `seeds`, `data_root` as in `run`.
    """
    return to_frame(board(suite, folder, **selection))


def board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of a suite: a pure function of the cells in the folder and today's plan."""
    return board_of(suite, plan(suite, **selection), board_folder(suite, folder))


def board_of(suite: str, plans: Sequence[CellPlan], folder: Path) -> Board:
    """The board of these plans from the cells in `folder`.

    Where this machine lacks a dataset, its hash cannot be compared: a stored cell then counts if
    everything else is as planned.
    """
    cells, problems = load_cells(folder / "cells")
    planned = []
    for p in plans:
        lacks_data = p.unavailable and not p.data_hashes
        key = _unchecked_key(p, cells) if lacks_data else p.key
        planned.append(
            PlannedCell(
                p.id,
                key,
                p.relation,
                p.has_meta_parameters,
                p.hashes,
                p.family,
                p.protocol,
                p.unchanged,
            )
        )
    found = registry.find_suite(suite)
    return build_board(found.name, cells, planned, problems, found.track)


def _unchecked_key(plan: CellPlan, cells: Sequence[Cell]) -> str:
    needs_data = ("data", "protocol")  # the number of steps depends on the size of the data
    known = {part: value for part, value in plan.hashes.items() if part not in needs_data}
    scored = [
        cell.key
        for cell in cells
        if cell.status == "ok"
        and (cell.id.split, cell.id.learner, cell.id.seed)
        == (plan.id.split, plan.id.learner, plan.id.seed)
        and {k: v for k, v in cell.provenance.hashes.items() if k not in needs_data} == known
    ]
    return scored[0] if len(scored) == 1 else plan.key


def introspect(
    learner: str,
    split: str,
    *,
    seed: int = 0,
    lifetimes: int | None = None,
    steps: int | None = None,
    out: Path | str = "runs/introspect",
    data_root: Path | str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = True,
    command: str = "",
) -> list[Path]:
    """Looks at how a learner learns, beside SGD and 1-NN on the same streams, and returns the files
    with pictures and numbers that it wrote to `out`.

    seed: of the meta-training. lifetimes, steps: as in the suite `introspection` where they are
    left out. Checkpoints and tuning records are looked for in `out`, among the published ones and
    in runs/checkpoints; VsmlBenchError where one is in none of them.
    """
    suite = registry.find_suite("introspection")
    chosen = dataclasses.replace(
        suite,
        splits=(split,),
        learners=(learner, *BESIDE),
        seeds=(seed,),
        lifetimes=suite.lifetimes if lifetimes is None else lifetimes,
        steps=suite.steps if steps is None else steps,
        recipes={},
    )
    registry.find_learner(learner)  # exactly one
    plans = plan_suite(chosen, _path(data_root))
    decide(device)
    options = RunOptions(
        folder=Path(out),
        published=paths.results() / "checkpoints",
        besides=(Path("runs") / "checkpoints",),
        root=_path(data_root),
        device=device,
        jobs=jobs,
        policy="only-cached",
        progress=progress,
        command=command,
    )
    report = run_cells(plans, options, cost_model(suite.name))
    for missing in report.missing:
        raise VsmlBenchError(
            f"{missing.id}: neither meta-trained nor tuned yet; run `vsml-bench meta-train --split "
            f"{split} --learner {missing.reference} --seed {missing.id.seed}` first."
        )
    cells = {cell.id.learner: cell for cell in report.cells}
    for cell in cells.values():
        if cell.status != "ok":
            raise VsmlBenchError(f"{cell.id}: {cell.status}: {cell.reason.splitlines()[-1]}")
    names = dict.fromkeys(p.id.learner for p in plans)
    finished = [
        Finished(split, name, cells[name].provenance.device, (cells[name],)) for name in names
    ]
    return write_introspection(curves(finished), Path(out))


def meta_train(
    split: str,
    learner: str,
    seed: int = 0,
    *,
    suite: str | None = None,
    out: Path | str = "runs/checkpoints",
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

    suite: use that suite's protocol and recipe. recipe, overrides: fields of the recipe and of the
    learner's configuration to change.
    """
    job = meta_training_job(split, learner, seed, suite, recipe, overrides)
    if not needs_artifact(job):
        raise VsmlBenchError(
            f"learner '{learner}' has no meta-parameters and nothing to tune; run it as it is."
        )
    probe(job.entry)
    root = _path(data_root)
    check_disjoint(registry.find_split(split), root)
    folder = Path(out)
    execution = decide(device, threads)
    check_writable(folder)
    return make_artifact(job, folder, execution, root, progress=progress, command=command)


def clone(
    layers: int,
    seed: int = 0,
    *,
    out: Path | str = "runs/checkpoints",
    recipe: dict[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Clones backpropagation into a sub-RNN, from the last checkpoint where there is one, and
    returns the path of the result.

    layers: of the network that it is for. One synapse serves them all, so that equal recipes give
    the same file. recipe: fields of the recipe to change. VsmlBenchError where there is no learner
    with so many layers.
    """
    if layers not in CLONED_LAYERS:
        known = ", ".join(map(str, CLONED_LAYERS))
        raise VsmlBenchError(f"layers: expected one of {known}, found {layers}.")
    entry = registry.find_learner(f"clone-{layers}")
    assert entry.cls.recipe is not None
    used = change_recipe(entry.cls.recipe, recipe or {}, f"recipe of {entry.name}")
    job = MetaTrainingJob(entry, NO_TASKS, seed, used)
    probe(entry)
    folder = Path(out)
    execution = decide(device, threads)
    check_writable(folder)
    return make_artifact(job, folder, execution, None, progress=progress, command=command)


def meta_training_job(
    split: str,
    learner: str,
    seed: int,
    suite: str | None = None,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
) -> MetaTrainingJob:
    """What `meta_train` with the same arguments trains."""
    entry = registry.find_learner(learner).overridden(overrides or {})
    of = registry.find_suite(suite) if suite else None
    used = recipe_of(entry, of)
    side = registry.find_split(split).meta_train
    few_shot = None
    if of is not None:
        check_numbers(of)
        check_protocol(entry, of)
        few_shot = few_shot_of(of, side, f"meta_train of '{split}'")
    if recipe:
        if used is None:
            raise VsmlBenchError(
                f"learner '{entry.name}' is not meta-trained, so it has no recipe to change."
            )
        used = change_recipe(used, recipe, f"recipe of {entry.name}")
    return MetaTrainingJob(entry, side, seed, used, few_shot)


def checkpoint_of(job: MetaTrainingJob, folder: Path) -> Path:
    """Where the result of a meta-training is kept in a folder."""
    return artifact_path(folder, job)


def data_status(data_root: Path | str | None = None) -> list[datasets.DatasetStatus]:
    """What data are here, and where from."""
    return [datasets.status(name, _path(data_root)) for name in datasets.names()]


def results_folder(suite: str, out: Path | str | None) -> Path:
    """Where a run of the suite stores its results."""
    return Path(out) if out is not None else Path("runs") / registry.find_suite(suite).name


def board_folder(suite: str, folder: Path | str | None) -> Path:
    """Where a board's cells are read from: the given folder, else the user's own run, else what is
    published."""
    own = results_folder(suite, folder)
    if folder is not None or (own / "cells").is_dir():
        return own
    return paths.results() / registry.find_suite(suite).name


def cost_model(suite: str) -> CostModel:
    """Costs as measured by the published cells and the user's own."""
    name = registry.find_suite(suite).name
    cells = []
    for folder in (paths.results() / name, Path("runs") / name):
        cells += load_cells(folder / "cells")[0]
    return CostModel(cells)


def _path(value: Path | str | None) -> Path | None:
    return Path(value) if value is not None else None


# Importing the subpackage `leaderboard` above put it where the package keeps this function.
vsml_bench.leaderboard = leaderboard
