"""What it does to intervals that lifetimes draw from a finite set of test examples.

    python -m tools.interval_over_examples --suite desk
    python -m tools.interval_over_examples --sets --data-root DATA

The first prints, for each row of a published board, half of three 95 % intervals: over lifetimes
and seeds for the test examples that there are, over other examples too, as boards have it
(`boards/examples.py`), and the latter by the pigeonhole bootstrap (Owen 2007), which resamples
lifetimes, examples and seeds alike. The bootstrap counts the chance of single predictions up to
three times, so it is the widest.

The second asks data instead of formulas: 1-nn learns from twenty sets of 500 examples of
Fashion-MNIST that have none in common. How far apart the twenty accuracies are is what an interval
over examples has to say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from vsml_bench import api
from vsml_bench.boards.examples import drawn_examples
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import estimate
from vsml_bench.data.datasets import load

RESAMPLES = 1000
SETS, EXAMPLES, LIFETIMES = 20, 500, 6


def main(arguments: list[str] | None = None) -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", default="desk")
    parser.add_argument("--sets", action="store_true", help="ask sets of Fashion-MNIST instead")
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args(arguments)
    if options.sets:
        print(_of_sets(options.data_root))
        return 0
    groups = [row.group for row in api.board(options.suite).rows]
    rows = [row for of in groups if of.finished for row in _rows(of)]
    heads = ("split", "learner", "examples", "mean", "lifetimes", "with examples", "bootstrap")
    print(tabulate(rows, heads, tablefmt="github", floatfmt=".2f"))
    growth = [row[5] / row[4] for row in rows if row[4]]
    print(f"\nWith examples intervals are {np.median(growth):.1f} times as wide (median).")
    return 0


def _rows(group: Group) -> Iterator[tuple[Any, ...]]:
    """In percent; none where the examples are not known."""
    drawn, found = group.basis.drawn, group.estimate
    if drawn is None:
        return
    alone = estimate(group.scores, group.has_meta_parameters, group.correct.shape[2])
    halves = [50 * (of.high - of.low) for of in (alone, found)]
    resampled = 100 * 1.96 * _bootstrap(group.correct, drawn_examples(group.cells[0]))
    yield (group.split, group.learner, drawn.distinct, 100 * found.mean, *halves, resampled)


def _bootstrap(correct: npt.NDArray[np.bool_], examples: npt.NDArray[np.int64]) -> float:
    """Standard deviation of the mean.

    correct [seeds, lifetimes, steps]; examples [lifetimes, N], of which each has the first ones."""
    random = np.random.default_rng(0)
    seeds, lifetimes, steps = correct.shape
    count = examples.shape[1]
    chosen = examples[:, :steps]
    by_example, met = np.zeros((seeds, lifetimes, count)), np.zeros((lifetimes, count))
    np.put_along_axis(met, chosen, 1.0, 1)
    for seed in range(seeds):
        np.put_along_axis(by_example[seed], chosen, correct[seed].astype(float), 1)

    def weights(size: int) -> npt.NDArray[np.int64]:  # [resamples, size]
        return random.multinomial(size, np.full(size, 1 / size), RESAMPLES)

    of_examples, of_lifetimes, of_seeds = weights(count), weights(lifetimes), weights(seeds) / seeds
    whole = ((of_examples @ met.T) * of_lifetimes).sum(1)
    parts = [((of_examples @ by_example[s].T) * of_lifetimes).sum(1) for s in range(seeds)]
    return float(((np.stack(parts, 1) * of_seeds).sum(1) / whole).std())


def _of_sets(root: Path | None) -> str:
    """Standard errors of the mean accuracy of 1-nn on one set, and how far sets are apart."""
    examples = load("fashion_mnist", "test", root).examples
    assert examples is not None
    inputs = examples.inputs.reshape(len(examples), -1).astype(np.float64)
    random = np.random.default_rng(0)
    order = random.permutation(len(examples))[: SETS * EXAMPLES].reshape(SETS, EXAMPLES)
    rows = []
    for steps in (EXAMPLES, EXAMPLES // 2):
        means, alone, more = [], [], []
        for chosen in order:
            squares = (inputs[chosen] ** 2).sum(1)
            distances = squares[:, None] + squares - 2 * inputs[chosen] @ inputs[chosen].T
            drawn = np.stack([random.permutation(EXAMPLES)[:steps] for _ in range(LIFETIMES)])
            right = np.stack([_one_nn(distances, examples.labels[chosen], of) for of in drawn])
            rest = (right - right.mean(1, keepdims=True)) / right.size
            sums = np.bincount(drawn.ravel(), rest.ravel(), EXAMPLES)
            means.append(right.mean())
            alone.append(right.mean(1).var(ddof=1) / LIFETIMES)
            more.append((sums @ sums - (rest**2).sum()) * LIFETIMES / (LIFETIMES - 1))
        variances = (np.var(means, ddof=1), np.mean(alone) + np.mean(more), np.mean(alone))
        rows.append((steps, *(100 * np.sqrt(variances))))
    heads = ("steps", "sets apart (standard deviation)", "error with examples", "of lifetimes")
    return str(tabulate(rows, heads, tablefmt="github", floatfmt=".2f"))


def _one_nn(
    distances: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Whether each example of a lifetime is right by the nearest of those before it."""
    before = distances[np.ix_(order, order)]
    before[np.triu_indices(len(order))] = np.inf
    named = labels[order]
    right: npt.NDArray[np.float64] = (named[before.argmin(1)] == named).astype(np.float64)
    right[0] = 0.0
    return right


if __name__ == "__main__":
    sys.exit(main())
