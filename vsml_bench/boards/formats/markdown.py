"""A board for reading: tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.columns import Column
from vsml_bench.boards.costs import spent
from vsml_bench.boards.families import Family
from vsml_bench.boards.formats.escaping import markdown
from vsml_bench.boards.grids import Grid, grid
from vsml_bench.boards.missing import missing
from vsml_bench.boards.overview import Part, parts, shown
from vsml_bench.boards.statistics import Interval
from vsml_bench.boards.summary import Summary
from vsml_bench.studies import Value

_MEANS = {
    "cumulative_accuracy": "Cumulative accuracy in % over all steps of a lifetime",
    "accuracy": "Accuracy in % over all queries of an episode",
}
_LEGEND = (
    "{}, ± half the 95 % interval; **bold**: no other learner on the split is decidedly better. "
    "Decided: a paired difference at 5 %, by Holm's correction for all pairs of learners on the "
    "split. All splits: the mean over them, by which learners are ordered; a split without a score "
    "counts as 0. Place: by that mean, and the places that no decided difference of two means "
    "excludes. Mean rank: depends on which other learners there are."
)
_BY_RELATION = (
    "By relation: likewise the mean over its splits. Scored: splits with a score, of those that "
    "anyone was run on."
)
_ONE_SEED = "† one meta-train seed: the interval leaves out how results vary between seeds."


def to_markdown(board: Board) -> str:
    """A matrix of learners and splits, best mean over splits first; then each split in detail; then
    what the suite's study adds, notes, what failed or is missing, and stale or damaged records.

    Where there are many splits, the first table has means by relation, and below it are all means:
    of meta-train sides by meta-test sets for each learner, or else of splits by learners."""
    over = parts(board)
    metrics = dict.fromkeys(row["metric"] for row in board.rows)
    means = "; ".join(_MEANS.get(m, f"Mean {m} in %") for m in metrics) or "Accuracy in %"
    first = _overview(board, over) if over else _matrix(board, "mean")
    text = [f"# Leaderboard: {board.suite}", first, _LEGEND.format(means)]
    text += [_BY_RELATION] if over else []
    if any(row["seed_variance"] == "not measured" for row in board.rows):
        text.append(_ONE_SEED)
    text += _detectable("of all splits", board.over_splits)
    lacks = missing(board)
    text += [f"{markdown(each.sentence().capitalize())}." for each in lacks if not each.splits]
    if over:
        text += _all_means(board)
    for name, column in board.columns.items():
        if column.matrix and name != "mean":
            matrix = _by_split(board, name) if over else _matrix(board, name)
            text += [f"## {_title(column)}", matrix]
    for split in board.splits:
        rows = [row for row in _rows(board) if row.group.split == split]
        if any(row.group.finished for row in rows):
            text += [f"## {split} ({rows[0].group.relation})", _details(board, rows)]
            text += _detectable("", board.families[split])
    for section in board.sections:
        lines = [[_shown(value) for value in row] for row in section.rows]
        text += [f"## {section.title}", section.text, table(section.headers, lines)]
    text += _section("Notes", _notes(board.rows))
    text += _section("Failed and missing", [each.sentence() for each in lacks if each.splits])
    text += _section(
        "Stale records, which do not count",
        [f"{s.learner} on {s.split}, seed {s.seed} ({s.key[:8]}): {s.reason}" for s in board.stale],
    )
    text += _section("Damaged records", [f"{p.file}: {p.reason}" for p in board.problems])
    if board.commits:
        commits = ", ".join(f"`{commit[:10]}`" for commit in board.commits)
        text.append(f"Run by the code of {commits}; its speed, by commit: `make asv-pages`.")
    made, tested = (seconds / 3600 for seconds in spent([row.group for row in board.rows]))
    if tested:
        text.append(f"Meta-training and tuning took {made:.1f} hours, meta-testing {tested:.1f}.")
    text.append(f"Board hash: `{board.board_hash}`")
    return "\n\n".join(text) + "\n"


_LEADING = ("learner", "place", "all splits", "mean rank")


def _lead(learner: Summary) -> list[str]:
    """What stands under `_LEADING`."""
    rank = "" if learner.mean_rank is None else f"{learner.mean_rank:.1f}"
    return [learner.label, _place(learner), _over_splits(learner), rank]


def _matrix(board: Board, name: str) -> str:
    """Learners by splits."""
    cells, relations = _cells(board, name), {r.group.split: r.group.relation for r in board.rows}
    lines = [
        [*_lead(of), *(cells.get((of.label, split), "") for split in board.splits)]
        for of in shown(board)
    ]
    return table([*_LEADING, *(f"{s} ({relations[s]})" for s in board.splits)], lines)


def _by_split(board: Board, name: str) -> str:
    """Splits by learners."""
    cells, names = _cells(board, name), [learner.label for learner in shown(board)]
    lines = [[split, *(cells.get((n, split), "") for n in names)] for split in board.splits]
    return table(["split", *names], lines)


def _cells(board: Board, name: str) -> dict[tuple[str, str], str]:
    """(label, split) -> what a matrix shows of a column."""
    column = board.columns[name]
    return {(r.label, r.group.split): _matrix_cell(r, name, column) for r in board.rows}


def _overview(board: Board, over: Sequence[Part]) -> str:
    """Learners by relations."""
    heads = [f"{of.relation} ({len(of.splits)} splits)" for of in over]
    lines = [
        [*_lead(of), f"{of.scored} of {of.splits}", *(_part(of.label, each) for each in over)]
        for of in shown(board)
    ]
    return table([*_LEADING, "scored", *heads], lines)


def _part(label: str, part: Part) -> str:
    if label not in part.family.members:
        return ""
    of = part.family.members[label]
    text = _half(of.mean) + (" †" if of.one_seed else "")
    text += f" ({len(part.splits) - of.lacking} of {len(part.splits)})" if of.lacking else ""
    return f"**{text}**" if part.family.places(label)[0] == 1 else text


def _half(of: Interval) -> str:
    return f"{100 * of.mean:.1f} ± {50 * (of.high - of.low):.1f}"


def _all_means(board: Board) -> list[str]:
    order = [learner.label for learner in shown(board)]
    found = grid(board, order)
    if found is None:
        return ["## Mean (%), split by split", _by_split(board, "mean")]
    text = ["## From each meta-train side to each meta-test set"]
    text.append("Mean in %. Rows: meta-trained on; columns: meta-tested on. Empty: no score yet.")
    for label in order:
        if any(square.learner == label for square in found.squares):
            text += [f"### {markdown(label)}", _grid(found, label)]
    return text


def _grid(found: Grid, label: str) -> str:
    of = {(s.meta_train, s.meta_test): s for s in found.squares if s.learner == label}
    lines = [
        [
            train,
            *(
                f"{100 * of[train, test].accuracy:.1f}" if (train, test) in of else ""
                for test in found.meta_test
            ),
        ]
        for train in found.meta_train
    ]
    return table(["meta-trained on", *found.meta_test], lines)


def _detectable(what: str, family: Family[Any]) -> list[str]:
    if family.detectable is None:
        return []
    of = f"difference {what}".strip()
    return [
        f"Smallest {of} that half of all pairs would show, each by itself, in 80 % of repetitions: "
        f"{100 * family.detectable:.1f} points."
    ]


def _place(learner: Summary) -> str:
    low, high = learner.rank_low, learner.rank_high
    if learner.rank is None:
        return ""
    return f"{learner.rank}" if low == high else f"{learner.rank} ({low} to {high})"


def _over_splits(learner: Summary) -> str:
    if learner.mean is None or learner.mean_low is None or learner.mean_high is None:
        return ""
    text = _half(Interval(learner.mean, learner.mean_low, learner.mean_high))
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
    return table(headers, lines)


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
    return [f"## {title}", "\n".join(f"* {markdown(item)}" for item in items)]


def _rows(board: Board) -> list[Row]:
    """Those of learners that were run."""
    return [row for row in board.rows if row.label not in board.not_run]


def table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of texts, whatever signs they have."""
    from tabulate import tabulate

    table: str = tabulate(
        [[markdown(text) for text in line] for line in lines],
        [markdown(header) for header in headers],
        tablefmt="github",
        disable_numparse=True,
    )
    return table


def _shown(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
