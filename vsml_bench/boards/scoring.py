"""The numbers of a board's rows: estimates, ranks within a split, generalisation gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.evaluation.cell import Outcomes
from vsml_bench.leaderboard import statistics
from vsml_bench.leaderboard.statistics import Difference, Scores

Identity: TypeAlias = tuple[str, str, str]
"""(split, learner, device)."""

_DECIMALS = 9
"""Of published numbers: coarser than the rounding noise between machines, finer than any need."""


@dataclass(frozen=True)
class Contender:
    """A learner that finished a split with every planned seed."""

    identity: Identity
    relation: str
    has_meta_parameters: bool
    is_stream: bool
    """Whether predictions follow one another, so that the first and the last ones mean something.
    Few-shot queries are all answered from one state."""
    meta_train_hash: str
    seeds: tuple[int, ...]
    outcomes: tuple[Outcomes, ...]
    """One per seed."""

    @cached_property
    def correct(self) -> npt.NDArray[np.bool_]:
        """[seeds, lifetimes, steps]."""
        return np.stack([outcome.correct for outcome in self.outcomes])

    @cached_property
    def scores(self) -> Scores:
        """Accuracy over all predictions of a lifetime [seeds, lifetimes]."""
        return statistics.lifetime_scores(self.correct)


@dataclass(frozen=True)
class Numbers:
    """What is known of a contender; see `Row` for each."""

    mean: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seed_variance: str | None = None
    early: float | None = None
    final: float | None = None
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None


def numbers(contenders: Sequence[Contender]) -> dict[Identity, Numbers]:
    """The numbers of every contender, in whatever order they come."""
    known = {}
    for contender in contenders:
        rivals = [c for c in contenders if c.identity[0] == contender.identity[0]]
        estimate = statistics.estimate(contender.scores, contender.has_meta_parameters)
        known[contender.identity] = Numbers(
            mean=_rounded(estimate.mean),
            ci_low=_rounded(estimate.low),
            ci_high=_rounded(estimate.high),
            seed_variance=estimate.seed_variance,
            early=_accuracy(statistics.early(contender.correct)) if contender.is_stream else None,
            final=_accuracy(statistics.final(contender.correct)) if contender.is_stream else None,
            **_gap(contender, contenders),
            **_ranks(contender, rivals),
        )
    return known


def _ranks(contender: Contender, rivals: Sequence[Contender]) -> dict[str, Any]:
    """Place by the mean, and the places that no decided paired difference excludes. Each
    comparison stands at 95 % by itself; there is no correction for their number."""
    mean = contender.scores.mean()
    others = [rival for rival in rivals if rival is not contender]
    against = [statistics.paired_difference(contender.scores, other.scores) for other in others]
    better = sum(difference.decided and difference.mean < 0 for difference in against)
    worse = sum(difference.decided and difference.mean > 0 for difference in against)
    return {
        "rank": 1 + sum(_rounded(other.scores.mean()) > _rounded(mean) for other in others),
        "rank_low": 1 + better,
        "rank_high": len(rivals) - worse,
    }


def _gap(contender: Contender, contenders: Sequence[Contender]) -> dict[str, Any]:
    home = [c for c in contenders if _is_home(c, contender)]
    if not home or contender.relation == "same_tasks":
        return {}
    # Should a suite have several, the choice must not depend on the order they come in.
    own = min(home, key=lambda c: c.identity)
    steps = min(own.correct.shape[2], contender.correct.shape[2])
    gap: Difference = statistics.generalisation_gap(
        statistics.lifetime_scores(own.correct[..., :steps]),
        statistics.lifetime_scores(contender.correct[..., :steps]),
    )
    return {
        "gap": _rounded(gap.mean),
        "gap_low": _rounded(gap.low),
        "gap_high": _rounded(gap.high),
    }


def _is_home(home: Contender, contender: Contender) -> bool:
    """Whether `home` is the same learner on the tasks that it was meta-trained on."""
    return (
        home.relation == "same_tasks"
        and home.identity[1:] == contender.identity[1:]
        and home.meta_train_hash == contender.meta_train_hash
        and home.seeds == contender.seeds
    )


def _accuracy(correct: npt.NDArray[np.bool_]) -> float:
    return _rounded(statistics.lifetime_scores(correct).mean())


def _rounded(value: Any) -> float:
    return round(float(value), _DECIMALS) + 0.0  # so that there is no -0.0
