"""A board for programs: JSON."""

from __future__ import annotations

import json

from vsml_bench.boards.board import Board


def to_json(board: Board) -> str:
    """`Board.document`, null where there is no number."""
    return json.dumps(board.document(), indent=1, allow_nan=False) + "\n"
