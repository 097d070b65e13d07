"""What another choice of test examples would do to a mean.

Lifetimes re-sample a finite set of N test examples: that a set has many hard ones shows in all
lifetimes alike, and how these vary does not tell of it. With r[l, i] the deviation of the outcome
of example i in lifetime l from the lifetime's mean (0 where i does not occur), L lifetimes of T
steps, what the choice of the N adds to the variance of the mean is var(c) / N, c[i] being how much
easier than others an example is, whatever the lifetime. Outcomes in unlike lifetimes share nothing
else, so

    var(c) / N  =  sum over i and l != k of r[l, i] r[k, i] / (L (L - 1) T^2)

has the right expectation: each pair of lifetimes has T^2 / N examples in common. Likewise for two
learners or two splits that share the set, the covariance, of lifetimes that are the same (l != k
again) or unrelated (all pairs). With what lifetimes say of the mean for a given set, and it is all
they say, the sum is the variance over sets too: that of the two-way layout of Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1(2), 2007, in closed form.

It is of the examples as they are predicted. What they do as examples that are learned from is the
same in all lifetimes as well, and is left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.variances import Variance
from vsml_bench.data import orders
from vsml_bench.evaluation.cell import Cell, data_hashes

ExampleVariance: TypeAlias = Literal["measured", "not measured", "not applicable"]
"""not applicable: examples are generated, no two lifetimes share one."""

_SHUFFLED = {
    # mnist5k, train and test
    "05be7ba1a2024698b6c320c3e807825146547e1696c219ba4fb66fd720afc9f2": 3000,
    "b783e5c2e2f11d8520fcda43715f02317806c35526f93040f63510f802fcd655": 2000,
    # test sets of digits, breast_cancer, mnist and fashion_mnist
    "159a4d58c06f502345a8647cc96f3acf00868f7760f2989fe2bdafb989c97a48": 1500,
    "d867c65ccb78f31755730bddba52182990735f1614e335a87051cea8998c886e": 450,
    "dcfb822b30b1ffb148e006ff61548abedbb5add66e7acde5b375928da878f49b": 10000,
    "898b5bed446d4dd31f3737edc3bc55cd0fe52f81942b4cf5a70e754157af6c38": 10000,
    # random and sum_sign
    "2277a148872c047c3f3361dd6b2efba2fe3d34310ea04c7c03d7a19366323d4d": 0,
    "884a7044291185a3db24ee280ba5da10d2e0d6f62a8f1000a9d93eff0abeebe0": 0,
}
"""Content hash -> examples, of the sets that cells were recorded on before these said it."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The outcomes of one learner, example by example."""

    source: str
    """Which set they are of."""
    lifetimes: Hashable
    """Which lifetimes."""
    count: int
    """Of lifetimes."""
    sums: npt.NDArray[np.float64]
    """Sum over lifetimes of the deviations r, by example, over L T [N]."""
    deviations: npt.NDArray[np.float64]
    """r, mean over seeds, over L T [L T]."""
    _known: dict[Drawn, float] = field(default_factory=dict, repr=False)

    @property
    def distinct(self) -> int:
        """Number of examples."""
        return len(self.sums)

    def covariance(self, other: Drawn) -> float:
        """Of the two means, by the choice of examples; the variance where `other` is this one."""
        if self.source != other.source:
            return 0.0
        if other not in self._known:
            covary([self, other])
        return self._known[other]


def covary(drawn: Iterable[Drawn]) -> None:
    """Works out the covariances of all pairs at once: one product of matrices for each set and each
    choice of lifetimes."""
    by_source: dict[str, list[Drawn]] = {}
    for each in drawn:
        by_source.setdefault(each.source, []).append(each)
    for of in by_source.values():
        sums = np.stack([each.sums for each in of])
        found = sums @ sums.T
        for lifetimes in {each.lifetimes for each in of}:
            same = [place for place, each in enumerate(of) if each.lifetimes == lifetimes]
            deviations = np.stack([of[place].deviations for place in same])
            block, count = np.ix_(same, same), of[same[0]].count
            found[block] = (found[block] - deviations @ deviations.T) * count / (count - 1)
        for one, row in zip(of, found.tolist(), strict=True):
            one._known.update(zip(of, row, strict=True))


