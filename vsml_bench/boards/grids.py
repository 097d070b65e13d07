"""Where a suite meta-trains on several sides and meta-tests each on several: accuracy by meta-train
sides and meta-test sets, for each learner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vsml_bench.boards.board import Board
from vsml_bench.boards.groups import Group
from vsml_bench.sides import TaskDistribution


@dataclass(frozen=True)
class Square:
    """A learner on a split of the grid."""

    learner: str
    meta_train: str
    meta_test: str
    accuracy: float
    """In [0, 1]."""
    low: float
    high: float


@dataclass(frozen=True)
class Grid:
    """At least two meta-train sides by two meta-test sides; not all squares need to be there."""

    meta_train: tuple[str, ...]
    meta_test: tuple[str, ...]
    squares: tuple[Square, ...]


def grid(board: Board, order: Sequence[str]) -> Grid | None:
    """What of a board is a grid; None where nothing is. order: of panels, labels of learners."""
    splits = {row.group.split: row.group for row in board.rows if row.group.finished}
    pairs = {name: _sides(of) for name, of in splits.items()}
    while True:  # until each side that is left meets two of the other kind
        trains = _met_twice(pairs.values())
        tests = _met_twice((test, train) for train, test in pairs.values())
        kept = {n: (a, b) for n, (a, b) in pairs.items() if a in trains and b in tests}
        if kept == pairs:
            break
        pairs = kept
    if not pairs:
        return None
    names = {name: re.fullmatch(r"(?:.*/)?(.+)-to-(.+)", name) for name in pairs}
    train_names = _named(
        (pair[0], m[1] if (m := names[name]) else "+".join(pair[0].datasets))
        for name, pair in pairs.items()
    )
    test_names = _named(
        (pair[1], m[2] if (m := names[name]) else name) for name, pair in pairs.items()
    )
    of = board.by_label
    squares = tuple(
        Square(
            label,
            train_names[pairs[group.split][0]],
            test_names[pairs[group.split][1]],
            *(group.estimate.mean, group.estimate.low, group.estimate.high),
        )
        for label in order
        for group in of[label]
        if group.finished and group.split in pairs
    )
    if not squares:
        return None
    return Grid(tuple(train_names.values()), tuple(test_names.values()), squares)


def _sides(group: Group) -> tuple[TaskDistribution, TaskDistribution]:
    split = group.plans[0].split
    return split.meta_train, split.meta_test


def _met_twice(
    pairs: Iterable[tuple[TaskDistribution, TaskDistribution]],
) -> set[TaskDistribution]:
    """The first sides that meet two second ones."""
    met: dict[TaskDistribution, set[TaskDistribution]] = {}
    for one, other in pairs:
        met.setdefault(one, set()).add(other)
    return {one for one, others in met.items() if len(others) > 1}


def _named(
    sides: Iterable[tuple[TaskDistribution, str]],
) -> Mapping[TaskDistribution, str]:
    """Each side by the first name given for it, with a number where another has that already."""
    found: dict[TaskDistribution, str] = {}
    for side, name in sides:
        if side not in found:
            same = sum(re.sub(r" \(\d+\)$", "", of) == name for of in found.values())
            found[side] = f"{name} ({same + 1})" if same else name
    return found
