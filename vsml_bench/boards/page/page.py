"""One page that holds a whole board: nothing is loaded from anywhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from vsml_bench.boards import costs
from vsml_bench.boards.board import Board
from vsml_bench.boards.diversity import diversity
from vsml_bench.boards.grids import grid
from vsml_bench.boards.missing import missing
from vsml_bench.boards.page import pictures, rendering
from vsml_bench.boards.page.curves import Curve, curve
from vsml_bench.boards.page.diversity_curves import diversity_curves
from vsml_bench.boards.page.heat_map import heat_map
from vsml_bench.boards.page.origins import origins
from vsml_bench.boards.page.second_hand import second_hand
from vsml_bench.boards.page.speed import Speed
from vsml_bench.boards.page.standings import Standing, standings
from vsml_bench.boards.page.table import large_table
from vsml_bench.boards.page.trainings import trainings
from vsml_bench.boards.pairs import OVERALL, Pair, pairs
from vsml_bench.boards.seen import away_splits, home_splits

_SCRIPTS = ("state.js", "table.js", "charts.js", "pairs.js", "cells.js")
_SHARED = (
    *("config", "recipe", "tuned", "data", "versions"),
    *("checkpoint", "commit", "device", "learner", "created"),
)
"""Fields of an `Origin` that are long and the same in many cells."""
_SHOWN_AT_FIRST = 4
"""Curves."""


def to_html(board: Board, speed: Speed | None = None) -> str:
    """The page; speed: where asv's pages are beside it, what these show."""
    placed = standings(board)
    found = pairs(board)
    curves = [curve(row.group) for row in board.rows]
    heads, lines = large_table(board)
    splits = [s for s in board.splits if any(line.split == s for line in lines)]
    shown = _first_curves(board, curves, [s.label for s in placed])
    drawn = _pictures(board, placed, shown)
    by_cost = {cost: pictures.quality_and_cost(placed, cost) for cost in costs.AXES}
    made = trainings(board)
    shown_rows = {line.index for line in lines}
    data = {
        "suite": board.suite,
        "hash": board.board_hash,
        "names": board.names("csv"),
        "columns": board.names("json"),
        # Of what no table shows there is nothing to say; its place keeps the others' numbers.
        "rows": [
            [row[name] for name in board.names("json")] if index in shown_rows else []
            for index, row in enumerate(board.rows)
        ],
        "labels": [row.label for row in board.rows],
        **_cells(board, speed),
        "trainings": {sha256: asdict(training) for sha256, training in made.items()},
        "curves": [None if c is None else _thousandths(c) for c in curves],
        "pairs": _plain_pairs(found),
        "pictures": {name: picture for name, picture in drawn.items() if name != "cost"},
        "costs": {cost: picture for cost, picture in by_cost.items() if picture is not None},
        "training": pictures.training_curve() if made else None,
    }
    script = "\n".join(rendering.text(name) for name in _SCRIPTS)
    script = f"(async function () {{\n'use strict';\n{script}\n}})();"
    scripts = [rendering.library(), script] if drawn else [script]
    return (
        rendering.environment()
        .get_template("board.html")
        .render(
            board=board,
            standings=placed,
            summaries={learner.label: learner for learner in board.learners},
            outside=pictures.outside(placed),
            home=home_splits(board),
            away=away_splits(board),
            heads=heads,
            lines=lines,
            splits=splits,
            detectable={s: _detectable(found, s) for s in [OVERALL, *splits]},
            learners=list(dict.fromkeys(line.label for line in lines)),
            relations=list(dict.fromkeys(line.relation for line in lines)),
            families=sorted({line.family for line in lines}),
            axes=costs.AXES,
            first_cost=costs.FIRST,
            priced=data["costs"],
            second_hand=second_hand() if any(h.name == "second_hand" for h in heads) else None,
            again=_again(board, placed),
            missing=[lack.sentence() for lack in missing(board)],
            notes=_notes(board),
            svgs={name: _lean(pictures.to_svg(spec)) for name, spec in drawn.items()},
            curve_split=_curve_split(board),
            shown_curves=list(shown),
            stream=any(curves),
            speed=speed,
            style=rendering.text("page.css"),
            scripts=scripts,
            policy=rendering.policy(scripts),
            data=rendering.packed(data),
        )
    )


