"""The large table: a row for each split and learner, with every column that tables show and what
each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsml_bench.boards.badges import weakest
from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.columns import Column
from vsml_bench.boards.costs import AXES, Cost, cost_of
from vsml_bench.boards.page.origins import badges_of
from vsml_bench.boards.page.second_hand import second_hand


@dataclass(frozen=True)
class Head:
    """A column of the large table."""

    name: str
    title: str
    numeric: bool


@dataclass(frozen=True)
class Field:
    """What a place in the large table shows. Numbers are sorted as they are shown, where the page
    does not hold them."""

    text: str
    numeric: bool = False


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


def large_table(board: Board) -> tuple[list[Head], list[Line]]:
    """Its columns and rows, without learners that were not run at all and splits that nobody was
    run on."""
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
    theirs = [second_hand().beside(row.group) for row in board.rows]
    if any(theirs):
        heads.append(Head("second_hand", "second-hand, example 100 (%)", True))
    more = [name for name in AXES if name not in columns]
    heads += [Head(name, AXES[name].title, True) for name in more]
    heads.append(Head("badge", "badge", False))
    tried = {row.group.split for row in board.rows if row.group.cells}
    lines = []
    for index, row in enumerate(board.rows):
        of = row.group
        if row.label in board.not_run or of.split not in tried:
            continue
        fields = [_field(row, name, column) for name, column in ordered]
        if any(theirs):
            known = theirs[index]
            fields.append(Field("" if known is None else f"{100 * known:.1f}", known is not None))
        fields += _cost_fields(cost_of([of]), more)
        fields.append(Field(weakest(badges_of(of, board.badges))))
        family = of.plans[0].job.learner.family or "other"
        words = [Field(text) for text in (row.label, of.split, of.relation, family)]
        lines.append(
            Line(
                *(index, row.label, of.split, of.relation, family, str(row["status"])),
                (*words, *fields),
            )
        )
    return heads, lines


def _cost_fields(cost: Cost | None, names: Sequence[str]) -> list[Field]:
    if cost is None:
        return [Field("") for _ in names]
    return [Field(f"{getattr(cost, name):,}", True) for name in names]


def _field(row: Row, name: str, column: Column) -> Field:
    value = row[name]
    if value is None:
        return Field(str(row["status"]) if column.matrix else "")
    low, high = (row[bound] for bound in column.bounds) if column.bounds else (None, None)
    if column.unit == "place":
        return Field(f"{value}" if low == high else f"{low} to {high}", True)
    percent = column.unit == "%"
    text = f"{100 * value:.1f}" if percent else _words(value)
    if low is not None and high is not None:
        half = (high - low) / 2
        text += f" ± {100 * half:.1f}" if percent else f" ± {_words(half)}"
        text += " †" if name == "mean" and row["seed_variance"] == "not measured" else ""
    return Field(text, not isinstance(value, str))


def _words(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
