"""Each learner in one line: how well it does on tasks like those it was meta-trained on, how well
on data that it has never seen, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsml_bench.boards import statistics, summary
from vsml_bench.boards.board import Board
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import Interval, Scores

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
class Cost:
    """What a learner takes, as a mean of the cells that have a score. Times compare on one device
    only."""

    device: str
    meta_train_seconds: float
    meta_train_examples: int
    """In all lifetimes of all meta-updates; 0 for a learner that is not meta-trained."""
    seconds_per_1000: float
    """Meta-test seconds for 1,000 examples."""
    state_floats: int
    meta_parameters: int


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


@dataclass(frozen=True)
class Scored:
    """One learner's scores on each of several splits, which count alike."""

    splits: tuple[Scores, ...]
    predictions: tuple[int, ...]
    """In a lifetime of each split."""

    @property
    def mean(self) -> Interval:
        """Accuracy over the splits."""
        return statistics.mean_over_splits(self.splits, self.predictions)

    def minus(self, other: Scored) -> Interval:
        """The difference to another learner on the same splits and pinned lifetimes."""
        return statistics.difference_over_splits(self.splits, other.splits, self.predictions)


def scored(groups: Sequence[Group], splits: Sequence[str]) -> Scored | None:
    """None where a split lacks a score."""
    of = {group.split: group for group in groups if group.finished}
    if not splits or not set(splits) <= of.keys():
        return None
    found = [of[split] for split in splits]
    return Scored(
        tuple(group.scores for group in found), tuple(group.correct.shape[2] for group in found)
    )


def standings(board: Board) -> list[Standing]:
    """All learners, best on data never seen first, those without such a score last."""
    groups = by_label(board)
    home, away = home_splits(board), away_splits(board)
    scores = {label: scored(of, away) for label, of in groups.items()}
    placed = {label: found for label, found in scores.items() if found is not None}
    means = {label: found.mean.mean for label, found in placed.items()}
    order = sorted(placed, key=lambda label: (-means[label], label))
    ties = _ties(order, placed)
    found = []
    for label in [*order, *(label for label in groups if label not in placed)]:
        of = groups[label]
        low = high = None
        if label in placed:
            against = [placed[label].minus(placed[other]) for other in order if other != label]
            low = 1 + sum(d.decided and d.mean < 0 for d in against)
            high = len(order) - sum(d.decided and d.mean > 0 for d in against)
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


def _ties(order: Sequence[str], scores: Mapping[str, Scored]) -> dict[str, int]:
    """Label -> number of its group."""
    ties: dict[str, int] = {}
    leader, number = "", 0
    for label in order:
        if not leader or scores[leader].minus(scores[label]).decided:
            leader, number = label, number + 1
        ties[label] = number
    return ties


def cost_of(groups: Sequence[Group]) -> Cost | None:
    """None where no cell has a score."""
    cells = [cell for group in groups for cell in group.ok]
    if not cells:
        return None
    seconds = [cell.provenance.seconds for cell in cells]
    examples = sum(
        cell.correct.shape[0] * (cell.plan.protocol.examples or cell.correct.shape[1])
        for cell in cells
    )
    recipes = {cell.plan.job.key: cell.plan.job for cell in cells}
    jobs = [job.recipe.examples for job in recipes.values() if job.recipe is not None]
    return Cost(
        " / ".join(sorted({cell.provenance.hardware for cell in cells})),
        float(np.mean([each.get("meta_train", 0.0) for each in seconds])),
        round(sum(jobs) / len(jobs)) if jobs else 0,
        1000 * sum(each.get("meta_test", 0.0) for each in seconds) / examples,
        max(cell.provenance.state_floats for cell in cells),
        max(cell.provenance.meta_parameters for cell in cells),
    )
