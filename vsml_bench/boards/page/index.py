"""The page that links the pages of boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml_bench.boards.board import Board
from vsml_bench.boards.page.rendering import environment, text
from vsml_bench.boards.page.standings import standings


@dataclass(frozen=True)
class Entry:
    """A board in the index of a site."""

    suite: str
    description: str
    learners: int
    splits: int
    best: str
    """The learners of the first tied group, with the accuracy of the best one."""
    board_hash: str


def entry(board: Board, description: str) -> Entry:
    """What the index says of a board; description: the suite's."""
    placed = [s for s in standings(board) if s.away is not None]
    tied = ", ".join(s.label for s in placed if s.tie == 1)
    mean = placed[0].away.mean if placed and placed[0].away else 0.0
    groups = [row.group for row in board.rows]
    return Entry(
        board.suite,
        description,
        len({of.learner for of in groups}),
        len({of.split for of in groups}),
        f"{tied} ({100 * mean:.1f} %)" if placed else "",
        board.board_hash,
    )


def to_index(entries: Sequence[Entry], speed: bool) -> str:
    """The page that links the pages of boards; speed: whether asv's pages are beside them."""
    style = text("page.css")
    template = environment().get_template("index.html")
    return template.render(entries=entries, speed=speed, style=style)
