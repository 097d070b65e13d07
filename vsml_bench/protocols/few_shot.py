"""The few-shot protocol: learn N classes from K examples of each, then answer queries.

Every query is answered from the same state, the one after the support set, and none is observed:
nothing is learned from queries, and their order and number change nothing. Source: Vinyals et al.
2016, arXiv 1606.04080; Lake et al. 2015, Science 350, 1332-1338.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.protocols.protocol import Predictions, Protocol
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Suite

if TYPE_CHECKING:
    from vsml_bench.acceleration import Runner
    from vsml_bench.data.episodes import Episode, EpisodeSampler
    from vsml_bench.learner import State


@dataclass(frozen=True)
class FewShot(Protocol):
    """N-way K-shot episodes with Q queries of each class."""

    ways: int
    """N, classes of an episode."""
    shots: int
    """K, support examples of each class."""
    queries: int
    """Q, queries of each class."""

    name = "few_shot"
    metric = "accuracy"
    stream = False
    needs = "few_shot"
    # Held-out classes, not examples, show whether unseen classes can be learned.
    fit = "fit_classes"
    validation = "validation_classes"

    @classmethod
    def of(cls, suite: Suite, side: TaskDistribution, where: str) -> FewShot:
        """Episodes with as many classes as the side's tasks have."""
        if side.classes is None:
            raise VsmlBenchError(
                f"suite '{suite.name}' is few_shot, but {where} does not say how many classes a "
                "task has; give it `classes`."
            )
        return cls.filled(suite, ways=side.classes)

    @property
    def predictions(self) -> int:
        """N Q: only queries are scored."""
        return self.ways * self.queries

    @property
    def learning_steps(self) -> int:
        """N K: only the support set is learned from."""
        return self.ways * self.shots

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
