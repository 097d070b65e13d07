"""One page that holds a whole board: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.columns import Column
from vsml_bench.boards.page import pictures
from vsml_bench.boards.page.curves import Curve, curve
from vsml_bench.boards.page.missing import missing
from vsml_bench.boards.page.origins import origins
from vsml_bench.boards.page.standings import (
    Cost,
    away_splits,
    cost_of,
    home_splits,
    labels,
    standings,
)
from vsml_bench.boards.pairs import OVERALL, Pair, pairs

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("state.js", "table.js", "charts.js", "pairs.js", "cells.js")
_SHOWN_AT_FIRST = 4
"""Curves."""


@dataclass(frozen=True)
class Head:
    """A column of the large table."""

    name: str
    title: str
    numeric: bool


@dataclass(frozen=True)
class Field:
    """What a place in the large table shows, and what it is sorted by."""

    text: str
    value: float | str | None


@dataclass(frozen=True)
class Line:
    """A row of the large table."""

    index: int
    label: str
    split: str
    relation: str
    family: str
    status: str
    fields: tuple[Field, ...]


def to_html(board: Board, published: bool = False) -> str:
    """The page; published: whether the board is one of `results/`."""
    named = labels(board)
    placed = standings(board)
    found = pairs(board)
    curves = [curve(row.group) for row in board.rows]
    heads, lines = _table(board, named)
    splits = list(dict.fromkeys(row.group.split for row in board.rows))
    shown = _first_curves(board, named, curves, [s.label for s in placed])
    specifications = {
        "first": pictures.first_sight(placed) if any(s.away for s in placed) else None,
        "cost": pictures.quality_and_cost(placed),
        "curves": pictures.learning_curves(shown) if shown else None,
    }
    drawn = {name: spec for name, spec in specifications.items() if spec is not None}
    data = {
        "suite": board.suite,
        "hash": board.board_hash,
        "names": board.names("csv"),
        "rows": [{name: row[name] for name in board.names("json")} for row in board.rows],
        "labels": [named[index] for index in range(len(board.rows))],
        "cells": [[asdict(o) for o in origins(row.group, published)] for row in board.rows],
        "curves": [None if c is None else asdict(c) for c in curves],
        "pairs": [_plain_pair(pair) for pair in found],
        "pictures": drawn,
    }
    script = "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f"(function () {{\n'use strict';\n{script}\n}})();"
    scripts = [_library(), script] if drawn else [script]
    return (
        _environment()
        .get_template("board.html")
        .render(
            board=board,
            standings=placed,
            outside=pictures.outside(placed),
            home=home_splits(board),
            away=away_splits(board),
            heads=heads,
            lines=lines,
            splits=splits,
            detectable={s: _detectable(found, s) for s in [OVERALL, *splits]},
            learners=list(dict.fromkeys(named.values())),
            relations=list(dict.fromkeys(row.group.relation for row in board.rows)),
            families=sorted({line.family for line in lines}),
            missing=missing(board),
            notes=_notes(board, named),
            svgs={name: pictures.to_svg(spec) for name, spec in drawn.items()},
            curve_split=_curve_split(board),
            shown_curves=list(shown),
            stream=any(curves),
            style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
            scripts=scripts,
            policy=_policy(scripts),
            data=_as_script(data),
        )
    )


@dataclass(frozen=True)
class Entry:
    """A board in the index of a site."""

    suite: str
    description: str
    learners: int
    splits: int
    best: str
    """The learners of the first tied group, with the accuracy of the best one."""
    board_hash: str


def picture(board: Board) -> str:
    """The first picture of the page as an SVG, as for a README; "" where nothing has a score."""
    placed = standings(board)
    if all(standing.away is None for standing in placed):
        return ""
    return pictures.to_svg(pictures.first_sight(placed))


def entry(board: Board, description: str) -> Entry:
    """What the index says of a board; description: the suite's."""
    placed = [s for s in standings(board) if s.away is not None]
    tied = ", ".join(s.label for s in placed if s.tie == 1)
    mean = placed[0].away.mean if placed and placed[0].away else 0.0
    groups = [row.group for row in board.rows]
    return Entry(
        board.suite,
        description,
        len({of.learner for of in groups}),
        len({of.split for of in groups}),
        f"{tied} ({100 * mean:.1f} %)" if placed else "",
        board.board_hash,
    )


def to_index(entries: Sequence[Entry], speed: bool) -> str:
    """The page that links the pages of boards; speed: whether asv's pages are beside them."""
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    template = _environment().get_template("index.html")
    return template.render(entries=entries, speed=speed, style=style)


