"""What is measured beside true backpropagation, on learners whose answer is known."""

from __future__ import annotations

import pytest
import torch

from tests.runners import on_cpu
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Shape
from vsml_bench.protocols.online import Online
from vsml_bench.sides import TaskDistribution
from vsml_bench.studies.cloning.backpropagation import (
    Backpropagation,
    BackpropagationConfig,
    BackpropagationState,
)
from vsml_bench.studies.cloning.protocol import IDLE, WINDOWS, Cloning

SHAPE, LIFETIMES, STEPS = Shape((1, 2, 3), 4), 3, 250


class Hasty(Backpropagation):
    """Imitates backpropagation with half of its own rate, and forgets a little all the time."""

    forgetting = 0.0

    def reference(self) -> Backpropagation:
        return Backpropagation(BackpropagationConfig(rate=self.config.rate / 2))

    def observe(self, state: BackpropagationState, labels: torch.Tensor) -> BackpropagationState:
        state = super().observe(state, labels)
        return state._replace(weights=tuple(w - self.forgetting for w in state.weights))


def episode() -> Episode:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(SHAPE.classes, *SHAPE.inputs, generator=draw)
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES), generator=draw)
    noise = torch.randn(STEPS, LIFETIMES, *SHAPE.inputs, generator=draw)
    return Episode(centres[labels] + 0.3 * noise, labels)


def run(learner: Backpropagation):
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return Cloning(STEPS).run(on_cpu(learner), state, episode()), state


def test_backpropagation_is_itself() -> None:
    learner = Backpropagation(BackpropagationConfig((5,), rate=0.1, momentum=0.5))
    found, state = run(learner)
    with torch.inference_mode():
        plain = Online(STEPS).run(on_cpu(learner), state, episode())
    assert torch.equal(found.logits, plain.logits)
    traces = found.traces
    right = (plain.logits.argmax(-1) == plain.labels).float()
    torch.testing.assert_close(
        traces["reference_accuracy"].mean(1), right.mean(0), atol=0.02, rtol=0
    )
    for name in ("update_correlation", "change_correlation"):
        assert traces[name].shape == (LIFETIMES, WINDOWS)
        torch.testing.assert_close(traces[name], torch.ones(LIFETIMES, WINDOWS))
    assert traces["update_error"].max() < 1e-5
    assert torch.equal(traces["largest_weight"], traces["reference_largest_weight"])
    yardstick = (traces["perturbed_accuracy"] - traces["reference_accuracy"]).mean(1).abs()
    assert yardstick.max() < 0.05


def test_an_update_twice_as_large_is_off_by_its_size() -> None:
    found, _ = run(Hasty(BackpropagationConfig(rate=0.1)))
    torch.testing.assert_close(found.traces["update_correlation"], torch.ones(LIFETIMES, WINDOWS))
    torch.testing.assert_close(
        found.traces["update_error"], torch.ones(LIFETIMES, WINDOWS), atol=1e-3, rtol=0
    )
    assert (found.traces["change_correlation"][:, -1] < 0.9999).all()
    assert torch.equal(found.traces["drift"], torch.zeros(LIFETIMES, IDLE))


def test_forgetting_shows_as_drift() -> None:
    learner = Hasty(BackpropagationConfig(rate=0.1))
    learner.forgetting = 1e-3
    found, _ = run(learner)
    expected = torch.linspace(0.1, 1.0, IDLE).expand(LIFETIMES, IDLE)
    torch.testing.assert_close(found.traces["drift"], expected, atol=1e-3, rtol=0)


def test_a_stream_has_an_example_for_each_window() -> None:
    side = TaskDistribution(datasets=("digits",), partition="train")
    with pytest.raises(VsmlBenchError, match="steps: cloning is measured in 100 windows"):
        Cloning(WINDOWS - 1).check(EpisodeSampler(side))
    Cloning(WINDOWS).check(EpisodeSampler(side))
