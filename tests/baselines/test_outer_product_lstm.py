"""The outer-product LSTM against a loop over the single numbers of its cells."""

from __future__ import annotations

import math

import numpy as np
import torch

from baselines.outer_product_lstm import OuterProductLSTM, OuterProductLSTMConfig
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    make_stream,
    meta_train_briefly,
    parameters_without_gradient,
    resized,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 2, 6


def small(hidden: int, heads: int, shape: Shape = SHAPE) -> OuterProductLSTM:
    return resized(OuterProductLSTM, shape, OuterProductLSTMConfig(hidden, heads))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def textbook_logits(learner: OuterProductLSTM, inputs: np.ndarray, labels: np.ndarray):
    """One lifetime: inputs [T, D], labels [T]; returns logits [T, K]."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    size, heads, classes = learner.config.hidden, learner.config.heads, len(p["readout.bias"])
    scale = math.log(1 + math.exp(p["key_scale"].item()))
    first = np.hstack([p["from_inputs.weight"], p["from_feedback.weight"]])
    cell, hidden = np.zeros((heads, size, size)), np.zeros((heads, size))
    error, label = np.zeros(classes), np.zeros(classes)
    outputs = []
    for x, y in zip(inputs, labels, strict=True):
        embedded = first @ np.concatenate([x, error, label]) + p["from_inputs.bias"]
        embedded = p["embedding.weight"] @ np.maximum(embedded, 0) + p["embedding.bias"]
        z = np.concatenate([np.maximum(embedded, 0), hidden.ravel()])
        parts = (p["gates.weight"] @ z + p["gates.bias"]).reshape(8, heads, size)
        for head in range(heads):
            k_i, k_g, k_f, l_i, l_g, l_f, q, o = parts[:, head]
            for a in range(size):
                for b in range(size):
                    i = scale * math.tanh(k_i[a]) * math.tanh(l_i[b])
                    g = scale * math.tanh(k_g[a]) * math.tanh(l_g[b])
                    f = scale * math.tanh(k_f[a]) * math.tanh(l_f[b])
                    cell[head, a, b] = sigmoid(f + 1) * cell[head, a, b] + sigmoid(i) * g
            for b in range(size):
                read = sum(cell[head, a, b] * q[a] for a in range(size))
                hidden[head, b] = sigmoid(o[b]) * math.tanh(read)
        logits = p["readout.weight"] @ hidden.ravel() + p["readout.bias"]
        label = np.eye(classes)[y]
        error = np.exp(logits) / np.exp(logits).sum() - label
        outputs.append(logits)
    return np.stack(outputs)


def test_it_follows_its_equations():
    with double_precision(), torch.no_grad():
        learner = small(hidden=3, heads=2)
        learner.key_scale.fill_(0.7)
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        for e in range(LIFETIMES):
            expected = textbook_logits(
                learner, inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            )
            np.testing.assert_allclose(logits[:, e], expected, rtol=1e-9, atol=1e-9)


def test_the_state_grows_quadratically_where_meta_parameters_do_not():
    """Half the heads of twice the size: as many meta-parameters, twice the state."""
    wide, tall = small(hidden=4, heads=4), small(hidden=8, heads=2)
    counts = [sum(p.numel() for p in learner.parameters()) for learner in (wide, tall)]
    cells = [fresh_state(learner, 1, SHAPE).cell.numel() for learner in (wide, tall)]
    assert counts[0] == counts[1]
    assert cells == [4 * 4 * 4, 2 * 8 * 8]


def test_every_meta_parameter_gets_a_gradient():
    assert parameters_without_gradient(small(hidden=4, heads=2), SHAPE) == []


def test_meta_training_teaches_it_to_learn():
    shape = Shape((3,), 2)
    learner = small(hidden=8, heads=2, shape=shape)
    losses = meta_train_briefly(learner, shape, updates=70, learning_rate=1e-2)
    assert sum(losses[:5]) / 5 > 0.9 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.75 * math.log(2)
