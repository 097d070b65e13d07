"""What a board lacks, in words: once for each split and reason."""

from __future__ import annotations

from collections.abc import Iterator

from vsml_bench.boards.board import Board
from vsml_bench.boards.groups import Group
from vsml_bench.boards.page.standings import labels


def missing(board: Board) -> list[str]:
    """One sentence for each split and reason, with the learners that it befell, and which of their
    seeds where it was not all of them."""
    named = labels(board)
    there: dict[str, set[str]] = {}
    befell: dict[tuple[str, str], dict[str, list[int]]] = {}
    planned: dict[tuple[str, str], int] = {}
    for index, row in enumerate(board.rows):
        split, label = row.group.split, named[index]
        there.setdefault(split, set()).add(label)
        planned[split, label] = len(row.group.plans)
        for seed, reason in _reasons(row.group):
            befell.setdefault((split, reason), {}).setdefault(label, []).append(seed)
    sentences = []
    for (split, reason), learners in befell.items():
        names = [
            label
            if len(seeds) == planned[split, label]
            else f"{label}, seed {', '.join(map(str, seeds))}"
            for label, seeds in learners.items()
        ]
        everyone = set(names) == there[split] and len(names) > 1
        sentences.append(f"{split}: {reason} ({'all learners' if everyone else '; '.join(names)})")
    return sentences


def _reasons(group: Group) -> Iterator[tuple[int, str]]:
    """Each seed without a score, and why."""
    cells = {cell.plan.job.seed: cell for cell in group.cells}
    for plan in group.plans:
        cell = cells.get(plan.job.seed)
        if cell is None:
            yield plan.job.seed, "not run"
        elif cell.status != "ok":
            yield plan.job.seed, " ".join(f"{cell.status}: {cell.reason}".split())
