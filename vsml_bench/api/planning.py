"""What a run would run, and where its results are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsml_bench import cards, paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, load_cells
from vsml_bench.evaluation.makespan import Speeds
from vsml_bench.evaluation.makespan import speeds as speeds_of
from vsml_bench.evaluation.plan import Plan, Selection, plan_suite
from vsml_bench.evaluation.runner import (
    CostModel,
)
from vsml_bench.plugins import is_place
from vsml_bench.suites import Suite, find_suite, scaled


def plan(
    suite: str,
    *,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
    scale: float = 1.0,
) -> list[Plan]:
    """The cells that `run` would run with the same arguments."""
    of = scaled(find_suite(suite), scale)
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


def results_folder(suite: str, out: Path | str | None, scale: float = 1.0) -> Path:
    """Where a run of the suite stores its results."""
    name = scaled(find_suite(suite), scale).name
    return paths.given(out) or Path("runs") / name


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


def speeds(suite: str, gpu: str = "", scale: float = 1.0) -> tuple[Speeds, set[str]]:
    """How quick workers are, for `makespan`, and the keys of the user's own finished cells.

    gpu: part of the name of a GPU that there are published cells of; "" is a thread of a CPU.
    """
    own = load_cells(results_folder(suite, None, scale) / "cells")[0]
    published = [
        cell for folder in sorted(paths.results().glob("*/cells")) for cell in load_cells(folder)[0]
    ]
    done = {cell.key for cell in own if cell.status == "ok"}
    return speeds_of(cost_model(suite), own, published, gpu), done
