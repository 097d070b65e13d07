"""The study `cloning` on its board: how close clones are to the algorithm that they imitate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.groups import Group
from vsml_bench.studies import Section, Value

_TENTHS = 10
_NUMBERS = (
    *("accuracy", "true", "gap", "worst gap", "yardstick"),
    *("updates", "update error", "change", "least change", "drift", "largest"),
)
_RUNAWAY = 2.0
"""How many times as large as the true algorithm's the largest weight of a run-away stream is."""


def sections(finished: Sequence[Group]) -> list[Section]:
    """The comparison with the true algorithm, whole and seed by seed, and both along the way."""
    whole = Section(
        "Beside the true algorithm",
        "Each learner and the true algorithm start from the same weights and see the same "
        "stream; over meta-train seeds x streams. Accuracies in %, over all examples; gap: the "
        "true algorithm's minus the learner's, in points, on average and at worst (the largest "
        "absolute one). Yardstick: the largest absolute gap of the true algorithm to itself "
        "from weights that differ by 1 %. Updates: correlation and relative error of all "
        "weight updates with those that the true algorithm would have made from the learner's "
        "own weights. Change: correlation of the weights' total change with the true "
        "algorithm's, on average and at least. Drift: how far the weight that moves furthest "
        "moves in 1,000 examples without anything in them, at worst. Largest: the largest "
        "weight in units of the true algorithm's, at worst.",
        ("split", "learner", *_NUMBERS),
        tuple((of.split, of.learner, *_comparison(of)) for of in finished),
    )
    along = Section(
        "Along the way",
        "Accuracy in % of the learner and of the true algorithm in each tenth of the stream, "
        "and the correlation of their weight updates there.",
        (*("split", "learner", "of"), *(f"{10 * k} to {10 * (k + 1)} %" for k in range(_TENTHS))),
        tuple(row for group in finished for row in _curves(group)),
    )
    return [whole, *_by_seed(finished), along]


def _by_seed(finished: Sequence[Group]) -> list[Section]:
    """The comparison for each seed, of learners with several."""
    alone = [
        replace(of, plans=(plan,), cells=(cell,))
        for of in finished
        if len(of.cells) > 1
        for plan, cell in zip(of.plans, of.cells, strict=True)
    ]
    if not alone:
        return []
    return [
        Section(
            "Seed by seed",
            "The same for each meta-train seed, over its streams, and in how many of these weights "
            f"ran away: the largest one ended above {_RUNAWAY:g} times the true algorithm's.",
            ("split", "learner", "seed", *_NUMBERS, "run away", "streams"),
            tuple(
                (of.split, of.learner, of.seeds[0], *_comparison(of), *_run_away(of))
                for of in alone
            ),
        )
    ]


def _comparison(group: Group) -> tuple[Value, ...]:
    own = group.correct.mean(-1)
    true, perturbed = (
        group.trace(name).mean(-1) for name in ("reference_accuracy", "perturbed_accuracy")
    )
    change = group.trace("change_correlation")[..., -1]
    gap = 100 * (true - own)
    return (
        *(float(100 * own.mean()), float(100 * true.mean())),
        *(float(gap.mean()), float(np.abs(gap).max())),
        float(100 * np.abs(true - perturbed).max()),
        float(group.trace("update_correlation").mean()),
        float(group.trace("update_error").mean()),
        *(float(change.mean()), float(change.min())),
        float(group.trace("drift").max()),
        float(_largest(group).max()),
    )


def _run_away(group: Group) -> tuple[int, int]:
    """Streams that did, and all streams."""
    largest = _largest(group)
    return int((largest > _RUNAWAY).sum()), largest.size


def _largest(group: Group) -> npt.NDArray[np.float64]:
    """The largest weight at the end in units of the true algorithm's [seeds, lifetimes]."""
    own, true = (
        group.trace(name)[..., -1] for name in ("largest_weight", "reference_largest_weight")
    )
    return own / true


def _curves(group: Group) -> list[tuple[Value, ...]]:
    lines = {
        "learner": 100 * group.correct,
        "true": 100 * group.trace("reference_accuracy"),
        "updates": group.trace("update_correlation"),
    }
    return [
        (
            *(group.split, group.learner, name),
            *(float(part.mean()) for part in np.array_split(values, _TENTHS, axis=-1)),
        )
        for name, values in lines.items()
    ]
