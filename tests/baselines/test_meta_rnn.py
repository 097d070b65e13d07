"""The Meta RNN against torch's own LSTM cell, one lifetime and example after the other."""

from __future__ import annotations

import math

import torch
from torch import nn

from baselines.meta_rnn import MetaRNN, MetaRNNConfig
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
LIFETIMES, STEPS = 3, 12


def textbook_logits(learner: MetaRNN, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One lifetime: inputs [T, D], labels [T]; returns logits [T, K]."""
    features, classes = inputs.shape[1], learner.readout.out_features
    cell = nn.LSTMCell(features + 2 * classes, learner.config.hidden)
    with torch.no_grad():
        cell.weight_ih.copy_(
            torch.cat([learner.from_inputs.weight, learner.from_feedback.weight], 1)
        )
        cell.weight_hh.copy_(learner.from_hidden.weight)
        cell.bias_ih.copy_(learner.from_inputs.bias)
        cell.bias_hh.zero_()
    hidden = memory = torch.zeros(1, learner.config.hidden)
    error, label = torch.zeros(classes), torch.zeros(classes)
    outputs = []
    for x, y in zip(inputs, labels, strict=True):
        for _ in range(learner.config.ticks):
            hidden, memory = cell(torch.cat([x, error, label])[None], (hidden, memory))
        logits = 100 * torch.tanh((learner.readout.weight @ hidden[0] + learner.readout.bias) / 100)
        label = torch.eye(classes)[y]
        error = logits.exp() / logits.exp().sum() - label
        outputs.append(logits)
    return torch.stack(outputs)


def test_it_is_torchs_lstm_fed_with_the_previous_error_and_label():
    with double_precision(), torch.no_grad():
        learner = resized(MetaRNN, SHAPE, MetaRNNConfig(hidden=5, ticks=3))
        learner.readout.weight.mul_(60)  # so that the bound shows
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        assert 30 < logits.abs().max() < 100
        for e in range(LIFETIMES):
            expected = textbook_logits(learner, inputs[:, e].flatten(1), labels[:, e])
            torch.testing.assert_close(logits[:, e], expected, rtol=1e-9, atol=1e-9)


def test_the_model_of_the_board():
    (learner,) = (MetaRNN(config) for config in MetaRNN.variants.values())
    assert learner.config == MetaRNNConfig(hidden=128, ticks=2)
    gates, inputs = 4 * 128, 784 + 62 + 62 + 128
    assert sum(p.numel() for p in learner.parameters()) == gates * (inputs + 1) + 62 * (128 + 1)


def test_a_fresh_lstm_remembers():
    learner = resized(MetaRNN, SHAPE, MetaRNNConfig(hidden=5))
    _, forget, _, _ = learner.from_inputs.bias.chunk(4)
    assert (forget >= 0).all() and (forget <= math.log(99)).all() and forget.std() > 0
    torch.testing.assert_close(learner.from_inputs.bias.sum(), forget.sum())
    for gate in learner.from_hidden.weight.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5))


def test_every_meta_parameter_gets_a_gradient():
    learner = resized(MetaRNN, SHAPE, MetaRNNConfig(hidden=5))
    assert parameters_without_gradient(learner, SHAPE) == []


def test_meta_training_teaches_it_to_learn():
    shape = Shape((3,), 2)
    learner = resized(MetaRNN, shape, MetaRNNConfig(hidden=24))
    losses = meta_train_briefly(learner, shape, updates=250, learning_rate=2e-2)
    assert sum(losses[:5]) / 5 > 0.9 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.6 * math.log(2)
