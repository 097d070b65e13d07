"""How it learns: the online protocol, with a look inside that leaves the lifetime as it was.

Two looks. How sure of the true class are the predictions of the first, second, ... example of a
class? And what does a single example do? For that a second lifetime is run on the same stream
without one class, that of the stream's first example. At some moments it branches: in a copy, one
example of one class is learned from, and two examples of each class are predicted before and after,
one of them the example itself. The same is done once more with a further example in between, that
which the stream goes on with. Branches are thrown away; no state is ever written to, which the
contract forbids learners as well.

The examples of the branches are the last two of each class in the stream. The second lifetime does
not learn from them, so that they are new at every moment and the same at all of them.

Source: introspection of the learned algorithm in Kirsch & Schmidhuber 2021, arXiv 2012.14905.
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

OCCURRENCES = 20
"""Traces `CONFIDENCE` and `ACCURACY` [E, OCCURRENCES]: what the first, second, ... example of a
class got, averaged over the classes that have so many in the lifetime."""
CONFIDENCE = "confidence"
"""Softmax probability, over all outputs that the learner has, of the true class."""
ACCURACY = "accuracy"
"""Whether the true class had the largest logit, 0 or 1."""

RESPONSES = {
    "same example": "the example itself is shown again",
    "same class": "an example after one of its class",
    "other class": "an example after one of another class, both seen before",
    "new class": "an example of a class seen before, after the first one of a class never shown",
    "first of its class": "an example of a class never shown, after the first one of its class",
}
"""Trace -> what it is the response of. Each is [E, moments, LAGS, 2, 2]: first before, then after
the one example in between; first confidence, then accuracy."""

LAGS = ("at once", "one later")
"""When the question is asked: next, or after a further example, the same before and after. What was
seen may need a step to take effect: VSML meets an error together with the next example."""

MOMENTS = (0, 10, 30, 100, 300)
"""Examples that a probed state has learned from."""


def moments(steps: int) -> tuple[int, ...]:
    """Those within a lifetime of so many steps."""
    return tuple(moment for moment in MOMENTS if moment < steps)


@dataclass(frozen=True)
class Introspection(Online):
    """Lifetimes of T examples, scored as in `Online` and to the same bits, with the traces that
    are laid out above."""

    name = "introspection"

    def check(self, sampler: EpisodeSampler) -> None:
        """As in `Online`; a lifetime of one example has nothing to look at either."""
        super().check(sampler)
        if self.steps < 2:
            raise VsmlBenchError(
                f"steps: introspection needs lifetimes of 2 examples or more, found {self.steps}."
            )

    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Runs the lifetimes, then looks."""
        from vsml_bench.studies.introspection.probes import by_occurrence, responses

        predictions = super().run(runner, state, episode)
        traces = {
            **by_occurrence(predictions.logits, episode.scored),
            **responses(runner, state, episode, moments(self.steps)),
        }
        return predictions._replace(traces=traces)
