"""The forms that a board is written in: each is one function from the board to text.

Other packages bring forms by entry points of the group `vsml_bench.formats`: the point's name is
the form's, its value "package.module:NAME" of a `Format`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.columns import Column
from vsml_bench.boards.page.page import to_html
from vsml_bench.boards.summary import Summary, labels
from vsml_bench.boards.terminal import to_terminal
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.plugins import with_installed
from vsml_bench.studies import Value

if TYPE_CHECKING:
    import pandas as pd

ENTRY_POINT_GROUP = "vsml_bench.formats"

_Labels: TypeAlias = dict[tuple[str, str], str]

_MEANS = {
    "cumulative_accuracy": "Cumulative accuracy in % over all steps of a lifetime",
    "accuracy": "Accuracy in % over all queries of an episode",
}
_LEGEND = (
    "{}, ± half the 95 % interval; **bold**: no "
    "other learner on the split is better by a paired difference whose 95 % interval leaves out 0. "
    "All splits: the mean over them, by which learners are ordered; a split without a score counts "
    "as 0. Place: by that mean, and the places that no decided difference of two means excludes. "
    "Mean rank: depends on which other learners there are."
)
_ONE_SEED = "† one meta-train seed: the interval leaves out how results vary between seeds."


@dataclass(frozen=True)
class Format:
    """A form that a board is written in."""

    text: Callable[[Board], str]
    ending: str
    """Of its file, `board.ENDING`; "" where it is for the eye alone and never kept."""
    printed: bool = True
    """Whether it is for reading on a terminal or in a pipe; else the command line writes the file
    and says where it is."""


def to_frame(board: Board) -> pd.DataFrame:
    """One line per row of the board, with the columns that CSV has."""
    import pandas as pd

    names = board.names("csv")
    return pd.DataFrame([[row[name] for name in names] for row in board.rows], columns=names)


def to_json(board: Board) -> str:
    """`Board.document`, null where there is no number."""
    return json.dumps(board.document(), indent=1, allow_nan=False) + "\n"


def to_csv(board: Board) -> str:
    """`to_frame` as CSV with a header line; an empty field where there is no number."""
    return to_frame(board).to_csv(index=False, lineterminator="\n")


def to_markdown(board: Board) -> str:
    """A matrix of learners and splits, best mean over splits first; then each split in detail; then
    what the suite's study adds, notes, what failed or is missing, and stale or damaged records."""
    named = labels([row.group for row in board.rows])
    metrics = dict.fromkeys(row["metric"] for row in board.rows)
    means = "; ".join(_MEANS.get(m, f"Mean {m} in %") for m in metrics) or "Accuracy in %"
    parts = [f"# Leaderboard: {board.suite}", _matrix(board, "mean", named), _LEGEND.format(means)]
    if any(row["seed_variance"] == "not measured" for row in board.rows):
        parts.append(_ONE_SEED)
    for name, column in board.columns.items():
        if column.matrix and name != "mean":
            parts += [f"## {_title(column)}", _matrix(board, name, named)]
    for split in _splits(board):
        rows = [row for row in board.rows if row.group.split == split]
        if any(row.group.finished for row in rows):
            parts += [f"## {split} ({rows[0].group.relation})", _details(board, rows)]
    for section in board.sections:
        lines = [[_shown(value) for value in row] for row in section.rows]
        parts += [f"## {section.title}", section.text, _table(section.headers, lines)]
    parts += _section("Notes", _notes(board.rows))
    parts += _section(
        "Failed and missing", [_failure(row, named) for row in board.rows if row["status"] != "ok"]
    )
    parts += _section(
        "Stale records, which do not count",
        [f"{s.learner} on {s.split}, seed {s.seed} ({s.key[:8]}): {s.reason}" for s in board.stale],
    )
    parts += _section("Damaged records", [f"{p.file}: {p.reason}" for p in board.problems])
    if board.commits:
        commits = ", ".join(f"`{commit[:10]}`" for commit in board.commits)
        parts.append(f"Run by the code of {commits}; its speed, by commit: `make asv-pages`.")
    parts.append(f"Board hash: `{board.board_hash}`")
    return "\n\n".join(parts) + "\n"


def _matrix(board: Board, name: str, named: _Labels) -> str:
    splits = _splits(board)
    relations = {row.group.split: row.group.relation for row in board.rows}
    cells: dict[str, dict[str, str]] = {}
    for row in board.rows:
        text = _matrix_cell(row, name, board.columns[name])
        cells.setdefault(_label(row, named), {})[row.group.split] = text
    lines = [
        [
            learner.label,
            _place(learner),
            _over_splits(learner),
            "" if learner.mean_rank is None else f"{learner.mean_rank:.1f}",
            *(cells[learner.label].get(split, "") for split in splits),
        ]
        for learner in board.learners
    ]
    heads = (
        "learner",
        "place",
        "all splits",
        "mean rank",
        *(f"{s} ({relations[s]})" for s in splits),
    )
    return _table(heads, lines)


