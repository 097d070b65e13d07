"""Ridge regression, step by step and in blocks, against a fit from scratch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from baselines.ridge import BLOCK, RandomFeaturesRidge, Ridge, RidgeConfig
from tests.baselines.streams import double_precision, fresh_state, loop, make_stream
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 2, 2 * BLOCK + 40
AT = (1, 2, 7, 50, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, STEPS - 1)


@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
def test_both_ways_are_a_fit_from_scratch(strength: float):
    learner = Ridge(RidgeConfig(strength))
    with double_precision():
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        looped, looped_last = loop(learner, state, inputs, labels)
        unrolled, unrolled_last = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(unrolled, looped, rtol=0, atol=1e-10)
    torch.testing.assert_close(unrolled_last, looped_last, rtol=0, atol=1e-10)
    x = np.concatenate([inputs.flatten(2).numpy(), np.ones((STEPS, LIFETIMES, 1))], axis=-1)
    y = np.eye(SHAPE.classes)[labels.numpy()]
    for lifetime in range(LIFETIMES):
        for step in AT:
            seen, targets = x[:step, lifetime], y[:step, lifetime]
            model = SklearnRidge(alpha=strength, fit_intercept=False).fit(seen, targets)
            expected = model.predict(x[step : step + 1, lifetime])[0]
            np.testing.assert_allclose(looped[step, lifetime], expected, rtol=0, atol=1e-10)
            np.testing.assert_allclose(unrolled[step, lifetime], expected, rtol=0, atol=1e-10)


def test_it_stays_exact_where_the_fit_is_hard():
    """More inputs than examples for long, inputs of very different scale, float32 around it."""
    shape = Shape((120,), 3)
    learner = Ridge(RidgeConfig(0.1))
    inputs, labels = make_stream(shape, 700, 1)
    inputs = inputs * torch.logspace(-2, 1.5, 120)
    logits, _ = learner.unroll(fresh_state(learner, 1, shape), inputs, labels)
    x = np.concatenate([inputs[:, 0].double().numpy(), np.ones((700, 1))], axis=-1)
    y = np.eye(3)[labels[:, 0].numpy()]
    for step in (60, 121, 300, 699):
        system = x[:step].T @ x[:step] + 0.1 * np.eye(121)
        expected = x[step] @ np.linalg.solve(system, x[:step].T @ y[:step])
        np.testing.assert_allclose(logits[step, 0], expected, rtol=0, atol=1e-6)


def test_the_bias_is_learned():
    """Inputs of zero say nothing; what is left is the share of each label, held towards zero."""
    learner = Ridge(RidgeConfig(2.0))
    labels = torch.tensor([0, 0, 1, 0, 2, 0]).unsqueeze(-1)
    state = fresh_state(learner, 1, Shape((3,), 3))
    logits, _ = learner.unroll(state, torch.zeros(6, 1, 3), labels)
    torch.testing.assert_close(logits[5, 0], torch.tensor([3.0, 1.0, 1.0]) / (5 + 2))


def test_random_units_are_what_ridge_regression_is_fitted_to():
    learner = RandomFeaturesRidge(RidgeConfig(3.0))
    inputs, labels = make_stream(SHAPE, BLOCK + 9, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    looped, _ = loop(learner, state, inputs, labels)
    logits, _ = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(logits, looped, rtol=1e-4, atol=1e-5)
    assert not torch.equal(state.weights[0], state.weights[1]), "a lifetime has units of its own"

    x = inputs[:, 0].flatten(1).double().numpy()
    z = np.maximum(x @ state.weights[0].double().numpy() + state.bias[0].double().numpy(), 0)
    assert z.shape[1] == 2 * SHAPE.features
    draws = np.maximum(np.random.default_rng(1).normal(0, np.sqrt(1.25), 10**6), 0)
    units = np.append((z - draws.mean()) / draws.std(), np.ones((len(z), 1)), axis=1)
    step = BLOCK + 5
    model = SklearnRidge(alpha=3.0, fit_intercept=False)
    model.fit(units[:step], np.eye(SHAPE.classes)[labels[:step, 0].numpy()])
    expected = model.predict(units[step : step + 1])[0]
    np.testing.assert_allclose(logits[step, 0], expected, rtol=0, atol=5e-3)
