"""A learner in one line: its accuracy over all splits, by which boards order learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsml_bench.boards import statistics
from vsml_bench.boards.groups import Group


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
    mean_rank: float | None
    """A split without a score counts as its last place. It does depend on the other learners: two
    change places when variants of a third come between them on one split."""
    scored: int
    """Splits with a score."""
    splits: int
    """Splits that anyone has a score on."""


def summarise(groups: Sequence[Group], ranks: Sequence[int | None]) -> tuple[Summary, ...]:
    """Best first. ranks: each group's on its split; None where it has no score."""
    named = labels(groups)
    places: dict[str, list[int]] = {}
    for split in dict.fromkeys(group.split for group in groups if group.finished):
        there = [(g, rank) for g, rank in zip(groups, ranks, strict=True) if g.split == split]
        for group, rank in there:
            places.setdefault(named[group.learner, group.kind], []).append(rank or len(there))
    splits = len({group.split for group in groups if group.finished})
    found = []
    for label in dict.fromkeys(named.values()):
        own = [g for g in groups if g.finished and named[g.learner, g.kind] == label]
        of = places.get(label)
        mean_rank = sum(of) / len(of) if of else None
        found.append(Summary(label, *_mean(own, splits), mean_rank, len(own), splits))
    return tuple(sorted(found, key=_best_first))


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


def _mean(own: Sequence[Group], splits: int) -> tuple[float | None, float | None, float | None]:
    if not own:
        return None, None, None
    found = statistics.mean_over_splits(
        [group.scores for group in own],
        [group.correct.shape[2] for group in own],
        same_seeds=len({group.seeds for group in own}) == 1,
        without=splits - len(own),
    )
    mean, low, high = (statistics.published(end) for end in (found.mean, found.low, found.high))
    return mean, low, high


def _best_first(summary: Summary) -> tuple[float, str]:
    return (1.0 if summary.mean is None else -summary.mean, summary.label)
