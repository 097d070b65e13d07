"""The self-referential weight matrix against its equations in NumPy, one head after the other."""

from __future__ import annotations

import math

import numpy as np
import torch

from baselines.srwm import SRWM, SRWMConfig
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    generator,
    loop,
    make_stream,
    meta_train_briefly,
    parameters_without_gradient,
    resized,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
CONFIG = SRWMConfig(width=6, layers=2, heads=2, widening=2)
CHANNELS = 3
LIFETIMES, STEPS = 2, 9


def make_learner() -> SRWM:
    """With every meta-parameter off its start, so that none can be left out unnoticed."""
    learner = resized(SRWM, SHAPE, CONFIG)
    with torch.no_grad():
        for index, parameter in enumerate(learner.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator(index)), alpha=0.3)
    return learner


def softmax(u: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(u) / np.exp(u).sum())


def textbook_logits(learner: SRWM, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One lifetime, inputs [T, D]."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    matrices = [[w.copy() for w in p[f"blocks.{i}.start"]] for i in range(CONFIG.layers)]

    def norm(h: np.ndarray, name: str) -> np.ndarray:
        scaled = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
        return np.asarray(scaled * p[f"{name}.weight"] + p[f"{name}.bias"])

    def go(h: np.ndarray, write: bool) -> np.ndarray:
        for i in range(CONFIG.layers):
            at, given, outputs = f"blocks.{i}", norm(h, f"blocks.{i}.norm"), []
            for head in range(CONFIG.heads):
                w = matrices[i][head]
                x = softmax(given[head * CHANNELS : (head + 1) * CHANNELS])
                y, q, k, beta = np.split(w @ x, [CHANNELS, 2 * CHANNELS, 3 * CHANNELS])
                outputs.append(y)
                if write:
                    rate = 1 / (1 + np.exp(-beta))
                    rates = np.repeat(rate, [CHANNELS, CHANNELS, CHANNELS, 4])
                    new, old = w @ softmax(q), w @ softmax(k)
                    matrices[i][head] = w + np.outer(rates * (new - old), softmax(k))
            h = h + p[f"{at}.out.weight"] @ np.concatenate(outputs)
            wide = p[f"{at}.widen.weight"] @ norm(h, f"{at}.forward_norm") + p[f"{at}.widen.bias"]
            h = h + p[f"{at}.narrow.weight"] @ np.maximum(wide, 0) + p[f"{at}.narrow.bias"]
        return h

    rows = []
    for x, y in zip(inputs, labels, strict=True):
        embedded = p["embed.weight"] @ x + p["embed.bias"]
        read = norm(go(embedded + p["labels"][-1], write=False), "norm")
        rows.append(p["readout.weight"] @ read + p["readout.bias"])
        go(embedded + p["labels"][y], write=True)
    return np.stack(rows)


def test_both_ways_follow_the_equations():
    with double_precision(), torch.no_grad():
        learner = make_learner()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        looped, _ = loop(learner, state, inputs, labels)
        unrolled, _ = learner.unroll(state, inputs, labels)
        for e in range(LIFETIMES):
            expected = textbook_logits(
                learner, inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            )
            np.testing.assert_allclose(looped[:, e], expected, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(unrolled[:, e], expected, rtol=1e-9, atol=1e-9)


def test_fresh_it_finds_a_label_where_the_example_is():
    """Lifetimes that differ in one label differ more in what they say of its example than in what
    they say of others."""
    learner, count = SRWM(SRWMConfig()), 20
    learner.init_meta_parameters(generator(0))
    examples = torch.randn(count, 1, 28, 28, generator=generator(1))
    with torch.no_grad():
        state = learner.init_state(2 * count, learner.fixed_shape, generator(0))
        _, state = learner.predict(state, torch.cat([examples, examples]))
        state = learner.observe(state, torch.tensor([3] * count + [7] * count))
        said = torch.stack(
            [learner.predict(state, x.expand(2 * count, 1, 28, 28))[0] for x in examples], 1
        )
        apart = (said[:count] - said[count:]).norm(dim=-1)  # of lifetimes at examples
    own = apart.diagonal().mean()
    assert own > 1.2 * (apart.sum() - apart.trace()) / (count * (count - 1))


def test_fresh_it_is_steady_over_long_lifetimes():
    learner = SRWM(SRWMConfig())
    learner.init_meta_parameters(generator(0))
    with torch.no_grad():
        inputs, labels = make_stream(learner.fixed_shape, 500, 2)
        state = learner.init_state(2, learner.fixed_shape, generator(0))
        _, end = learner.unroll(state, inputs, labels)
    for fresh, old in zip(state.matrices, end.matrices, strict=True):
        assert old.norm() < 1.1 * fresh.norm()


def test_a_prediction_changes_no_matrix():
    learner = make_learner()
    inputs, _ = make_stream(SHAPE, 1, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    _, after = learner.predict(state, inputs[0])
    for one, other in zip(state.matrices, after.matrices, strict=True):
        assert torch.equal(one, other)


def test_every_meta_parameter_gets_a_gradient():
    assert parameters_without_gradient(make_learner(), SHAPE) == []


def test_meta_training_teaches_it_to_learn():
    shape = Shape((3,), 2)
    learner = resized(SRWM, shape, SRWMConfig(width=16, layers=1, heads=2))
    losses = meta_train_briefly(learner, shape, updates=60, learning_rate=3e-2)
    assert losses[0] > 0.85 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.75 * math.log(2)
