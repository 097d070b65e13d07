"""The board for people: who wins where, by how much, how sure that is, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from vsml_bench.leaderboard.board import Board, Row
from vsml_bench.leaderboard.sections import Value

_Labels: TypeAlias = dict[tuple[str, str], str]

_MEANS = {
    "cumulative_accuracy": "Cumulative accuracy in % over all steps of a lifetime",
    "accuracy": "Accuracy in % over all queries of an episode",
}
_LEGEND = (
    "{}, ± half the 95 % interval; **bold**: no "
    "other learner on the split is better by a paired difference whose 95 % interval leaves out 0."
)
_ONE_SEED = "† one meta-train seed: the interval leaves out how results vary between seeds."


def to_markdown(board: Board) -> str:
    """A matrix of learners and splits, best mean rank first; then each split in detail; then what
    the suite's study adds, notes, what failed or is missing, and stale or damaged records."""
    labels = _labels(board)
    metrics = dict.fromkeys(row.metric for row in board.rows)
    means = "; ".join(_MEANS[metric] for metric in metrics) or "Accuracy in %"
    parts = [f"# Leaderboard: {board.suite}", _matrix(board, labels), _LEGEND.format(means)]
    if any(row.seed_variance == "not measured" for row in board.rows):
        parts.append(_ONE_SEED)
    for split in _splits(board):
        rows = [row for row in board.rows if row.split == split]
        if any(row.mean is not None for row in rows):
            parts += [f"## {split} ({rows[0].relation})", _details(rows)]
    for section in board.sections:
        lines = [[_shown(value) for value in row] for row in section.rows]
        parts += [f"## {section.title}", section.text, _table(section.headers, lines)]
    parts += _section("Notes", _notes(board.rows))
    parts += _section(
        "Failed and missing",
        [
            f"{labels[row.learner, row.device]} on {row.split}: {row.status}, {row.seeds_ok} of "
            f"{row.seeds_planned} {'seed' if row.seeds_planned == 1 else 'seeds'} ok ({row.reason})"
            for row in board.rows
            if row.status != "ok"
        ],
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


def _matrix(board: Board, labels: _Labels) -> str:
    splits = _splits(board)
    relations = {row.split: row.relation for row in board.rows}
    cells: dict[str, dict[str, str]] = {}
    for row in board.rows:
        cells.setdefault(labels[row.learner, row.device], {})[row.split] = _matrix_cell(row)
    mean_ranks = _mean_ranks(board, labels)
    learners = sorted(cells, key=lambda label: (mean_ranks.get(label, float("inf")), label))
    lines = [
        [
            learner,
            f"{mean_ranks[learner]:.1f}" if learner in mean_ranks else "",
            *(cells[learner].get(split, "") for split in splits),
        ]
        for learner in learners
    ]
    return _table(["learner", "mean rank", *(f"{s} ({relations[s]})" for s in splits)], lines)


def _matrix_cell(row: Row) -> str:
    if row.mean is None or row.ci_low is None or row.ci_high is None:
        return row.status
    text = f"{100 * row.mean:.1f} ± {50 * (row.ci_high - row.ci_low):.1f}"
    text += " †" if row.seed_variance == "not measured" else ""
    return f"**{text}**" if row.rank_low == 1 else text


def _mean_ranks(board: Board, labels: _Labels) -> dict[str, float]:
    """Over the splits that anyone has a score on; a row without one takes its split's last place,
    so that failing never pays."""
    ranks: dict[str, list[int]] = {}
    for split in _splits(board):
        rows = [row for row in board.rows if row.split == split]
        if all(row.rank is None for row in rows):
            continue
        for row in rows:
            ranks.setdefault(labels[row.learner, row.device], []).append(row.rank or len(rows))
    return {label: sum(of) / len(of) for label, of in ranks.items()}


def _details(rows: Sequence[Row]) -> str:
    stream = any(row.early is not None for row in rows)  # few-shot queries have no first and last
    headers = ["rank", "learner", "mean", "95 % interval"]
    headers += ["first 100", "last 100"] if stream else []
    headers += ["gap", "95 % interval of the gap", "seeds"]
    headers += ["lifetimes", "steps"] if stream else ["episodes", "queries"]
    headers += ["device"]
    lines = [
        [
            _rank(row),
            row.learner,
            _percent(row.mean) or row.status,
            _range(row.ci_low, row.ci_high),
            *([_percent(row.early), _percent(row.final)] if stream else []),
            _percent(row.gap),
            _range(row.gap_low, row.gap_high),
            f"{row.seeds_ok} of {row.seeds_planned}",
            "" if row.lifetimes is None else str(row.lifetimes),
            "" if row.steps is None else str(row.steps),
            row.device,
        ]
        for row in rows
    ]
    return _table(headers, lines)


def _notes(rows: Iterable[Row]) -> list[str]:
    """Each note once per learner."""
    notes = dict.fromkeys((row.learner, row.note) for row in rows if row.note)
    return [f"{learner}: {note}" for learner, note in notes]


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"## {title}", "\n".join(f"* {_one_line(item)}" for item in items)]


def _labels(board: Board) -> _Labels:
    """(learner, device) -> the learner, with the device where some split has it on several."""
    devices: dict[tuple[str, str], set[str]] = {}
    for row in board.rows:
        devices.setdefault((row.learner, row.split), set()).add(row.device)
    several = {learner for (learner, _), found in devices.items() if len(found) > 1}
    return {
        (r.learner, r.device): f"{r.learner} ({r.device})" if r.learner in several else r.learner
        for r in board.rows
    }


def _splits(board: Board) -> list[str]:
    return list(dict.fromkeys(row.split for row in board.rows))


def _rank(row: Row) -> str:
    if row.rank_low == row.rank_high:
        return "" if row.rank is None else str(row.rank)
    return f"{row.rank} ({row.rank_low} to {row.rank_high})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_percent(low)} to {_percent(high)}"


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
