"""What a board lacks, in words: once for each split and reason."""

from __future__ import annotations

from vsml_bench.boards.board import Board
from vsml_bench.boards.page.standings import labels


def missing(board: Board) -> list[str]:
    """One sentence for each split and reason, with the learners that it befell."""
    named = labels(board)
    total: dict[str, int] = {}
    befell: dict[tuple[str, str], list[str]] = {}
    for index, row in enumerate(board.rows):
        total[row.group.split] = total.get(row.group.split, 0) + 1
        if row["status"] != "ok":
            reason = " ".join(str(row["reason"] or row["status"]).split())
            befell.setdefault((row.group.split, reason), []).append(named[index])
    sentences = []
    for (split, reason), learners in befell.items():
        names = dict.fromkeys(learners)
        who = "all learners" if len(learners) == total[split] else ", ".join(names)
        sentences.append(f"{split}: {reason} ({who})")
    return sentences
