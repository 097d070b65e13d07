"""The board for notebooks: all that it has of a learner on a split in one line."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from vsml_bench.boards.board import Board
from vsml_bench.boards.costs import Cost, cost_of
from vsml_bench.boards.formats import to_frame
from vsml_bench.boards.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

OVERALL = {
    "all_splits": "mean",
    "all_splits_low": "mean_low",
    "all_splits_high": "mean_high",
    "place": "rank",
    "place_low": "rank_low",
    "place_high": "rank_high",
    "group": "tie",
    "mean_rank": "mean_rank",
}
"""Column -> field of `Summary`, the same in all rows of a learner."""


def to_whole_frame(board: Board) -> pd.DataFrame:
    """One line per row of the board: the columns of CSV, then those of `OVERALL`, then what the
    cells of the row cost, as `Cost` says; nothing where there is no number."""
    import pandas as pd

    frame = to_frame(board)
    learners = {learner.label: learner for learner in board.learners}
    costs = [field.name for field in fields(Cost) if field.name not in frame.columns]
    lines = []
    for row in board.rows:
        summary, cost = learners[row.label], cost_of([row.group])
        spent = {} if cost is None else asdict(cost)
        lines.append({**_overall(summary), **{name: spent.get(name) for name in costs}})
    return frame.join(pd.DataFrame(lines, index=frame.index, columns=[*OVERALL, *costs]))


def _overall(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, field) for name, field in OVERALL.items()}
