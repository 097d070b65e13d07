"""The online protocol beside true online backpropagation, from the same weights on the same stream.

Measured along the way, in `WINDOWS` windows of equally many examples:

    reference_accuracy      of true backpropagation
    perturbed_accuracy      of true backpropagation from weights that differ by 1 %: the yardstick
    update_correlation      of all weight updates, the learner's and those that backpropagation
                            would have made from the weights that the learner had before each
    update_error            their relative error, |learner - true| / |true|
    change_correlation      at the end of the window, of the weights' total change since the start,
                            between the learner and the reference
    largest_weight, reference_largest_weight    at the end of the window

and after the stream, at `IDLE` points of `IDLE_EXAMPLES` further examples without anything in them,

    drift                   how far the stored weight has moved that moved furthest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.protocols.online import Online

if TYPE_CHECKING:
    from vsml_bench.acceleration import Runner
    from vsml_bench.data.episodes import Episode, EpisodeSampler
    from vsml_bench.learner import State
    from vsml_bench.protocols.protocol import Predictions

WINDOWS = 100
IDLE, IDLE_EXAMPLES = 10, 1000


@dataclass(frozen=True)
class Cloning(Online):
    """Streams of T examples for learners that imitate an algorithm."""

    name = "cloning"
    needs = "cloning"

    def check(self, sampler: EpisodeSampler) -> None:
        """As in `Online`; a stream needs an example for each window as well."""
        super().check(sampler)
        if self.steps < WINDOWS:
            raise VsmlBenchError(
                f"steps: cloning is measured in {WINDOWS} windows, so that lifetimes need as many "
                f"examples or more, found {self.steps}."
            )

    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Predicts and observes every example; the traces are those of the module's text."""
        from vsml_bench.studies.cloning.comparison import compare

        return compare(runner, state, episode)

    def warm_up(self, runner: Runner, state: State, episode: Episode) -> None:
        """Two steps: the second is the first that follows another."""
        for x_t, y_t in zip(episode.inputs[:2], episode.labels[:2], strict=True):
            _, state = runner.step(state, x_t, y_t)
