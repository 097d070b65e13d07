"""What a form is that a board is written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vsml_bench.boards.board import Board


@dataclass(frozen=True)
class Format:
    """A form that a board is written in."""

    text: Callable[[Board], str]
    ending: str
    """Of its file, `board.ENDING`; "" where it is for the eye alone and never kept."""
    printed: bool = True
    """Whether it is for reading on a terminal or in a pipe; else the command line writes the file
    and says where it is."""
