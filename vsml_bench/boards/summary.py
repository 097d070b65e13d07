"""A learner in one line: its accuracy over all splits, by which boards order learners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from vsml_bench.boards.families import Family, Scored
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import published

_Numbers: TypeAlias = "tuple[Any, Any, Any, Any, Any, Any]"
"""From `Summary.mean` to `rank_high`."""


@dataclass(frozen=True)
class Summary:
    """One learner on one kind of device over all splits that anyone was run on, with or without
    success: else a failure on a split that nobody else has would leave it out of the mean."""

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
    """The places that no decided difference of two means excludes; decided among all pairs of
    learners, as `families` says."""
    rank_high: int | None
    mean_rank: float | None
    """A split without a score counts as its last place. It does depend on the other learners: two
    change places when variants of a third come between them on one split."""
    scored: int
    """Splits with a score."""
    splits: int
    """Splits that anyone was run on."""
    tie: int | None = None
    """Number of its group, see `tied`; None where there is no score at all."""


def over_splits(groups: Sequence[Group]) -> Family[str]:
    """All pairs of learners that have a score, by label, over the splits that anyone has one on."""
    named = labels(groups)
    finished = [group for group in groups if group.finished]
    splits = tried(groups)
    found: dict[str, list[Group]] = {}
    for group in finished:
        found.setdefault(named[group.learner, group.kind], []).append(group)
    return Family({label: Scored.of(groups, splits) for label, groups in found.items()})


def summarise(
    groups: Sequence[Group], ranks: Sequence[int | None], family: Family[str]
) -> tuple[Summary, ...]:
    """Best first. ranks: each group's on its split; None where it has no score. family:
    `over_splits` of them."""
    named = labels(groups)
    splits = tried(groups)
    places: dict[str, list[int]] = {}
    for split in splits:
        there = [(g, rank) for g, rank in zip(groups, ranks, strict=True) if g.split == split]
        for group, rank in there:
            places.setdefault(named[group.learner, group.kind], []).append(rank or len(there))
    scored = {label: 0 for label in named.values()}
    for group in groups:
        scored[named[group.learner, group.kind]] += group.finished
    means = {label: of.mean for label, of in family.members.items()}
    above = [published(mean.mean) for mean in means.values()]
    found = []
    for label, count in scored.items():
        numbers: _Numbers = (None,) * 6
        if label in means:
            of = means[label]
            mean, low, high = (published(n) for n in (of.mean, of.low, of.high))
            place = 1 + sum(other > mean for other in above)
            numbers = (mean, low, high, place, *family.places(label))
        ranked = places.get(label)
        mean_rank = sum(ranked) / len(ranked) if ranked else None
        found.append(Summary(label, *numbers, mean_rank, count, len(splits)))
    found.sort(key=_best_first)
    ties = tied([of.label for of in found if of.mean is not None], family.decided)
    return tuple(replace(of, tie=ties.get(of.label)) for of in found)


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


def tried(groups: Sequence[Group]) -> list[str]:
    """Splits that anyone was run on."""
    return list(dict.fromkeys(group.split for group in groups if group.tried))


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
