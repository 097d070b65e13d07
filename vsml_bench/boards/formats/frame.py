"""A board for spreadsheets and notebooks, long (a row for each split and learner) and wide (a row
for each learner)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsml_bench.boards.board import Board
from vsml_bench.boards.formats.escaping import field

if TYPE_CHECKING:
    import pandas as pd

_OF_SPLIT = ("mean", "ci_low", "ci_high", "rank_low", "rank_high", "status")
_OF_LEARNER = ("mean", "mean_low", "mean_high", "rank", "rank_low", "rank_high", "mean_rank")


def to_frame(board: Board) -> pd.DataFrame:
    """One line per row of the board, with the columns that CSV has."""
    import pandas as pd

    names = board.names("csv")
    return pd.DataFrame([[row[name] for name in names] for row in board.rows], columns=names)


def to_wide_frame(board: Board) -> pd.DataFrame:
    """One line per learner, best first: `Summary`'s numbers over all splits, then for each split
    the mean, its interval, the places that nothing decided excludes, and the status, in columns
    called "SPLIT NUMBER"."""
    import pandas as pd

    lines: dict[str, dict[str, Any]] = {}
    for learner in board.learners:
        numbers = {f"all splits {name}": getattr(learner, name) for name in _OF_LEARNER}
        empty = {f"{split} {name}": None for split in board.splits for name in _OF_SPLIT}
        lines[learner.label] = {"learner": learner.label, **numbers, **empty}
    for row in board.rows:
        line = lines[row.label]
        line |= {f"{row.group.split} {name}": row[name] for name in _OF_SPLIT}
    columns = ["learner", *(f"all splits {name}" for name in _OF_LEARNER)]
    columns += [f"{split} {name}" for split in board.splits for name in _OF_SPLIT]
    return pd.DataFrame(list(lines.values()), columns=columns)


def to_csv(board: Board) -> str:
    """`to_frame` as CSV with a header line; an empty field where there is no number."""
    return _csv(to_frame(board))


def to_wide_csv(board: Board) -> str:
    """`to_wide_frame` likewise."""
    return _csv(to_wide_frame(board))


def _csv(frame: pd.DataFrame) -> str:
    import pandas as pd

    shown = frame.copy()
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            shown[name] = [field(of) if isinstance(of, str) else of for of in frame[name]]
    shown.columns = pd.Index([field(name) for name in frame.columns])
    return shown.to_csv(index=False, lineterminator="\n")
