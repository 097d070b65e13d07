"""Where a suite meta-trains on sides that differ in their number of tasks alone: accuracy by that
number, for each learner, on the same tasks, on new ones, and on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vsml_bench.boards.board import Board
from vsml_bench.boards.families import Scored
from vsml_bench.boards.groups import Group
from vsml_bench.sides import TaskDistribution


@dataclass(frozen=True)
class Point:
    """A learner after meta-training on a number of tasks."""

    learner: str
    tasks: int
    """0 is without limit."""
    relation: str
    """Of what it is meta-tested on to what it was meta-trained on."""
    accuracy: float
    """In [0, 1], the mean over the splits of that relation."""
    low: float
    high: float


def diversity(board: Board, order: Sequence[str]) -> list[Point]:
    """The points of the meta-train side that has the most numbers of tasks, by learner, relation
    and number, without a limit last; [] where no side has three. order: labels of learners."""
    finished = [row.group for row in board.rows if row.group.finished]
    numbers: dict[TaskDistribution, set[int]] = {}
    for group in finished:
        side = _side(group)
        numbers.setdefault(replace(side, diversity=0), set()).add(side.diversity)
    kind = max(numbers, key=lambda side: len(numbers[side]), default=None)
    if kind is None or len(numbers[kind]) < 3:
        return []
    relations = list(dict.fromkeys(group.relation for group in finished))
    found = []
    for label in order:
        groups = [g for g in board.by_label[label] if g.finished]
        groups = [g for g in groups if replace(_side(g), diversity=0) == kind]
        for relation in relations:
            for tasks in sorted(numbers[kind], key=lambda number: (number == 0, number)):
                of = [g for g in groups if (g.relation, _side(g).diversity) == (relation, tasks)]
                if of:
                    mean = Scored.of(of, [g.split for g in of]).mean
                    found.append(Point(label, tasks, relation, mean.mean, mean.low, mean.high))
    return found


def _side(group: Group) -> TaskDistribution:
    return group.plans[0].split.meta_train
