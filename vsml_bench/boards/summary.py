"""A learner in one line: its accuracy over all splits, by which boards order learners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import (
    Scores,
    Splits,
    difference_over_splits,
    mean_over_splits,
    published,
)

_Numbers: TypeAlias = "tuple[Any, Any, Any, Any, Any, Any]"
"""From `Summary.mean` to `rank_high`."""


@dataclass(frozen=True)
class Summary:
    """One learner on one kind of device over all splits that anyone has a score on."""

    label: str
    """The learner, with the kind of device where some split has it on several."""
    mean: float | None
    """Accuracy in [0, 1], all splits alike; a split without a score counts as 0, so that failing
    never pays. It does not depend on what other learners there are: a further split divides all
    sums alike. None where there is no score at all."""
    mean_low: float | None
    mean_high: float | None
    """Ends of its 95 % interval, for other lifetimes and, where there are several, other seeds."""
    rank: int | None
    """Place by the mean."""
    rank_low: int | None
    """The places that no decided difference of two means excludes. Each comparison stands at 95 %
    by itself; there is no correction for their number."""
    rank_high: int | None
    mean_rank: float | None
    """A split without a score counts as its last place. It does depend on the other learners: two
    change places when variants of a third come between them on one split."""
    scored: int
    """Splits with a score."""
    splits: int
    """Splits that anyone has a score on."""
    tie: int | None = None
    """Number of its group, see `tied`; None where there is no score at all."""


def summarise(groups: Sequence[Group], ranks: Sequence[int | None]) -> tuple[Summary, ...]:
    """Best first. ranks: each group's on its split; None where it has no score."""
    named = labels(groups)
    finished = [group for group in groups if group.finished]
    steps = {group.split: group.correct.shape[2] for group in finished}
    places: dict[str, list[int]] = {}
    for split in steps:
        there = [(g, rank) for g, rank in zip(groups, ranks, strict=True) if g.split == split]
        for group, rank in there:
            places.setdefault(named[group.learner, group.kind], []).append(rank or len(there))
    scores: dict[str, dict[str, Scores]] = {label: {} for label in named.values()}
    for group in finished:
        scores[named[group.learner, group.kind]][group.split] = group.scores
    scored = {label: [of.get(split) for split in steps] for label, of in scores.items() if of}
    found = [
        Summary(
            label,
            *_mean_and_rank(label, scored, list(steps.values())),
            mean_rank=sum(of) / len(of) if (of := places.get(label)) else None,
            scored=len(scores[label]),
            splits=len(steps),
        )
        for label in scores
    ]
    found.sort(key=_best_first)
    ties = tied(
        [summary.label for summary in found if summary.mean is not None],
        lambda one, other: (
            difference_over_splits(scored[one], scored[other], list(steps.values())).decided
        ),
    )
    return tuple(replace(summary, tie=ties.get(summary.label)) for summary in found)


def tied(order: Sequence[str], apart: Callable[[str, str], bool]) -> dict[str, int]:
    """Label -> number of its group: those that are not decidedly worse than the group's first.

    order: labels, best first. apart: whether the difference of two is decided.
    """
    ties: dict[str, int] = {}
    leader, number = "", 0
    for label in order:
        if not number or apart(leader, label):
            leader, number = label, number + 1
        ties[label] = number
    return ties


def _mean_and_rank(label: str, scored: Mapping[str, Splits], steps: Sequence[int]) -> _Numbers:
    if label not in scored:
        return (None,) * 6
    means = {name: mean_over_splits(of, steps) for name, of in scored.items()}
    mean, low, high = (
        published(n) for n in (means[label].mean, means[label].low, means[label].high)
    )
    against = [
        difference_over_splits(scored[label], rival, steps)
        for name, rival in scored.items()
        if name != label
    ]
    return (
        *(mean, low, high),
        1 + sum(published(other.mean) > mean for other in means.values()),
        1 + sum(difference.decided and difference.mean < 0 for difference in against),
        len(means) - sum(difference.decided and difference.mean > 0 for difference in against),
    )


def labels(groups: Sequence[Group]) -> dict[tuple[str, str], str]:
    """(learner, kind of device) -> what a table calls it: the learner, with the kind where some
    split has it on several."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        kinds.setdefault((group.learner, group.split), set()).add(group.kind)
    several = {learner for (learner, _), found in kinds.items() if len(found) > 1}
    return {
        (of.learner, of.kind): f"{of.learner} ({of.kind})"
        if of.learner in several and of.kind
        else of.learner
        for of in groups
    }


def _best_first(summary: Summary) -> tuple[float, str]:
    return (1.0 if summary.mean is None else -summary.mean, summary.label)
