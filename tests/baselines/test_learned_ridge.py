"""Ridge regression in a learned embedding against scikit-learn's, fitted anew at every step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from baselines import learned_ridge
from baselines.learned_ridge import ConvConfig, ConvLearnedRidge, DenseConfig, LearnedRidge
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    loop,
    make_stream,
    meta_train_briefly,
    online_meta_gradient,
    parameters_without_gradient,
    resized,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 17


def small(shape: Shape = SHAPE) -> LearnedRidge:
    learner = resized(LearnedRidge, shape, DenseConfig(hidden=(7,), width=5))
    with torch.no_grad():
        learner.log_strength.fill_(math.log(0.7))
        learner.log_scale.fill_(math.log(3.0))
    return learner


def textbook_logits(learner: LearnedRidge, inputs: np.ndarray, labels: np.ndarray, classes: int):
    """One lifetime, inputs [T, D]."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    hidden = np.maximum(inputs @ p["network.1.weight"].T + p["network.1.bias"], 0)
    embedded = hidden @ p["network.3.weight"].T + p["network.3.bias"]
    rows = [np.zeros(classes)]
    for t in range(1, len(labels)):
        fit = Ridge(alpha=0.7, fit_intercept=False, solver="cholesky")
        fit.fit(embedded[:t], np.eye(classes)[labels[:t]])
        rows.append(3.0 * fit.predict(embedded[t : t + 1])[0])
    return np.array(rows)


@pytest.mark.parametrize("block", [256, 5])
def test_both_ways_are_the_closed_form(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learned_ridge, "BLOCK", block)
    with double_precision(), torch.no_grad():
        learner = small()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        looped, after_loop = loop(learner, state, inputs, labels)
        unrolled, after = learner.unroll(state, inputs, labels)
        for e in range(LIFETIMES):
            x, y = inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            expected = textbook_logits(learner, x, y, SHAPE.classes)
            np.testing.assert_allclose(looped[:, e], expected, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(unrolled[:, e], expected, rtol=1e-8, atol=1e-8)
    for one, other in zip(after_loop, after, strict=True):
        torch.testing.assert_close(one, other)


def test_the_meta_gradient_is_that_of_the_step_by_step_recursion():
    with double_precision():
        learner = small()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        online_meta_gradient(learner, fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        blocks = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
        learner.zero_grad()
        logits, _ = loop(learner, fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        assert blocks.keys() == dict(learner.named_parameters()).keys()
        for name, parameter in learner.named_parameters():
            torch.testing.assert_close(parameter.grad, blocks[name])


def test_the_convolutional_form_answers_from_its_support_set():
    learner = ConvLearnedRidge(ConvConfig(filters=6))
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    shape = learner.fixed_shape
    inputs, labels = make_stream(shape, 8, 2, noise=0.1)
    with torch.no_grad():
        learner.log_strength.fill_(-9.0)  # next to interpolation
        state = learner.adapt(fresh_state(learner, 2, shape), inputs, labels)
        answers = learner.answer(state, inputs)
    assert (answers.argmax(-1) == labels).float().mean() == 1


def test_every_meta_parameter_gets_a_gradient():
    assert parameters_without_gradient(small(), SHAPE) == []


def test_meta_training_teaches_it_what_to_look_at():
    shape = Shape((3,), 2)
    losses = meta_train_briefly(small(shape), shape, updates=40, learning_rate=2e-2)
    assert sum(losses[-5:]) / 5 < 0.45 * math.log(2)