def _place(learner: Summary) -> str:
    low, high = learner.rank_low, learner.rank_high
    if learner.rank is None:
        return ""
    return f"{learner.rank}" if low == high else f"{learner.rank} ({low} to {high})"


def _over_splits(learner: Summary) -> str:
    if learner.mean is None or learner.mean_low is None or learner.mean_high is None:
        return ""
    text = f"{100 * learner.mean:.1f} ± {50 * (learner.mean_high - learner.mean_low):.1f}"
    scored, splits = learner.scored, learner.splits
    return text if scored == splits else f"{text} ({scored} of {splits} splits)"


def _matrix_cell(row: Row, name: str, column: Column) -> str:
    if row[name] is None:
        return str(row["status"])
    text = _number(row[name], column)
    if column.bounds is not None:
        low, high = (row[bound] for bound in column.bounds)
        text += f" ± {_number((high - low) / 2, column)}"
        text += " †" if row["seed_variance"] == "not measured" else ""
        text += f" ({_seeds(row)})" if row["status"] == "partial" else ""
    return f"**{text}**" if name == "mean" and row["rank_low"] == 1 else text


def _details(board: Board, rows: Sequence[Row]) -> str:
    """The columns that have a place there and a value in some row, the interval of each beside
    it."""
    stream = any(row.group.stream for row in rows)
    headers: list[str] = []
    lines: list[list[str]] = [[] for _ in rows]
    shown = [(name, column) for name, column in board.columns.items() if column.details]
    for name, column in sorted(shown, key=lambda item: item[1].details):
        title = column.title if stream else column.title_of_episodes
        title = column.title if title is None else title
        if not title or all(row[name] is None for row in rows):
            continue
        beside = column.bounds is not None and column.unit != "place"
        headers.append(title if column.unit in ("", "%", "place") else f"{title} ({column.unit})")
        headers += [column.bounds_title or f"95 % interval of the {title}"] if beside else []
        for line, row in zip(lines, rows, strict=True):
            line += _texts(row, name, column)
    return _table(headers, lines)


def _texts(row: Row, name: str, column: Column) -> list[str]:
    """A number, and its interval where it has a column of its own."""
    text = _number(row[name], column)
    if column.matrix and row[name] is None:
        text = str(row["status"])
    if column.bounds is None:
        return [text]
    low, high = (row[bound] for bound in column.bounds)
    between = "" if low is None else f"{_number(low, column)} to {_number(high, column)}"
    if column.unit == "place":
        return [text if low == high else f"{text} ({between})"]
    return [text, between]


def _number(value: Value, column: Column) -> str:
    if value is not None and column.unit == "%":
        return f"{100 * float(value):.1f}"
    return _shown(value)


def _title(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _failure(row: Row, named: _Labels) -> str:
    return (
        f"{_label(row, named)} on {row.group.split}: {row['status']}, {_seeds(row)} ok "
        f"({row['reason']})"
    )


def _seeds(row: Row) -> str:
    ok, planned = row["seeds_ok"], row["seeds_planned"]
    return f"{ok} of {planned} {'seed' if planned == 1 else 'seeds'}"


def _notes(rows: Iterable[Row]) -> list[str]:
    """Each note once per learner."""
    notes = dict.fromkeys((row.group.learner, row["note"]) for row in rows if row["note"])
    return [f"{learner}: {note}" for learner, note in notes]


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"## {title}", "\n".join(f"* {_one_line(item)}" for item in items)]


def _label(row: Row, named: _Labels) -> str:
    return named[row.group.learner, row.group.kind]


def _splits(board: Board) -> list[str]:
    return list(dict.fromkeys(row.group.split for row in board.rows))


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    table: str = tabulate(
        [[_one_line(text) for text in line] for line in lines],
        [_one_line(header) for header in headers],
        tablefmt="github",
        disable_numparse=True,
    )
    return table


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    """Safe in a table and in a list: error texts have several lines, learners' names any sign."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


FORMATS: Mapping[str, Format] = {
    "terminal": Format(to_terminal, ""),
    "markdown": Format(to_markdown, "md"),
    "csv": Format(to_csv, "csv"),
    "json": Format(to_json, "json"),
    "html": Format(to_html, "html", printed=False),
}
"""Name, as the command line knows it -> format."""


def formats() -> dict[str, Format]:
    """All formats by name: the shipped ones, then those of other packages.

    Raises VsmlBenchError where two have the same name.
    """
    return with_installed(FORMATS, ENTRY_POINT_GROUP, "format", Format)


def find_format(name: str) -> Format:
    """The format of that name; VsmlBenchError naming the closest where there is none."""
    known = formats()
    if name not in known:
        raise VsmlBenchError(f"unknown format '{name}'; {closest(name, known)}")
    return known[name]
