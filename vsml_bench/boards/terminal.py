"""The board for a terminal: tables that fit its width, with the splits block by block."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from vsml_bench.boards.blocks import Field, blocks
from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.columns import Column
from vsml_bench.boards.groups import REPLACED
from vsml_bench.boards.missing import missing
from vsml_bench.boards.overview import Part, parts, shown
from vsml_bench.boards.summary import Summary
from vsml_bench.boards.texts import plain
from vsml_bench.studies import Section

WIDTH = 100
"""Where standard output is no terminal."""
NARROWEST = 40
_LONGEST_SECTION = 24
"""Rows of a study's table; of longer ones only the title is told."""
_NAMED = 3
"""Splits and learners, each, that a reason for no score is told of."""
_MEANS = {
    "cumulative_accuracy": "Cumulative accuracy in % over a lifetime",
    "accuracy": "Accuracy in % over the queries of an episode",
}
_LEGEND = (
    "{} ± half the 95 % interval. * no other learner on the split is decidedly better. All splits: "
    "the mean over them; one without a score counts as 0. Place: the places that no decided "
    "difference of these means excludes. Empty lines part groups: in each, nobody is decidedly "
    "worse than its first."
)
_BOLD = re.compile(r"\*\*(.*)\*\*")
"""What sections have in bold."""
_MARKS = {
    "†": "† one meta-train seed: the interval leaves out how results vary between seeds.",
    "‡": "‡ fewer meta-train seeds than planned.",
}


def to_terminal(board: Board) -> str:
    """`draw` for the terminal that standard output is, or else `WIDTH` wide and plain."""
    lively = sys.stdout is not None and sys.stdout.isatty()
    return draw(board, shutil.get_terminal_size().columns if lively else WIDTH, lively)


def draw(board: Board, width: int, colour: bool = False) -> str:
    """The board in lines of at most `width` cells, which is taken for `NARROWEST` where it is less.

    colour: whether the terminal may be told to write bold and faint.
    """
    from rich.console import Console
    from rich.text import Text

    width = max(width, NARROWEST)
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="auto" if colour else None,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(Text(f"Leaderboard: {plain(board.suite)}", style="bold"))
        for name, column in board.columns.items():
            if column.matrix and board.rows:
                if name != "mean":
                    console.print(Text(f"\n{plain(column.title)}", style="bold"))
                for block in blocks(*_matrix(board, name, column), width):
                    console.print()
                    console.print(block)
        for section in board.sections:
            console.print(Text(f"\n{plain(section.title)}", style="bold"))
            if len(section.rows) > _LONGEST_SECTION:
                console.print(Text(f"{len(section.rows)} rows: --format markdown shows them."))
                continue
            for block in blocks(*_section(section), width):
                console.print()
                console.print(block)
            text = plain(section.text).replace("**Bold**", "*")
            console.print(Text(f"\n{text}", style="dim"))
        for text in _words(board):
            console.print(Text(f"\n{text}", style="dim"))
    lines = captured.get().splitlines()
    return "\n".join(line if colour else line.rstrip() for line in lines)


def _matrix(board: Board, name: str, column: Column) -> tuple[list[Field], list[Field], set[int]]:
    """The column of learners, those beside it, and the rows that groups of learners end with."""
    relations = {row.group.split: row.group.relation for row in board.rows}
    rows: dict[str, dict[str, Row]] = {split: {} for split in relations}
    for row in board.rows:
        rows[row.group.split][row.label] = row
    order = shown(board)
    beside = [
        Field(tuple(_place(learner) for learner in order), "place"),
        Field(tuple(_over_splits(learner) for learner in order), "all splits"),
    ]
    prefix = f"{board.suite}/"
    prefix = prefix if all(split.startswith(prefix) for split in relations) else ""
    splits = [_part(of, order) for of in parts(board)] if name == "mean" else []
    for split, of in rows.items() if not splits else ():
        there = [of.get(learner.label) for learner in order]
        splits.append(
            Field(
                tuple("" if row is None else _cell(row, name, column) for row in there),
                split.removeprefix(prefix),
                relations[split].replace("_", " "),
                frozenset(i for i, row in enumerate(there) if row and _is_best(row, name)),
            )
        )
    ends = {i for i, (one, two) in enumerate(pairwise(order)) if two.tie != one.tie}
    lead = Field(tuple(learner.label for learner in order), "learner")
    return [lead], [*(beside if name == "mean" else ()), *splits], ends


