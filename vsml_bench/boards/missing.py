"""What a board lacks, or has from elsewhere, in words: once for each split and reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vsml_bench.boards.board import Board
from vsml_bench.boards.groups import Group
from vsml_bench.evaluation.cell import path_of


@dataclass(frozen=True)
class Lack:
    """Scores that are missing for one reason."""

    splits: tuple[str, ...]
    """Splits where it befell the same learners; () for all."""
    reason: str
    learners: tuple[str, ...]
    """Labels, each with the seeds where it was not all of them."""

    def sentence(self, most: int | None = None) -> str:
        """most: names of splits and of learners that are told, each."""
        if not self.splits:
            return f"{self.reason}: {_first(self.learners, ', ', most)}"
        learners = f" ({_first(self.learners, '; ', most)})" if self.learners else ""
        return f"{_first(self.splits, ', ', most)}: {self.reason}{learners}"


def missing(board: Board) -> list[Lack]:
    """Learners that were not run at all come first, then splits that nobody was run on, and then
    what else has no score; learners and splits of which that was said are not told of again."""
    there: dict[str, set[str]] = {}
    befell: dict[tuple[str, str], dict[str, list[int]]] = {}
    planned: dict[tuple[str, str], int] = {}
    tried = {row.group.split for row in board.rows if row.group.cells}
    for row in board.rows:
        split, label = row.group.split, row.label
        if label in board.not_run or split not in tried:
            continue
        there.setdefault(split, set()).add(label)
        planned[split, label] = len(row.group.plans)
        for seed, reason in _reasons(row.group, board.borrowed):
            befell.setdefault((split, reason), {}).setdefault(label, []).append(seed)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (split, reason), learners in befell.items():
        names = tuple(
            label
            if len(seeds) == planned[split, label]
            else f"{label}, seed {', '.join(map(str, seeds))}"
            for label, seeds in sorted(learners.items())
        )
        if len(names) > 1 and set(names) == there[split]:
            names = ("all that were run" if board.not_run else "all learners",)
        alike.setdefault((reason, names), []).append(split)
    found = [Lack((), "not run yet", board.not_run)] if board.not_run else []
    untried = tuple(split for split in board.splits if split not in tried)
    if untried and tried:
        found.append(Lack(untried, "not run yet", ()))
    return found + [Lack(tuple(of), reason, names) for (reason, names), of in alike.items()]


def _first(names: tuple[str, ...], between: str, most: int | None) -> str:
    left = 0 if most is None else len(names) - most
    more = f" and {left} more" if left > 0 else ""
    return between.join(names[:most]) + more


def _reasons(group: Group, borrowed: Collection[str]) -> Iterator[tuple[int, str]]:
    """Each seed without a score of one's own, and why."""
    cells = {cell.plan.job.seed: cell for cell in group.cells}
    for plan in group.plans:
        cell = cells.get(plan.job.seed)
        if cell is None:
            yield plan.job.seed, "not run"
        elif cell.status != "ok":
            yield plan.job.seed, " ".join(f"{cell.status}: {cell.reason}".split())
        elif path_of(Path(), cell).name in borrowed:
            yield plan.job.seed, "published scores, not your own"