def _table(board: Board, named: Mapping[int, str]) -> tuple[list[Head], list[Line]]:
    columns = {
        name: column
        for name, column in board.columns.items()
        if column.details and column.title and name != "learner"
    }
    ordered = sorted(columns.items(), key=lambda item: item[1].details)
    heads = [Head("learner", "learner", False), Head("split", "split", False)]
    heads += [Head("relation", "relation", False), Head("family", "family", False)]
    for name, column in ordered:
        plain = column.unit in ("", "place")
        numeric = any(isinstance(row[name], int | float) for row in board.rows)
        heads.append(
            Head(name, column.title if plain else f"{column.title} ({column.unit})", numeric)
        )
    heads += [Head(name, title, True) for name, title in _COSTS.items()]
    lines = []
    for index, row in enumerate(board.rows):
        of = row.group
        fields = [_field(row, name, column) for name, column in ordered]
        fields += _cost_fields(cost_of([of]))
        family = of.plans[0].job.learner.family or "other"
        words = [Field(text, text) for text in (named[index], of.split, of.relation, family)]
        lines.append(
            Line(
                *(index, named[index], of.split, of.relation, family, str(row["status"])),
                (*words, *fields),
            )
        )
    return heads, lines


_COSTS = {
    "meta_train_seconds": "meta-training or tuning (s)",
    "meta_train_examples": "meta-training examples",
    "seconds_per_1000": "meta-test (s for 1,000 examples)",
    "state_floats": "state (floats)",
    "meta_parameters": "meta-parameters",
}


def _cost_fields(cost: Cost | None) -> list[Field]:
    if cost is None:
        return [Field("", None) for _ in _COSTS]
    values = [getattr(cost, name) for name in _COSTS]
    return [Field(f"{v:,.3g}" if isinstance(v, float) else f"{v:,}", v) for v in values]


def _field(row: Row, name: str, column: Column) -> Field:
    value = row[name]
    if value is None:
        return Field(str(row["status"]) if column.matrix else "", None)
    low, high = (row[bound] for bound in column.bounds) if column.bounds else (None, None)
    if column.unit == "place":
        return Field(f"{value}" if low == high else f"{low} to {high}", value)
    percent = column.unit == "%"
    text = f"{100 * value:.1f}" if percent else _words(value)
    if low is not None and high is not None:
        half = (high - low) / 2
        text += f" ± {100 * half:.1f}" if percent else f" ± {_words(half)}"
        text += " †" if name == "mean" and row["seed_variance"] == "not measured" else ""
    return Field(text, value)


def _words(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _curve_split(board: Board) -> str:
    """Whose curves are shown at first."""
    streams = {row.group.split for row in board.rows if row.group.finished and row.group.stream}
    return next((split for split in away_splits(board) if split in streams), "")


def _first_curves(
    board: Board,
    named: Mapping[int, str],
    curves: Sequence[Curve | None],
    order: Sequence[str],
) -> dict[str, Curve]:
    split = _curve_split(board)
    found = {
        named[index]: of
        for index, of in enumerate(curves)
        if of is not None and board.rows[index].group.split == split
    }
    return {label: found[label] for label in [o for o in order if o in found][:_SHOWN_AT_FIRST]}


def _notes(board: Board, named: Mapping[int, str]) -> list[str]:
    """Each note once per learner."""
    notes = dict.fromkeys(
        f"{named[index]}: {row['note']}" for index, row in enumerate(board.rows) if row["note"]
    )
    return list(notes)


def _detectable(found: Sequence[Pair], split: str) -> float | None:
    """The smallest difference that half of all pairs would show."""
    known = [pair.detectable for pair in found if pair.split == split and pair.detectable]
    return median(known) if known else None


def _plain_pair(pair: Pair) -> list[Any]:
    """As a list, since there are hundreds of them; the verdicts are those of the command line."""
    d = pair.difference
    numbers = [d.mean, d.low, d.high, pair.wins, pair.detectable]
    rounded = [None if n is None else round(n, 6) + 0.0 for n in numbers]
    verdicts = [pair.verdict(), pair.turned().verdict()] if pair.split == OVERALL else []
    return [pair.first, pair.second, pair.split, *rounded, pair.said, *verdicts]


def _as_script(data: Mapping[str, Any]) -> str:
    """JSON that no content of its can end the script element of."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: Sequence[str]) -> str:
    """What the page may do: run its own scripts, and load nothing."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "form-action 'none'; base-uri 'none'"
    )


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
