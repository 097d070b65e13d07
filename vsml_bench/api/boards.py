"""Boards from stored cells."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import cards, paths
from vsml_bench.api.planning import made_before, plan, results_folder
from vsml_bench.cards import Card, with_beginners
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import Cell, Problem, load_cells, path_of
from vsml_bench.evaluation.plan import Plan, Selection, plan_suite
from vsml_bench.evaluation.replays import Replayed
from vsml_bench.meta_training.records import find_records
from vsml_bench.protocols.protocol import protocol_of
from vsml_bench.suites import Suite, find_suite, scaled

if TYPE_CHECKING:
    import pandas as pd

    from vsml_bench.boards.board import Board


def leaderboard(suite: str, folder: Path | str | None = None, **selection: Any) -> pd.DataFrame:
    """The board of a suite as a DataFrame, one row per split and learner, with all columns: the
    row's own, the learner over all splits, and what it cost (`to_whole_frame`).

    folder: where its cells are (default `runs/<suite>`, and beside these the published
    ones). selection: `splits`, `learners`, `extra_learners`, `seeds`, `overrides` as in `run`.
    """
    from vsml_bench.boards.notebook import to_whole_frame

    return to_whole_frame(board(suite, folder, **selection))


def board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of a suite: a pure function of the cells in the folder and today's plan.

    folder: as in `leaderboard`. Where PyTorch is not installed, learners' cards cannot be read, and
    it is `stored_board`.
    """
    if importlib.util.find_spec("torch") is None:
        selection.pop("overrides", None)
        return stored_board(suite, folder, **selection)
    scale = selection.get("scale", 1.0)
    of = scaled(find_suite(suite), scale)
    return _board(of, _stored(suite, folder, scale), plan(suite, **selection))


def stored_board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of stored cells, which needs nothing else: the newest cards in them stand for the
    learners. selection: as in `board`, but for `overrides`."""
    scale = selection.pop("scale", 1.0)
    of = scaled(find_suite(suite), scale)
    stored = _stored(suite, folder, scale)
    cells = [c for c in (*stored.own, *stored.published) if c.key not in stored.outdated]
    chosen = Selection(**selection)
    named = {name: cards_in(cells, name, of) for name in chosen.references(of)}
    known = with_beginners(named, lambda name: cards_in(cells, name, of))
    board = _board(of, stored, plan_suite(of, known, chosen))
    why = stored.outdated
    stale = [dataclasses.replace(s, reason=why.get(s.key, s.reason)) for s in board.stale]
    return dataclasses.replace(board, stale=tuple(stale))


@dataclass(frozen=True)
class _Stored:
    """The cells that a board may show, and files that should hold some."""

    own: list[Cell]
    published: list[Cell]
    problems: list[Problem]
    made: tuple[Path, ...]
    """Folders of checkpoints and tuning records."""
    replayed: dict[str, Replayed]
    """Names of files -> how these cells came out the same again."""
    outdated: dict[str, str]
    """Keys of cells that did not count any more when a board was written beside them -> why."""


def _stored(suite: str, folder: Path | str | None, scale: float) -> _Stored:
    """The user's own cells and, where no folder is named, the published ones."""
    place, public = (
        results_folder(suite, folder, scale),
        paths.results() / find_suite(suite).name,
    )
    made = (place / "checkpoints", *made_before(suite))
    own, problems = load_cells(place / "cells")
    replayed, torn = _replayed(place)
    if folder is not None or scale != 1.0:
        here = place.resolve() == public.resolve()
        problems += torn
        return _Stored(
            [] if here else own, own if here else [], problems, made, replayed, _outdated(place)
        )
    published, damaged = load_cells(public / "cells")
    there, torn_there = _replayed(public)
    problems += torn if own else [*damaged, *torn_there]
    return _Stored(own, published, problems, made, {**there, **replayed}, _outdated(public))


def _outdated(folder: Path) -> dict[str, str]:
    """Cells tell what their learners were, and not that a learner has another version since then; a
    board that was written beside them does."""
    try:
        stale = json.loads((folder / "board.json").read_text(encoding="utf-8"))["stale"]
        return {str(record["key"]): str(record["reason"]) for record in stale}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _replayed(folder: Path) -> tuple[dict[str, Replayed], list[Problem]]:
    """What is known of its cells, or why that cannot be read."""
    try:
        return replays.read(folder), []
    except VsmlBenchError as error:
        return {}, [Problem(replays.FILE, str(error))]


def _board(of: Suite, stored: _Stored, plans: Sequence[Plan]) -> Board:
    from vsml_bench.boards.badges import badge
    from vsml_bench.boards.board import build_board

    beside = _beside(stored.own, stored.published, plans) if stored.own else stored.published
    board = build_board(of.name, [*stored.own, *beside], plans, stored.problems, of.study)
    cells = [cell for row in board.rows for cell in row.group.cells]
    public = {id(cell) for cell in stored.published}
    names = (path_of(Path(), cell).name for cell in cells if stored.own and id(cell) in public)
    borrowed = frozenset(names)
    again = [(cell, replays.of(cell, stored.replayed)) for cell in cells]
    return dataclasses.replace(
        board,
        records=find_records((cell.plan.job for cell in cells), stored.made),
        badges={path_of(Path(), c).name: badge(c, id(c) in public, of) for c, of in again},
        borrowed=borrowed,
    )


def _beside(own: Sequence[Cell], published: Iterable[Cell], plans: Iterable[Plan]) -> list[Cell]:
    """The published cells that count today, but for those that one has run again, whatever came
    out; only where data or a package are missing, the published ones stand in."""
    planned = {plan.key for plan in plans}
    again = {path_of(Path(), cell).name for cell in own if cell.status != "unavailable"}
    return [
        cell
        for cell in published
        if cell.key in planned and path_of(Path(), cell).name not in again
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