@dataclass(frozen=True, eq=False)
class Basis:
    """What the scores of one learner on one split are made of. A number of predictions alone stands
    for one of which nothing else is known."""

    predictions: int | None
    """In each lifetime; None where scores are no shares of predictions."""
    lifetimes: Hashable = None
    """Equal where lifetimes are the same, but perhaps for a change of the data; None is like no
    other."""
    drawn: Drawn | None = None
    """None where nobody knows which examples the lifetimes had, and where they share none."""
    example_variance: ExampleVariance = "not measured"


Of: TypeAlias = "Basis | int | None"


def basis(of: Of) -> Basis:
    """A number or None as what it stands for."""
    return of if isinstance(of, Basis) else Basis(of)


def over_examples(parts: Iterable[tuple[float, Of]]) -> list[Variance]:
    """What another choice of examples would do to a weighted sum of means, for each set of them.
    parts: weight, and what the mean is of."""
    sets: dict[str, list[tuple[float, Drawn]]] = {}
    for weight, of in parts:
        drawn = basis(of).drawn
        if drawn is not None:
            sets.setdefault(drawn.source, []).append((weight, drawn))
    return [_variance(of) for of in sets.values()]


def _variance(of: Sequence[tuple[float, Drawn]]) -> Variance:
    total = 0.0
    for place, (weight, drawn) in enumerate(of):
        total += weight**2 * drawn.covariance(drawn)
        total += 2 * weight * sum(w * drawn.covariance(other) for w, other in of[:place])
    value = max(0.0, total)
    return Variance(value, ((value, of[0][1].distinct - 1),))


def basis_of(cells: Sequence[Cell], correct: npt.NDArray[np.bool_], steps: range) -> Basis:
    """What outcomes of cells of one group are of. correct: of these steps, [seeds, lifetimes,
    len(steps)]."""
    first, protocol = cells[0], cells[0].plan.protocol
    seeds = tuple(first.provenance.seeds.get("meta_test", ()))
    source = " ".join(sorted(data_hashes(first, "meta_test").values()))
    lifetimes = (source, seeds, steps)
    count = shuffled(first)
    if count == 0:
        return Basis(len(steps), lifetimes, None, "not applicable")
    each_once = protocol.stream and protocol.predictions == protocol.examples
    if count is None or not each_once or len(seeds) != correct.shape[1] or len(seeds) == 1:
        return Basis(len(steps), lifetimes)
    examples = drawn_examples(first)
    right = np.count_nonzero(correct, axis=0) / correct.shape[0]
    deviations = ((right - right.mean(1, keepdims=True)) / right.size).ravel()
    chosen = examples[:, steps.start : steps.stop].ravel()
    sums = np.bincount(chosen, deviations, count).astype(np.float64)
    drawn = Drawn(source, lifetimes, len(seeds), sums, deviations)
    return Basis(len(steps), lifetimes, drawn, "measured")


def shuffled(cell: Cell) -> int | None:
    """How many examples the lifetimes of the cell are random orders of, as `EpisodeSampler` says;
    None where nobody knows."""
    known: int | None = cell.provenance.seeds.get("shuffled")
    if known is None:
        hashes = list(data_hashes(cell, "meta_test").values())
        side = cell.plan.split.meta_test
        whole = side.classes is None and not side.late_class and not side.rotations
        known = _SHUFFLED.get(hashes[0]) if len(hashes) == 1 and whole else None
    return known


def drawn_examples(cell: Cell) -> npt.NDArray[np.int64]:
    """Which examples of a set each lifetime of the cell has, in their order, had it all of them
    [lifetimes, N]; of a cell of which `shuffled` knows the set."""
    seeds, side = tuple(cell.provenance.seeds["meta_test"]), cell.plan.split.meta_test
    return _examples(seeds, side.partition, shuffled(cell) or 0)


@lru_cache(maxsize=64)
def _examples(seeds: tuple[int, ...], partition: str, count: int) -> npt.NDArray[np.int64]:
    return np.array([orders.whole(orders.of_lifetime(seed, partition), count) for seed in seeds])
