r"""A board for a paper: the wide table in LaTeX, for a document with \usepackage{booktabs}."""

from __future__ import annotations

from collections.abc import Sequence

from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.formats.escaping import latex
from vsml_bench.boards.overview import Part, parts, shown
from vsml_bench.boards.summary import Summary
from vsml_bench.boards.texts import plain


def to_latex(board: Board) -> str:
    """A row for each learner, best first, with its place, its mean over all splits and the mean on
    each split in percent, or of each relation where there are many splits, and half of each 95 %
    interval; bold where no other is decidedly better.
    A space parts learners from those that are decidedly worse than the best of the group above; a
    dagger marks what one meta-train seed leaves out."""
    over = parts(board)
    if over:
        means = {
            (label, of.relation): _part(label, of) for of in over for label in of.family.members
        }
    else:
        means = {(row.label, row.group.split): _mean(row) for row in board.rows}
    columns = [of.relation for of in over] or list(board.splits)
    heads = ["learner", "place", "all splits", *columns]
    lines = []
    leader = ""
    for learner in shown(board):
        if learner.rank is not None:
            first = not leader
            if first or board.over_splits.decided(leader, learner.label):
                lines += [] if first else [r"\addlinespace"]
                leader = learner.label
        found = [means.get((learner.label, column), "") for column in columns]
        lines.append(_line([latex(learner.label), _place(learner), _over(learner), *found]))
    return "\n".join(
        [
            f"% vsml-bench, board '{plain(board.suite)}', hash {board.board_hash}",
            r"% Needs \usepackage{booktabs}. In percent, with half the 95 % interval; bold: no",
            r"% other learner is decidedly better, by Holm's correction for all pairs there.",
            rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
            r"\toprule",
            _line([latex(head) for head in heads]),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _number(mean: float, low: float, high: float) -> str:
    return rf"${100 * mean:.1f} \pm {50 * (high - low):.1f}$"


def _mean(row: Row) -> str:
    if row["mean"] is None:
        return latex(str(row["status"]))
    text = _number(row["mean"], row["ci_low"], row["ci_high"])
    text = rf"\boldmath{text}" if row["rank_low"] == 1 else text
    return rf"{text}$^\dagger$" if row["seed_variance"] == "not measured" else text


def _part(label: str, part: Part) -> str:
    of = part.family.members[label]
    text = _number(of.mean.mean, of.mean.low, of.mean.high)
    text = rf"\boldmath{text}" if part.family.places(label)[0] == 1 else text
    return rf"{text}$^\dagger$" if of.one_seed else text


def _place(learner: Summary) -> str:
    low, high = learner.rank_low, learner.rank_high
    return "" if low is None else f"{low}" if low == high else f"{low}--{high}"


def _over(learner: Summary) -> str:
    if learner.mean is None or learner.mean_low is None or learner.mean_high is None:
        return ""
    return _number(learner.mean, learner.mean_low, learner.mean_high)
