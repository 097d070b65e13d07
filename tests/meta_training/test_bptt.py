"""The meta-gradient against finite differences, and the meta-loss against its definition."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.runners import on_cpu
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Shape, State
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.meta_training.objective import Objective, meta_loss
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import stepwise_loss
from vsml_bench.seeds import generator
from vsml_bench.vsml.variants import VSML, VSMLConfig

SHAPE = Shape((1, 2, 2), 3)
STEPS, LIFETIMES = 4, 2

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _setting(config: VSMLConfig) -> tuple[VSML, Episode]:
    learner = VSML(config)
    learner.init_meta_parameters(generator(0))
    with torch.no_grad():  # the initial +-5 gate biases hide most of the gradient
        for name, parameter in learner.named_parameters():
            if "bias" in name:
                parameter.normal_(generator=generator(1)).mul_(0.3)
    inputs = torch.randn(STEPS, LIFETIMES, *SHAPE.inputs, generator=generator(2))
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES), generator=generator(3))
    return learner, Episode(inputs, labels)


def _fresh(learner: VSML) -> State:
    return learner.init_state(LIFETIMES, SHAPE, generator(4))


def _objective(episode: Episode) -> Objective:
    return lambda learner: meta_loss(
        on_cpu(learner),
        learner.init_state(LIFETIMES, SHAPE, generator(4)),
        episode,
        Online(len(episode.labels)),
    )


def _loss(learner: VSML, episode: Episode) -> float:
    """The definition, one prediction at a time: -log softmax(logits)[label], averaged."""
    state, total = _fresh(learner), 0.0
    with torch.no_grad():
        for x_t, y_t in zip(episode.inputs, episode.labels, strict=True):
            logits, state = learner.predict(state, x_t)
            for lifetime, label in enumerate(y_t.tolist()):
                exponents = logits[lifetime].exp()
                total -= float((exponents[label] / exponents.sum()).log())
            state = learner.observe(state, y_t)
    return total / (STEPS * LIFETIMES)


@pytest.mark.parametrize(
    "config",
    [
        VSMLConfig(state_size=4, message_size=3),
        VSMLConfig(hidden=(2,), state_size=4, message_size=3, layer_norm=True, backward_pass=True),
    ],
    ids=["one-layer", "two-layers"],
)
def test_meta_gradient_against_finite_differences(config: VSMLConfig) -> None:
    learner, episode = _setting(config)
    found = backpropagate(learner, _objective(episode))
    assert found.loss == pytest.approx(_loss(learner, episode), abs=1e-12)
    width, largest = 1e-5, 0.0
    for index, parameter in enumerate(learner.parameters()):
        # Unused ones, such as the backward head of a single layer, have none: their slope is 0.
        full = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat, gradient = parameter.data.view(-1), full.view(-1)
        chosen = torch.randperm(flat.numel(), generator=generator(10 + index))[:5].tolist()
        for position in chosen:
            before = float(flat[position])
            flat[position] = before + width
            above = _loss(learner, episode)
            flat[position] = before - width
            below = _loss(learner, episode)
            flat[position] = before
            slope = (above - below) / (2 * width)
            assert float(gradient[position]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
            largest = max(largest, abs(slope))
    assert largest > 1e-4, "only vanishing slopes were compared"


def test_accuracy_counts_predictions_made_before_their_label() -> None:
    learner, episode = _setting(VSMLConfig(state_size=4, message_size=3))
    state, hits = _fresh(learner), 0
    for x_t, y_t in zip(episode.inputs, episode.labels, strict=True):
        logits, state = learner.predict(state, x_t)
        hits += int((logits.argmax(-1) == y_t).sum())
        state = learner.observe(state, y_t)
    found = backpropagate(learner, _objective(episode))
    assert found.accuracy == pytest.approx(hits / (STEPS * LIFETIMES))


def test_a_second_call_does_not_add_up_gradients() -> None:
    learner, episode = _setting(VSMLConfig(state_size=4, message_size=3))
    gradients = []
    for _ in range(2):
        backpropagate(learner, _objective(episode))
        gradients.append([p.grad.clone() for p in learner.parameters() if p.grad is not None])
    assert gradients[0] and all(map(torch.equal, *gradients))


def test_stepwise_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[1.0, 4.0], [0.0, 0.0]]])  # [T, E, K]
    labels = torch.tensor([[0, 1], [1, 1]])
    expected = [[0.693147180560, 2.126928011043], [0.048587351574, 0.693147180560]]
    torch.testing.assert_close(stepwise_loss(logits, labels), torch.tensor(expected))
