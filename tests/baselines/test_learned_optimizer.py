"""The learned optimiser: hand-set it is SGD, or Adam without momentum, of PyTorch; with any
meta-parameters it is what its equations say of one weight after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import learned_optimizer
from baselines.learned_optimizer import TIMES, LearnedOptimizer, LearnedOptimizerConfig
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    generator,
    make_stream,
    meta_train_briefly,
    parameters_without_gradient,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
STEPS = 12
CONFIG = LearnedOptimizerConfig(hidden=3, momenta=(0.5, 0.9))
RATE = CONFIG.fresh_rate / (SHAPE.features + 1)


def make_learner(config: LearnedOptimizerConfig = CONFIG) -> LearnedOptimizer:
    learner = LearnedOptimizer(config)
    learner.init_meta_parameters(generator(1))
    return learner


def hand_set(**rates: float) -> LearnedOptimizer:
    """Only these rates, and a network that is silent: g, m_0.5, m_0.9, and the same over v."""
    learner = make_learner()
    names = ("g", "m5", "m9", "g_v", "m5_v", "m9_v", "direction")
    with torch.no_grad():
        learner.rates.copy_(torch.tensor([rates.get(name, 0.0) for name in names]))
    return learner


def trained_by(
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], inputs: Tensor, labels: Tensor
) -> Tensor:
    """Logits of one lifetime of PyTorch's own loop on a linear classifier."""
    classifier = nn.Linear(SHAPE.features, SHAPE.classes)
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    stepper = optimizer(list(classifier.parameters()))
    rows = []
    for x, y in zip(inputs, labels, strict=True):
        logits = classifier(x.flatten())
        rows.append(logits.detach())
        stepper.zero_grad()
        nn.functional.cross_entropy(logits, y).backward()
        stepper.step()
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("rates", "optimizer"),
    [
        ({"g": 3.0}, lambda p: torch.optim.SGD(p, lr=3 * RATE)),
        ({"g_v": 2.0}, lambda p: torch.optim.Adam(p, lr=2 * RATE, betas=(0.0, 0.999), eps=1e-12)),
    ],
    ids=["SGD", "Adam without momentum"],
)
def test_hand_set_it_is_a_classical_optimizer(rates, optimizer, monkeypatch):
    monkeypatch.setattr(learned_optimizer, "EPSILON", 1e-12)
    with double_precision():
        inputs, labels = make_stream(SHAPE, STEPS, 2)
        learner = hand_set(**rates)
        with torch.no_grad():
            logits, _ = learner.unroll(fresh_state(learner, 2, SHAPE), inputs, labels)
        for e in range(2):
            expected = trained_by(optimizer, inputs[:, e], labels[:, e])
            torch.testing.assert_close(logits[:, e], expected, rtol=1e-5, atol=1e-5)


def test_fresh_it_is_sgd():
    with double_precision(), torch.no_grad():
        inputs, labels = make_stream(SHAPE, STEPS, 2)
        found, expected = (
            learner.unroll(fresh_state(learner, 2, SHAPE), inputs, labels)[0]
            for learner in (make_learner(), hand_set(g=1.0))
        )
    torch.testing.assert_close(found, expected)


def textbook_logits(learner: LearnedOptimizer, inputs: np.ndarray, labels: np.ndarray):
    """One lifetime, inputs [T, D]: the network runs for one weight after the other."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    config, x_all = learner.config, np.hstack([inputs, np.ones((len(inputs), 1))])
    shape = (SHAPE.classes, x_all.shape[1])
    w, v, momenta = np.zeros(shape), np.zeros(shape), [np.zeros(shape) for _ in config.momenta]
    rows = []
    for t, (x, y) in enumerate(zip(x_all, labels, strict=True), start=1):
        logits = w @ x
        rows.append(logits)
        g = np.outer(np.exp(logits) / np.exp(logits).sum() - np.eye(SHAPE.classes)[y], x)
        momenta = [b * m + (1 - b) * g for b, m in zip(config.momenta, momenta, strict=True)]
        v = config.second * v + (1 - config.second) * g**2
        mean_square = v / (1 - config.second**t)
        inverse = 1 / np.sqrt(mean_square + 1e-8)
        terms = [g, *momenta, *(m * inverse for m in (g, *momenta))]
        features = [f / np.sqrt(np.mean(f**2) + 1e-16) for f in (*terms, mean_square, w, inverse)]
        ages = [math.tanh(t / time) for time in TIMES]
        new = w.copy()
        for index in np.ndindex(*shape):
            u = np.array([*(f[index] for f in features), *ages])
            for name in ("first", "second"):
                u = np.maximum(p[f"{name}.weight"] @ u + p[f"{name}.bias"], 0)
            factor, direction = p["last.weight"] @ u + p["last.bias"]
            rates = config.fresh_rate / len(x) * p["rates"]
            classical = sum(r * s[index] for r, s in zip(rates[:-1], terms, strict=True))
            new[index] -= math.exp(factor) * classical + rates[-1] * direction
        w = new
    return np.stack(rows)


def off_its_start() -> LearnedOptimizer:
    learner = make_learner()
    with torch.no_grad():
        for index, parameter in enumerate(learner.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator(index)), alpha=0.3)
    return learner


def test_it_follows_its_equations():
    with double_precision(), torch.no_grad():
        learner = off_its_start()
        inputs, labels = make_stream(SHAPE, STEPS, 2)
        logits, _ = learner.unroll(fresh_state(learner, 2, SHAPE), inputs, labels)
        for e in range(2):
            expected = textbook_logits(
                learner, inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            )
            np.testing.assert_allclose(logits[:, e], expected, rtol=1e-8, atol=1e-8)


def test_every_meta_parameter_gets_a_gradient():
    assert parameters_without_gradient(off_its_start(), SHAPE) == []


def test_meta_training_makes_it_quicker_than_where_it_began():
    shape = Shape((3,), 2)
    losses = meta_train_briefly(make_learner(), shape, updates=25, learning_rate=3e-2)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:3]) * 5 / 3
