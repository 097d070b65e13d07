"""The fast weight memory against torch's LSTM cell and a memory written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from baselines.fast_weight_memory import (
    FastWeightMemory,
    FastWeightMemoryConfig,
    clip_norm,
    delta_write,
    outer_key,
    retrieve,
)
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
LIFETIMES, STEPS = 3, 12


def small(config: FastWeightMemoryConfig, shape: Shape = SHAPE) -> FastWeightMemory:
    return resized(FastWeightMemory, shape, config)


def textbook_logits(learner: FastWeightMemory, inputs: torch.Tensor, labels: torch.Tensor):
    """One lifetime: inputs [T, D], labels [T]; returns logits [T, K] and the memory's norms [T]."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    size, classes = learner.config.memory, learner.readout.out_features
    cell = nn.LSTMCell(inputs.shape[1] + 2 * classes, learner.config.hidden)
    with torch.no_grad():
        cell.weight_ih.copy_(
            torch.cat([learner.from_inputs.weight, learner.from_feedback.weight], 1)
        )
        cell.weight_hh.copy_(learner.from_hidden.weight)
        cell.bias_ih.copy_(learner.from_inputs.bias)
        cell.bias_hh.zero_()
    hidden = context = torch.zeros(1, learner.config.hidden)
    error, label, memory = np.zeros(classes), np.zeros(classes), np.zeros((size, size**2))
    outputs, norms = [], []
    for x, y in zip(inputs, labels, strict=True):
        fed = torch.as_tensor(np.concatenate([x.numpy(), error, label]))
        hidden, context = cell(fed[None], (hidden, context))
        h = hidden[0].numpy()

        s, r, v = np.split(np.tanh(p["write.weight"] @ h + p["write.bias"]), 3)
        strength = p["write_strength.weight"] @ h + p["write_strength.bias"]
        key = np.kron(s, r)
        memory = memory + 1 / (1 + np.exp(-strength)) * np.outer(v - memory @ key, key)
        norms.append(math.sqrt((memory**2).sum()))
        memory = memory / max(1.0, norms[-1])

        asked = np.tanh(p["read.weight"] @ h + p["read.bias"])
        n, *queries = np.split(asked, 1 + learner.config.reads)
        for a in queries:
            read = memory @ np.kron(n, a)
            n = (read - read.mean()) / np.sqrt(read.var() + 1e-5)
        logits = p["readout.weight"] @ (h + p["from_memory.weight"] @ n) + p["readout.bias"]
        logits = 100 * np.tanh(logits / 100)
        label = np.eye(classes)[y]
        error = np.exp(logits) / np.exp(logits).sum() - label
        outputs.append(logits)
    return np.stack(outputs), np.array(norms)


@pytest.mark.parametrize("reads", [1, 3])
def test_it_follows_its_equations(reads: int):
    norms = []
    with double_precision(), torch.no_grad():
        learner = small(FastWeightMemoryConfig(hidden=7, memory=3, reads=reads))
        learner.write.weight.mul_(10)  # strong writes, so that the norm is clipped
        learner.readout.weight.mul_(60)  # so that the bound on logits shows
        for seed, layer in enumerate((learner.write, learner.read, learner.readout)):
            layer.bias.uniform_(-1.0, 1.0, generator=generator(seed))
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, last = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        assert 30 < logits.abs().max() < 100
        for e in range(LIFETIMES):
            expected, found = textbook_logits(learner, inputs[:, e].flatten(1), labels[:, e])
            np.testing.assert_allclose(logits[:, e], expected, rtol=1e-8, atol=1e-8)
            norms.extend(found)
    assert min(norms) < 1 < max(norms), "both sides of the clip have to be seen"
    assert (last.memory.flatten(1).norm(dim=1) <= 1 + 1e-9).all()


def test_the_delta_rule_retrieves_what_was_stored():
    """Two values under orthogonal unit keys; then one is replaced and the other stays."""
    axes = torch.linalg.qr(torch.randn(2, 4, 4, generator=generator(0))).Q  # two lifetimes
    first, second = outer_key(axes[:, 0], axes[:, 1]), outer_key(axes[:, 0], axes[:, 2])
    values = torch.randn(3, 2, 4, generator=generator(1))
    always = torch.ones(2, 1)
    memory = delta_write(torch.zeros(2, 4, 16), first, values[0], always)
    memory = delta_write(memory, second, values[1], always)
    torch.testing.assert_close(retrieve(memory, first), values[0])
    memory = delta_write(memory, first, values[2], always)
    torch.testing.assert_close(retrieve(memory, first), values[2])
    torch.testing.assert_close(retrieve(memory, second), values[1])
    half = delta_write(memory, first, values[0], always / 2)
    torch.testing.assert_close(retrieve(half, first), (values[0] + values[2]) / 2)


def test_the_norm_is_clipped_per_lifetime_and_its_gradient_is_finite():
    memory = torch.stack([torch.full((2, 4), 3.0), torch.full((2, 4), 0.1), torch.zeros(2, 4)])
    memory.requires_grad_()
    clipped = clip_norm(memory)
    assert clipped[0].norm().item() == pytest.approx(1)
    assert torch.equal(clipped[1:], memory[1:])
    clipped.sum().backward()
    assert memory.grad is not None and memory.grad.isfinite().all()


def test_the_model_of_the_board():
    (learner,) = (FastWeightMemory(config) for config in FastWeightMemory.variants.values())
    state = fresh_state(learner, 1, learner.fixed_shape)
    assert state.hidden.shape == (1, 32) and state.memory.shape == (1, 16, 256)


def test_every_meta_parameter_gets_a_gradient():
    learner = small(FastWeightMemoryConfig(hidden=7, memory=3))
    assert parameters_without_gradient(learner, SHAPE) == []


def test_meta_training_teaches_it_to_learn():
    shape = Shape((3,), 2)
    learner = small(FastWeightMemoryConfig(hidden=24, memory=6), shape)
    losses = meta_train_briefly(learner, shape, updates=200, learning_rate=2e-2)
    assert sum(losses[:5]) / 5 > 0.9 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.6 * math.log(2)