def _cells(board: Board, speed: Speed | None) -> dict[str, Any]:
    """The cells behind each row. What many have in common stands in "shared", once, and its number
    in their place."""
    shared: dict[str, int] = {}
    cells = []
    for row in board.rows:
        cells.append([asdict(origin) for origin in origins(row.group, board.badges, speed)])
        for cell in cells[-1]:
            for name in _SHARED:
                cell[name] = shared.setdefault(json.dumps(cell[name]), len(shared))
    plain = [json.loads(text) for text in shared]
    return {"cells": cells, "shared": plain, "shared_fields": _SHARED}


def _pictures(
    board: Board, placed: Sequence[Standing], shown: Mapping[str, Curve]
) -> dict[str, pictures.Specification]:
    """What stands on the page without JavaScript, by name."""
    order = [standing.label for standing in placed]
    squares, points = grid(board, order), diversity(board, order)
    specifications = {
        "first": pictures.first_sight(placed) if any(s.away for s in placed) else None,
        "grid": heat_map(squares) if squares is not None else None,
        "diversity": diversity_curves(points) if points else None,
        "curves": pictures.learning_curves(shown) if shown else None,
        "cost": pictures.quality_and_cost(placed),
    }
    return {name: spec for name, spec in specifications.items() if spec is not None}


def picture(board: Board) -> str:
    """The first picture of the page as an SVG, as for a README; "" where nothing has a score."""
    placed = standings(board)
    if all(standing.away is None for standing in placed):
        return ""
    return pictures.to_svg(pictures.first_sight(placed))


def _curve_split(board: Board) -> str:
    """Whose curves are shown at first."""
    streams = {row.group.split for row in board.rows if row.group.finished and row.group.stream}
    return next((split for split in away_splits(board) if split in streams), "")


def _first_curves(
    board: Board,
    curves: Sequence[Curve | None],
    order: Sequence[str],
) -> dict[str, Curve]:
    split = _curve_split(board)
    found = {
        row.label: of
        for row, of in zip(board.rows, curves, strict=True)
        if of is not None and row.group.split == split
    }
    return {label: found[label] for label in [o for o in order if o in found][:_SHOWN_AT_FIRST]}


def _again(board: Board, placed: Sequence[Standing]) -> str:
    """What runs the first learner again, on all splits."""
    if not placed:
        return ""
    reference = board.by_label[placed[0].label][0].plans[0].published().job.learner.reference
    words = ["--suite", board.suite, "--learner", reference, "--policy", "always"]
    return shlex.join(["vsml-bench", "run", *words])


def _notes(board: Board) -> list[str]:
    """Each note once per learner."""
    return list(dict.fromkeys(f"{r.label}: {r['note']}" for r in board.rows if r["note"]))


def _detectable(found: Sequence[Pair], split: str) -> float | None:
    """The smallest difference that half of all pairs would show."""
    known = [pair.detectable for pair in found if pair.split == split and pair.detectable]
    return median(known) if known else None


def _plain_pairs(found: Sequence[Pair]) -> list[Any]:
    """For each two learners [first, second, a list per split]: lists, since there are thousands;
    the verdicts are those of the command line."""
    by_names: dict[tuple[str, str], list[Any]] = {}
    for pair in found:
        d = pair.difference
        numbers = [d.mean, d.low, d.high, pair.wins, pair.detectable]
        rounded = [None if n is None else round(n, 3) + 0.0 for n in numbers]
        verdicts = [pair.verdict(), pair.turned().verdict()] if pair.split == OVERALL else []
        of = by_names.setdefault((pair.first, pair.second), [])
        of.append([pair.split, *rounded, pair.said, *verdicts])
    return [[*names, of] for names, of in by_names.items()]


def _thousandths(of: Curve) -> dict[str, Any]:
    """As fine as a picture shows it."""
    fine = {name: [round(n, 3) for n in getattr(of, name)] for name in ("mean", "low", "high")}
    return {"ends": of.ends, **fine}


def _lean(svg: str) -> str:
    """The picture without what Vega says again of each mark: its font, and that a square is one."""
    font, square = ' font-family="sans-serif"', ' aria-roledescription="rect mark"'
    return svg.replace(font, "").replace(square, "").replace("<svg", f"<svg{font}", 1)
