"""The board as a DataFrame and as JSON and CSV; `markdown.py` makes the one for people."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from vsml_bench.leaderboard.board import Board, Row
from vsml_bench.leaderboard.markdown import to_markdown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_csv", "to_frame", "to_json", "to_markdown"]


def to_frame(board: Board) -> pd.DataFrame:
    """One line per row of the board, its fields as columns but for the keys."""
    import pandas as pd

    columns = [field.name for field in fields(Row) if field.name != "keys"]
    return pd.DataFrame(
        [[getattr(row, column) for column in columns] for row in board.rows], columns=columns
    )


def to_json(board: Board) -> str:
    """`{"suite", "board_hash", "rows": [...], "stale": [...], "problems": [...],
    "commits": [...]}`; each row has the fields of `Row`, null where there is no number. The boards
    of studies have "sections" as well, with the fields of `Section`."""
    document = asdict(board)
    if not board.sections:
        del document["sections"]
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def to_csv(board: Board) -> str:
    """`to_frame` as CSV with a header line; an empty field where there is no number."""
    return to_frame(board).to_csv(index=False, lineterminator="\n")
