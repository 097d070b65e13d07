"""The few-shot protocol: learn N classes from K examples of each, then answer queries.

Every query is answered from the same state, the one after the support set, and none is observed:
nothing is learned from queries, and their order and number change nothing. Source: Vinyals et al.
2016, arXiv 1606.04080; Lake et al. 2015, Science 350, 1332-1338.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.data.subsets import Subset
from vsml_bench.learner import State
from vsml_bench.protocols.protocol import Predictions, Protocol


@dataclass(frozen=True)
class FewShot(Protocol):
    """N-way K-shot episodes with Q queries of each class."""

    ways: int
    """N, classes of an episode."""
    shots: int
    """K, support examples of each class."""
    queries: int
    """Q, queries of each class."""

    # Held-out classes, not examples, show whether unseen classes can be learned.
    fit: ClassVar[Subset] = "fit_classes"
    validation: ClassVar[Subset] = "validation_classes"

    @property
    def predictions(self) -> int:
        """N Q: only queries are scored."""
        return self.ways * self.queries

    @property
    def learning_steps(self) -> int:
        """N K: only the support set is learned from."""
        return self.ways * self.shots

    @property
    def examples(self) -> int:
        """N (K + Q), all examples of an episode."""
        return self.learning_steps + self.predictions

    def check(self, sampler: EpisodeSampler) -> None:
        """Refuses data with too few classes or examples."""
        sampler.check_shots(self.shots, self.queries)

    def sample(self, sampler: EpisodeSampler, seeds: Sequence[int]) -> Episode:
        """Episodes [N K + N Q, E, ...], the support first."""
        return sampler.sample_shots(seeds, self.shots, self.queries)

    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Adapts to the support, then answers the queries."""
        support = self.learning_steps
        state = runner.adapt(state, episode.inputs[:support], episode.labels[:support])
        logits = runner.answer(state, episode.inputs[support:])
        return Predictions(logits, episode.scored[support:], state)

    def warm_up(self, runner: Runner, state: State, episode: Episode) -> None:
        """A whole episode: a learner may take its support set at once."""
        self.run(runner, state, episode)
