"""What the first table of a board has beside the mean over all splits: each split or, where there
are too many to read, the mean over those of each relation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vsml_bench.boards.board import Board
from vsml_bench.boards.families import Family, Scored
from vsml_bench.boards.summary import Summary, tried

MOST = 8
"""Splits that a first table has one by one."""


@dataclass(frozen=True)
class Part:
    """The splits of one relation, which count alike."""

    relation: str
    splits: tuple[str, ...]
    """Those that anyone was run on."""
    family: Family[str]
    """All pairs of learners that have a score on any of them, by label. A split without a score
    counts as 0."""


def parts(board: Board) -> list[Part]:
    """In planned order; none where the splits are few enough."""
    groups = [row.group for row in board.rows]
    splits = tried(groups)
    if len(splits) <= MOST:
        return []
    relations = {group.split: group.relation for group in groups}
    of: dict[str, list[str]] = {}
    for split in splits:
        of.setdefault(relations[split], []).append(split)
    return [Part(name, tuple(found), _family(board, found)) for name, found in of.items()]


def _family(board: Board, splits: Collection[str]) -> Family[str]:
    return Family(
        {
            label: Scored.of(groups, splits)
            for label, groups in board.by_label.items()
            if any(group.finished and group.split in splits for group in groups)
        }
    )


def shown(board: Board) -> Sequence[Summary]:
    """The learners of tables, best first: all that were run."""
    return [learner for learner in board.learners if learner.label not in board.not_run]
