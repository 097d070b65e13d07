"""Which splits of a board have tasks like those of meta-training, and which have data that
meta-training has never seen."""

from __future__ import annotations

from collections.abc import Sequence

from vsml_bench.boards.board import Board

HOME = ("same_tasks", "unseen_tasks")
"""Relations of splits whose tasks are like those of meta-training, the first that a board has."""
AWAY = (
    ("unseen_dataset", "unseen_shape", "unseen_modality"),
    ("unseen_classes",),
    ("unseen_tasks",),
)
"""Relations of splits with data that meta-training has never seen, strongest first; of a board,
those of the first line that it has count."""


def home_splits(board: Board) -> tuple[str, ...]:
    """Those with tasks like those of meta-training; () where the board has none."""
    away = away_splits(board)
    found = (_splits_like(board, (relation,)) for relation in HOME)
    return next((splits for splits in found if splits and splits != away), ())


def away_splits(board: Board) -> tuple[str, ...]:
    """Those with data that meta-training has never seen."""
    found = (_splits_like(board, relations) for relations in AWAY)
    return next((s for s in found if s), ()) or _splits_like(board, ("same_tasks",))


def _splits_like(board: Board, relations: Sequence[str]) -> tuple[str, ...]:
    """The splits with one of the relations on which anybody has a score, in planned order."""
    scored = [row.group for row in board.rows if row.group.finished]
    return tuple(dict.fromkeys(of.split for of in scored if of.relation in relations))