def _part(part: Part, order: Sequence[Summary]) -> Field:
    """The means over the splits of a relation."""
    of = part.family
    best = {i for i, s in enumerate(order) if s.label in of.members and of.places(s.label)[0] == 1}
    texts = []
    for index, summary in enumerate(order):
        text = ""
        if summary.label in of.members:
            mean = of.members[summary.label].mean
            text = f"{100 * mean.mean:.1f} ± {50 * (mean.high - mean.low):.1f}"
            text += "*" if index in best else ""
            text += "†" if of.members[summary.label].one_seed else ""
        texts.append(text)
    head = part.relation.replace("_", " ")
    return Field(tuple(texts), head, f"{len(part.splits)} splits", frozenset(best))


def _section(section: Section) -> tuple[list[Field], list[Field], set[int]]:
    """Its columns; the first ones, as many as tell rows apart, stand in each block."""
    columns = []
    for index, head in enumerate(section.headers):
        texts = [_value(row[index]) for row in section.rows]
        bold = {i: match[1] for i, text in enumerate(texts) if (match := _BOLD.fullmatch(text))}
        cells = tuple(f"{bold[i]}*" if i in bold else text for i, text in enumerate(texts))
        columns.append(Field(cells, head, bold=frozenset(bold)))
    count = next(
        (
            count
            for count in range(1, len(columns))
            if len({row[:count] for row in section.rows}) == len(section.rows)
        ),
        1,
    )
    return columns[:count], columns[count:], set()


def _cell(row: Row, name: str, column: Column) -> str:
    value = row[name]
    if value is None:
        return str(row["status"])
    scale = 100 if column.unit == "%" else 1
    text = f"{scale * value:.1f}" if isinstance(value, float) else _value(value)
    if column.bounds is not None:
        low, high = (row[bound] for bound in column.bounds)
        text += f" ± {scale * (high - low) / 2:.1f}"
        text += "*" if _is_best(row, name) else ""
        text += "†" if row["seed_variance"] == "not measured" else ""
        text += "‡" if row["status"] == "partial" else ""
    return text


def _is_best(row: Row, name: str) -> bool:
    return name == "mean" and row["rank_low"] == 1


def _place(learner: Summary) -> str:
    low, high = learner.rank_low, learner.rank_high
    return "" if low is None else f"{low}" if low == high else f"{low} to {high}"


def _over_splits(learner: Summary) -> str:
    if learner.mean is None or learner.mean_low is None or learner.mean_high is None:
        return ""
    text = f"{100 * learner.mean:.1f} ± {50 * (learner.mean_high - learner.mean_low):.1f}"
    scored, splits = learner.scored, learner.splits
    return text if scored == splits else f"{text} ({scored} of {splits})"


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _words(board: Board) -> Iterator[str]:
    """What stands below the tables, a paragraph each."""
    metrics = dict.fromkeys(row["metric"] for row in board.rows)
    means = "; ".join(_MEANS.get(m, f"Mean {m} in %") for m in metrics) or "Accuracy in %"
    yield _LEGEND.format(plain(means))
    if any(row["seed_variance"] == "not measured" for row in board.rows):
        yield _MARKS["†"]
    if any(row["status"] == "partial" for row in board.rows):
        yield _MARKS["‡"]
    if parts(board):
        yield "By relation: the mean over its splits likewise. --format markdown shows each split."
    notes = dict.fromkeys((row.label, row["note"]) for row in board.rows if row["note"])
    yield from (plain(f"{label}: {note}") for label, note in notes)
    yield from (plain(lack.sentence(_NAMED if lack.splits else None)) for lack in missing(board))
    replaced = sum(stale.reason == REPLACED for stale in board.stale)
    for what, count in (
        ("stale", len(board.stale) - replaced),
        ("replaced", replaced),
        ("damaged", len(board.problems)),
    ):
        if count:
            yield f"{count} {what} record{'s' * (count > 1)}, listed by --format markdown."
    yield f"Board hash: {board.board_hash}"
