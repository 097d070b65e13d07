"""How far one board is from another, typically one's own from the published one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from vsml_bench.boards.board import Board
from vsml_bench.errors import VsmlBenchError

Place: TypeAlias = tuple[str, str]
"""(split, learner)."""

_NEEDED = ("split", "learner", "status", "mean")


@dataclass(frozen=True)
class NotRun:
    """A row of ours without a score, and why."""

    split: str
    learner: str
    status: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What differs between two boards."""

    suite: str
    same_hash: bool
    compared: int
    """Rows that have a score on both."""
    largest_difference: float | None
    """Largest absolute difference of two means, both in [0, 1]; None where nothing compares."""
    largest_at: Place | None
    only_in_ours: tuple[Place, ...]
    """Rows with a score that the published board does not have."""
    only_in_published: tuple[Place, ...]
    """Rows with a score there that we do not list at all."""
    not_run: tuple[NotRun, ...]


def compare_boards(ours: Board | Mapping[str, Any], published: Mapping[str, Any]) -> Comparison:
    """Compares means row by row.

    Both as `to_json` writes them, ours also as a Board. Where a learner has rows on several
    devices, the row of the same device is compared, or else the first. Raises VsmlBenchError for
    something that is no board and for boards of different suites.
    """
    mine = ours.document() if isinstance(ours, Board) else ours
    own, theirs = _by_place(mine, "our board"), _by_place(published, "the published board")
    if mine.get("suite") != published.get("suite"):
        raise VsmlBenchError(
            f"a board of suite '{mine.get('suite')}' cannot be compared with one of "
            f"'{published.get('suite')}'; choose the board of the same suite."
        )
    differences: dict[Place, float] = {}
    not_run = []
    for place, rows in own.items():
        scored = _scored(rows)
        if not scored:
            reason = str(rows[0].get("reason", ""))
            not_run.append(NotRun(*place, str(rows[0]["status"]), reason))
        for row in scored:
            other = _counterpart(row, _scored(theirs.get(place, [])))
            if other is not None:
                difference = abs(row["mean"] - other["mean"])
                differences[place] = max(difference, differences.get(place, 0.0))
    largest = max(differences, key=lambda place: differences[place]) if differences else None
    return Comparison(
        suite=str(mine["suite"]),
        same_hash=mine.get("board_hash") == published.get("board_hash"),
        compared=len(differences),
        largest_difference=None if largest is None else differences[largest],
        largest_at=largest,
        only_in_ours=tuple(p for p in own if _scored(own[p]) and p not in differences),
        only_in_published=tuple(p for p in theirs if _scored(theirs[p]) and p not in own),
        not_run=tuple(not_run),
    )


def describe(comparison: Comparison) -> str:
    """The comparison in a few lines of text."""
    lines = [f"Compared with the published board of '{comparison.suite}':"]
    if comparison.same_hash:
        lines.append("  the same scores throughout (equal board hashes)")
    elif comparison.largest_difference is None or comparison.largest_at is None:
        lines.append("  no row has a score on both boards")
    elif comparison.largest_difference == 0:
        lines.append(f"  equal means in all {comparison.compared} rows that both have")
    else:
        split, learner = comparison.largest_at
        lines.append(
            f"  largest difference of {comparison.compared} rows: "
            f"{100 * comparison.largest_difference:.3g} percentage points ({learner} on {split})"
        )
    lines += [f"  not run: {_at(n.split, n.learner)}: {_why(n)}" for n in comparison.not_run]
    lines += [f"  only here: {_at(*place)}" for place in comparison.only_in_ours]
    lines += [f"  only published: {_at(*place)}" for place in comparison.only_in_published]
    return "\n".join(lines)


def _by_place(board: Mapping[str, Any], where: str) -> dict[Place, list[Mapping[str, Any]]]:
    rows = board.get("rows") if isinstance(board, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        raise VsmlBenchError(f"{where} has no list of rows; give a board.json as written here.")
    places: dict[Place, list[Mapping[str, Any]]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or any(key not in row for key in _NEEDED):
            raise VsmlBenchError(
                f"{where}: row {index} lacks one of {', '.join(_NEEDED)}; give a board.json as "
                "written here."
            )
        mean = row["mean"]
        if mean is not None and (type(mean) not in (int, float) or not 0 <= mean <= 1):
            raise VsmlBenchError(
                f"{where}: row {index} has the mean {mean!r}; expected a number in [0, 1] or null."
            )
        places.setdefault((str(row["split"]), str(row["learner"])), []).append(row)
    return places


def _scored(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["mean"] is not None]


def _counterpart(
    row: Mapping[str, Any], others: list[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    same = [other for other in others if other.get("device") == row.get("device")]
    return next(iter(same or others), None)


def _at(split: str, learner: str) -> str:
    return f"{learner} on {split}"


def _why(row: NotRun) -> str:
    reason = " ".join(row.reason.split())
    return reason if reason.startswith(row.status) else f"{row.status} ({reason})"
