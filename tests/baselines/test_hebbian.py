"""Plastic weights against a loop over single weights, and what tells Oja's rule from Hebb's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.hebbian import Hebbian, HebbianConfig, hebb, oja
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    generator,
    make_stream,
    meta_train_briefly,
    parameters_without_gradient,
    resized,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 2, 8
CONFIGS = {
    "oja": HebbianConfig(),
    "oja, tanh": HebbianConfig(squash="tanh"),
    "hebb": HebbianConfig(oja=False),
    "hebb, tanh": HebbianConfig(oja=False, squash="tanh"),
}
every_form = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def small(config: HebbianConfig, shape: Shape = SHAPE) -> Hebbian:
    return resized(Hebbian, shape, config)


def textbook_logits(learner: Hebbian, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One lifetime, one weight after the other: inputs [T, D], labels [T]; returns [T, K]."""
    w, alpha, bias = (
        p.detach().numpy() for p in (learner.weight, learner.plasticity, learner.bias)
    )
    eta = 1 / (1 + math.exp(-learner.rate_log_odds.item()))
    classes, size = w.shape
    features = size - 2 * classes
    scaled = w.copy()
    scaled[:, :features] /= math.sqrt(features)
    trace = np.zeros((classes, size))
    outputs = []

    def unit(i: int, x: np.ndarray) -> float:
        weighted = ((scaled[i, j] + alpha[i, j] * trace[i, j]) * x[j] for j in range(size))
        return math.sqrt(features) * float(bias[i]) + sum(map(float, weighted))

    for example, y in zip(inputs, labels, strict=True):
        nothing = np.zeros(2 * classes)
        driven = [unit(i, np.concatenate([example, nothing])) for i in range(classes)]
        logits = np.array([100 * math.tanh(z / 100) for z in driven])
        label = np.eye(classes)[y]
        error = np.exp(logits) / np.exp(logits).sum() - label
        x = np.concatenate([example, error, label])
        driven = [unit(i, x) for i in range(classes)]
        total = sum(math.exp(z) for z in driven)
        softmax = learner.config.squash == "softmax"
        u = [math.exp(z) / total if softmax else math.tanh(z) for z in driven]
        for i in range(classes):
            for j in range(size):
                forgotten = u[i] ** 2 if learner.config.oja else 1.0
                trace[i, j] += eta * (u[i] * x[j] - forgotten * trace[i, j])
        outputs.append(logits)
    return np.stack(outputs)


@every_form
def test_it_follows_its_equations(config: HebbianConfig):
    with double_precision(), torch.no_grad():
        learner = small(config)
        learner.weight.uniform_(-1.0, 1.0, generator=generator(3))
        learner.plasticity.uniform_(-1.0, 1.0, generator=generator(4))
        learner.bias.uniform_(-9.0, 9.0, generator=generator(5))
        learner.rate_log_odds.fill_(-1.0)
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        assert logits.abs().max() > 5, "the bound has to show"
        for e in range(LIFETIMES):
            expected = textbook_logits(
                learner, inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            )
            np.testing.assert_allclose(logits[:, e], expected, rtol=1e-9, atol=1e-9)


def test_ojas_rule_finds_the_first_principal_component_where_hebbs_diverges():
    """For a linear unit u = F x, as in Oja's paper: F goes to a unit vector along the component."""
    with double_precision():
        draws = torch.randn(2000, 3, generator=generator(0))
        axes = torch.linalg.qr(torch.randn(3, 3, generator=generator(1))).Q
        examples = draws * torch.tensor([2.0, 1.0, 0.5]) @ axes.T
        rate = torch.tensor(0.01)
        traces = {rule: torch.full((1, 1, 3), 0.1) for rule in (oja, hebb)}
        for x in examples.unsqueeze(1):
            traces = {
                rule: rule(trace, x, (trace @ x.unsqueeze(-1)).squeeze(-1), rate)
                for rule, trace in traces.items()
            }
    assert traces[oja].norm().item() == pytest.approx(1, abs=0.1)
    assert abs(traces[oja][0, 0] @ axes[:, 0]) > 0.97
    assert traces[hebb].norm() > 1e6


def test_fresh_plasticity_and_the_models_of_the_board():
    learners = {name: Hebbian(config) for name, config in Hebbian.variants.items()}
    assert {name: learner.config for name, learner in learners.items()} == {
        "hebbian-oja": HebbianConfig(oja=True, squash="softmax"),
        "hebbian-oja-tanh": HebbianConfig(oja=True, squash="tanh"),
        "hebbian": HebbianConfig(oja=False, squash="tanh"),
    }
    learner = learners["hebbian"]
    learner.init_meta_parameters(generator(0))
    assert learner.weight.shape == learner.plasticity.shape == (62, 784 + 2 * 62)
    assert (learner.plasticity == 0.01).all()
    assert torch.sigmoid(learner.rate_log_odds).item() == pytest.approx(0.010987, abs=1e-6)
    assert learner.weight[:, :784].abs().max() <= 1 / 28


@every_form
def test_every_meta_parameter_gets_a_gradient(config: HebbianConfig):
    assert parameters_without_gradient(small(config), SHAPE) == []


@every_form
def test_meta_training_teaches_it_to_learn(config: HebbianConfig):
    shape = Shape((3,), 2)
    losses = meta_train_briefly(small(config, shape), shape, updates=60, learning_rate=5e-2)
    assert sum(losses[:3]) / 3 > 0.9 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.6 * math.log(2)
