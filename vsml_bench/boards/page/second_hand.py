"""What others are said to have measured, beside a row of ours: `second_hand.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vsml_bench.boards.groups import Group
from vsml_bench.config import build
from vsml_bench.sides import TaskDistribution, read


@dataclass(frozen=True)
class Figures:
    """One learner of theirs."""

    learner: str
    like: tuple[str, ...]
    """Our learners of the same name or kind."""
    percent: Mapping[str, float]
    """Their name of a dataset -> accuracy."""


@dataclass(frozen=True)
class SecondHand:
    """All that is known of one table of theirs."""

    what: str
    source: str
    protocol: str
    datasets: Mapping[str, tuple[str, ...]]
    """Their name of a dataset -> ours for data of the same kind."""
    figures: tuple[Figures, ...]

    def beside(self, group: Group) -> float | None:
        """The accuracy in [0, 1] that stands beside a row of ours: of the same kind of learner on
        the same kind of data, as it is; None where none is known."""
        side = group.plans[0].split.meta_test
        if len(side.datasets) != 1 or side != _plain(side) or not group.stream:
            return None
        names = [name for name, ours in self.datasets.items() if side.datasets[0] in ours]
        found = [
            of.percent[name] / 100
            for of in self.figures
            for name in names
            if group.learner in of.like and name in of.percent
        ]
        return found[0] if found else None


def _plain(side: TaskDistribution) -> TaskDistribution:
    """The dataset as it is, labels renamed or not, in any size."""
    return TaskDistribution(
        side.datasets, side.partition, side.size, label_permutation=side.label_permutation
    )


@lru_cache(maxsize=1)
def second_hand() -> SecondHand:
    """What `second_hand.toml` says."""
    path = Path(__file__).with_suffix(".toml")
    return build(SecondHand, read(path), path.name)
