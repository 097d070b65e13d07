"""Few-shot episodes of stored examples: which of them a task learns from and is asked about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ShotSampler:
    """Draws N-way K-shot episodes from examples with these labels.

    labels [n]. support, bool [n], says of a fixed list of episodes which examples are learned from;
    None leaves that to chance. Examples are named by their position in `labels`.
    """

    def __init__(self, labels: NDArray[np.int64], support: NDArray[np.bool_] | None) -> None:
        self._support = support
        present, counts = np.unique(labels, return_counts=True)
        by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
        self._examples = dict(zip(present.tolist(), by_class, strict=True))

    def classes(self, shots: int, queries: int) -> list[int]:
        """The labels that have `shots` examples to learn from and `queries` others."""
        enough = [k for k, own in self._examples.items() if len(own) >= shots + queries]
        if self._support is None:
            return enough
        support = self._support
        return [k for k in enough if np.count_nonzero(support[self._examples[k]]) == shots]

    def draw(
        self,
        task: np.random.Generator,
        stream: np.random.Generator,
        ways: int,
        shots: int,
        queries: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One episode: positions and labels of N K support examples, then of N Q queries.

        Returns two arrays [N K + N Q]. The order in which the classes are drawn from `task` names
        them, and support and queries are each shuffled, so that neither a class's place in the data
        nor an example's place in the episode tells its label.
        """
        kept = task.permutation(self.classes(shots, queries))[:ways]
        chosen = np.stack([self._examples_of(k, stream)[: shots + queries] for k in kept])
        labels = np.broadcast_to(np.arange(ways)[:, None], chosen.shape)  # [N, K + Q]
        parts = [slice(0, shots), slice(shots, None)]
        orders = [stream.permutation(ways * shots), stream.permutation(ways * queries)]
        drawn, named = (
            np.concatenate([all_of[:, p].ravel()[o] for p, o in zip(parts, orders, strict=True)])
            for all_of in (chosen, labels)
        )
        return drawn, named

    def _examples_of(self, label: int, stream: np.random.Generator) -> NDArray[np.int64]:
        """The examples of a class in random order, those of its support first."""
        mixed = stream.permutation(self._examples[label])
        if self._support is None:
            return mixed
        return mixed[np.argsort(~self._support[mixed], kind="stable")]
