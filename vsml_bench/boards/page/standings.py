"""Each learner in one line: how well it does on tasks like those it was meta-trained on, how well
on data that it has never seen, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml_bench.boards import summary
from vsml_bench.boards.board import Board
from vsml_bench.boards.families import Family, scored
from vsml_bench.boards.groups import Group
from vsml_bench.boards.page.costs import Cost, cost_of
from vsml_bench.boards.statistics import Interval

HOME = ("same_tasks", "unseen_tasks")
"""Relations of splits whose tasks are like those of meta-training, the first that a board has."""
AWAY = (
    ("unseen_dataset", "unseen_shape", "unseen_modality"),
    ("unseen_classes",),
    ("unseen_tasks",),
)
"""Relations of splits with data that meta-training has never seen, strongest first; of a board,
those of the first line that it has count."""


@dataclass(frozen=True)
class Standing:
    """One learner, on one kind of device where it was run on several."""

    label: str
    family: str
    home: Interval | None
    """Accuracy in [0, 1] on tasks like those of meta-training; None where a split lacks a score,
    or where there is no such split."""
    away: Interval | None
    """Likewise on data that meta-training has never seen."""
    rank_low: int | None
    """Best and worst place by `away` that no decided paired difference excludes."""
    rank_high: int | None
    tie: int | None
    """Number of its group: the learners that are not decidedly worse than the best of the group."""
    cost: Cost | None


def labels(board: Board) -> dict[int, str]:
    """Index of a row -> what the page calls its learner."""
    groups = [row.group for row in board.rows]
    named = summary.labels(groups)
    return {index: named[of.learner, of.kind] for index, of in enumerate(groups)}


def by_label(board: Board) -> dict[str, list[Group]]:
    """Label -> its groups, split by split, in alphabetical order of labels."""
    found: dict[str, list[Group]] = {}
    for index, label in labels(board).items():
        found.setdefault(label, []).append(board.rows[index].group)
    return dict(sorted(found.items()))


def splits_like(board: Board, relations: Sequence[str]) -> tuple[str, ...]:
    """The splits with one of the relations on which anybody has a score, in planned order."""
    scored = [row.group for row in board.rows if row.group.finished]
    return tuple(dict.fromkeys(of.split for of in scored if of.relation in relations))


def home_splits(board: Board) -> tuple[str, ...]:
    """Those on the horizontal axis of the first picture; () where the board has none."""
    away = away_splits(board)
    found = (splits_like(board, (relation,)) for relation in HOME)
    return next((splits for splits in found if splits and splits != away), ())


def away_splits(board: Board) -> tuple[str, ...]:
    """Those with data that meta-training has never seen."""
    found = (splits_like(board, relations) for relations in AWAY)
    return next((s for s in found if s), ()) or splits_like(board, ("same_tasks",))


def standings(board: Board) -> list[Standing]:
    """All learners, best on data never seen first, those without such a score last."""
    groups = by_label(board)
    home, away = home_splits(board), away_splits(board)
    scores = {label: scored(of, away) for label, of in groups.items()}
    placed = {label: found for label, found in scores.items() if found is not None}
    means = {label: found.mean.mean for label, found in placed.items()}
    order = sorted(placed, key=lambda label: (-means[label], label))
    family = Family(placed)
    ties = summary.tied(order, family.decided)
    found = []
    for label in [*order, *(label for label in groups if label not in placed)]:
        of = groups[label]
        low, high = family.places(label) if label in placed else (None, None)
        found.append(
            Standing(
                label,
                of[0].plans[0].job.learner.family,
                _estimate(of, home),
                _estimate(of, away),
                low,
                high,
                ties.get(label),
                cost_of(of),
            )
        )
    return found


def _estimate(groups: Sequence[Group], splits: Sequence[str]) -> Interval | None:
    found = scored(groups, splits)
    return None if found is None else found.mean
