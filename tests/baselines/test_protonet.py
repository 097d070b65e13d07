"""Prototypical networks against means that are computed anew at every step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines import protonet
from baselines.protonet import ConvConfig, ConvProtoNet, DenseConfig, ProtoNet
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    loop,
    make_stream,
    meta_train_briefly,
    parameters_without_gradient,
    resized,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 17


def small(shape: Shape = SHAPE) -> ProtoNet:
    learner = resized(ProtoNet, shape, DenseConfig(hidden=(7,), width=5))
    with torch.no_grad():
        learner.log_unseen.fill_(0.3)
    return learner


def textbook_logits(learner: ProtoNet, inputs: np.ndarray, labels: np.ndarray, classes: int):
    """One lifetime, inputs [T, D]: from all examples so far, at every step."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    hidden = np.maximum(inputs @ p["network.1.weight"].T + p["network.1.bias"], 0)
    embedded = hidden @ p["network.3.weight"].T + p["network.3.bias"]
    rows = []
    for t, z in enumerate(embedded):
        seen = {
            k: np.sum((z - embedded[:t][labels[:t] == k].mean(0)) ** 2)
            for k in range(classes)
            if k in labels[:t]
        }
        average = np.mean(list(seen.values())) if seen else 0.0
        rows.append([-seen.get(k, math.exp(0.3) * average) for k in range(classes)])
    return np.array(rows)


@pytest.mark.parametrize("block", [256, 5])
def test_both_ways_are_distances_from_class_means(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protonet, "BLOCK", block)
    with double_precision(), torch.no_grad():
        learner = small()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        looped, after_loop = loop(learner, state, inputs, labels)
        unrolled, after = learner.unroll(state, inputs, labels)
        for e in range(LIFETIMES):
            x, y = inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            expected = textbook_logits(learner, x, y, SHAPE.classes)
            np.testing.assert_allclose(looped[:, e], expected, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(unrolled[:, e], expected, rtol=1e-9, atol=1e-9)
    for one, other in zip(after_loop, after, strict=True):
        torch.testing.assert_close(one, other)


def test_the_convolutional_embedding_is_four_blocks_without_statistics_over_a_batch():
    learner = ConvProtoNet(ConvConfig(filters=64))
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    layers = 64 * 9 + 64 + 3 * (64 * 64 * 9 + 64) + 4 * 2 * 64
    assert sum(p.numel() for p in learner.parameters()) == layers + 1
    images = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = learner.network(images)
        alone = torch.cat([learner.network(image[None]) for image in images])
    assert together.shape == (5, 64)
    torch.testing.assert_close(together, alone)


def test_chunks_of_images_are_embedded_as_one(monkeypatch: pytest.MonkeyPatch):
    learner = small()
    inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    with torch.no_grad():
        whole, _ = learner.unroll(state, inputs, labels)
        monkeypatch.setattr(protonet, "IMAGES", 4)
        chunked, _ = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(whole, chunked)


def test_every_meta_parameter_gets_a_gradient():
    # the same shift of all embeddings moves no distance
    assert parameters_without_gradient(small(), SHAPE) in ([], ["network.3.bias"])


def test_meta_training_teaches_it_what_to_look_at():
    shape = Shape((3,), 2)
    losses = meta_train_briefly(small(shape), shape, updates=40, learning_rate=2e-2)
    assert sum(losses[-5:]) / 5 < 0.5 * math.log(2)
