"""How far one board is from another, typically one's own from the published one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vsml_bench.boards.formats.escaping import markdown
from vsml_bench.boards.formats.markdown import table
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
class Change:
    """A row that has a score on both boards; means in [0, 1]."""

    split: str
    learner: str
    ours: float
    theirs: float
    apart: bool
    """Whether the two 95 % intervals have nothing in common. A board keeps no outcomes, so this is
    not paired, and misses much."""

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.theirs


@dataclass(frozen=True)
class Comparison:
    """What differs between two boards."""

    suite: str
    same_hash: bool
    changes: tuple[Change, ...]
    """Rows that have a score on both, equal ones too."""
    only_in_ours: tuple[Place, ...]
    """Rows with a score that the published board does not have."""
    only_in_published: tuple[Place, ...]
    """Rows with a score there that we do not list at all."""
    not_run: tuple[NotRun, ...]
    lost: tuple[Place, ...]
    """Those of them that have a score on the published board."""

    @property
    def compared(self) -> int:
        """Rows that have a score on both."""
        return len(self.changes)

    @property
    def largest(self) -> Change | None:
        """The one whose means differ most; None where nothing compares."""
        return max(self.changes, key=lambda change: abs(change.difference), default=None)

    @property
    def worse(self) -> bool:
        """Whether a row of ours is apart from theirs and lower, or has lost its score."""
        return bool(self.lost) or any(of.apart and of.difference < 0 for of in self.changes)

    @property
    def better(self) -> bool:
        """Whether none is worse, and one is apart and higher."""
        return not self.worse and any(of.apart and of.difference > 0 for of in self.changes)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "verdict": found(self),
            "better": self.better,
            "worse": self.worse,
            **asdict(self),
        }

    def markdown(self) -> str:
        """For reading: the rows whose means differ, those that differ most first."""
        parts = [f"# Two boards of {markdown(self.suite)}", f"**{markdown(found(self))}**"]
        changed = [of for of in self.changes if of.difference != 0]
        lines = [
            [
                *(of.split, of.learner),
                *(f"{100 * number:.2f}" for number in (of.ours, of.theirs, of.difference)),
                "apart" if of.apart else "overlap",
            ]
            for of in sorted(changed, key=lambda of: -abs(of.difference))
        ]
        heads = ["split", "learner", "first (%)", "second (%)", "difference (points)", "intervals"]
        parts += [table(heads, lines)] if lines else []
        for title, places in (
            ("Only on the first", self.only_in_ours),
            ("Only on the second", self.only_in_published),
        ):
            items = "\n".join(f"* {markdown(_at(*place))}" for place in places)
            parts += [f"## {title}", items] if items else []
        return "\n\n".join(parts) + "\n"


def compare_boards(ours: Mapping[str, Any], published: Mapping[str, Any]) -> Comparison:
    """Compares means row by row, of two boards as `Board.document` has them.

    Where a learner has several rows, the one of the same device is compared, or else of the same
    kind of device, or else the first. Raises VsmlBenchError for something that is no board and for
    boards of different suites.
    """
    own = _by_place(ours, "our board")
    theirs = _by_place(published, "the published board")
    if ours.get("suite") != published.get("suite"):
        raise VsmlBenchError(
            f"a board of suite '{ours.get('suite')}' cannot be compared with one of "
            f"'{published.get('suite')}'; choose the board of the same suite."
        )
    changes: dict[Place, Change] = {}
    not_run = []
    for place, rows in own.items():
        scored = _scored(rows)
        if not scored:
            reason = str(rows[0].get("reason", ""))
            not_run.append(NotRun(*place, str(rows[0]["status"]), reason))
        for row in scored:
            other = _counterpart(row, _scored(theirs.get(place, [])))
            if other is not None:
                found = Change(*place, row["mean"], other["mean"], _apart(row, other))
                known = changes.setdefault(place, found)
                changes[place] = max(known, found, key=lambda change: abs(change.difference))
    return Comparison(
        suite=str(ours.get("suite")),
        same_hash=ours.get("board_hash") == published.get("board_hash"),
        changes=tuple(changes.values()),
        only_in_ours=tuple(p for p in own if _scored(own[p]) and p not in changes),
        only_in_published=tuple(p for p in theirs if _scored(theirs[p]) and p not in own),
        not_run=tuple(not_run),
        lost=tuple(p for p in own if not _scored(own[p]) and _scored(theirs.get(p, []))),
    )


def read_board(path: Path, where: str) -> Mapping[str, Any]:
    """A board.json; VsmlBenchError where it cannot be read."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VsmlBenchError(
            f"{where} cannot be read as a board ({error.__class__.__name__}); give the path of a "
            "board.json."
        ) from error
    return found


def describe(comparison: Comparison) -> str:
    """The comparison in a few lines of text."""
    lines = [f"Compared with the published board of '{comparison.suite}':"]
    lines.append(f"  {found(comparison)}")
    alike: dict[tuple[str, str], list[str]] = {}
    for lack in comparison.not_run:
        alike.setdefault((lack.split, _why(lack)), []).append(lack.learner)
    lines += [f"  not run: {_at(s, ', '.join(names))}: {why}" for (s, why), names in alike.items()]
    lines += [f"  only here: {_at(*place)}" for place in comparison.only_in_ours]
    lines += [f"  only published: {_at(*place)}" for place in comparison.only_in_published]
    return "\n".join(lines)


def found(comparison: Comparison) -> str:
    """The comparison in a few words."""
    largest = comparison.largest
    if comparison.same_hash:
        return "the same scores throughout (equal board hashes)"
    if largest is None:
        return "no row has a score on both boards"
    if largest.difference == 0:
        return f"equal means in all {comparison.compared} rows that both have"
    return (
        f"largest difference of {comparison.compared} rows: "
        f"{100 * abs(largest.difference):.3g} percentage points "
        f"({_at(largest.split, largest.learner)})"
    )


def _by_place(board: Mapping[str, Any], where: str) -> dict[Place, list[Mapping[str, Any]]]:
    rows = board.get("rows") if isinstance(board, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        raise VsmlBenchError(f"{where} has no list of rows; give a board.json as written here.")
    found: dict[Place, list[Mapping[str, Any]]] = {}
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
        found.setdefault((str(row["split"]), str(row["learner"])), []).append(row)
    return found


def _scored(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["mean"] is not None]


def _counterpart(
    row: Mapping[str, Any], others: list[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    by_device, by_kind = (
        [other for other in others if other.get(name) == row.get(name)]
        for name in ("device", "kind")
    )
    return next(iter(by_device or by_kind or others), None)


def _apart(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    ends = [of.get(name) for of in (row, other) for name in ("ci_low", "ci_high")]
    if not all(isinstance(end, int | float) for end in ends):
        return False
    low, high, other_low, other_high = (float(end or 0) for end in ends)
    return low > other_high or high < other_low


def _at(split: str, learner: str) -> str:
    return f"{learner} on {split}"


def _why(row: NotRun) -> str:
    reason = " ".join(row.reason.split())
    return reason if reason.startswith(row.status) else f"{row.status} ({reason})"
