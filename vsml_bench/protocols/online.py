"""The online (prequential) protocol: predict x_t, then see y_t, and score every prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.protocols.protocol import Predictions, Protocol

if TYPE_CHECKING:
    from vsml_bench.acceleration import Runner
    from vsml_bench.data.episodes import Episode, EpisodeSampler
    from vsml_bench.learner import State


@dataclass(frozen=True)
class Online(Protocol):
    """Lifetimes of T examples, each predicted before its label is seen."""

    steps: int
    """T."""

    name = "online"

    def fitted(self, sampler: EpisodeSampler) -> Online:
        """Streams no longer than the data."""
        if sampler.max_steps is None:
            return self
        return replace(self, steps=min(self.steps, sampler.max_steps))

    @property
    def predictions(self) -> int:
        """Every step is scored."""
        return self.steps

    @property
    def learning_steps(self) -> int:
        """Every step is learned from."""
        return self.steps

    def check(self, sampler: EpisodeSampler) -> None:
        """Refuses a fixed list of few-shot episodes, which says what is never learned from."""
        if sampler.fixed_episodes is not None:
            raise VsmlBenchError(
                f"dataset '{sampler.distribution.datasets[0]}' is a fixed list of few-shot "
                "episodes; use it in a suite with the protocol 'few_shot'."
            )

    def sample(self, sampler: EpisodeSampler, seeds: Sequence[int]) -> Episode:
        """Streams of T examples."""
        return sampler.sample(seeds, self.steps)

    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Predicts and observes every example."""
        logits, state = runner.unroll(state, episode.inputs, episode.labels)
        return Predictions(logits, episode.scored, state)

    def warm_up(self, runner: Runner, state: State, episode: Episode) -> None:
        """Two steps: the second is the first that follows another."""
        runner.unroll(state, episode.inputs[:2], episode.labels[:2])
