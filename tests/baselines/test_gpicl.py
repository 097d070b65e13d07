"""GPICL, one token after the other and in blocks, against a Transformer without a cache."""

from __future__ import annotations

from math import exp, pi, sqrt, tanh

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from baselines.gpicl import BLOCK, GPICL, GPICLConfig
from tests.baselines.streams import (
    double_precision,
    fresh_state,
    generator,
    loop,
    make_stream,
    online_meta_gradient,
)
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
CONFIG = GPICLConfig(width=12, layers=3, heads=2, widening=2)
LIFETIMES, STEPS = 2, 9


class SmallGPICL(GPICL):
    """The same for small images and few classes."""

    fixed_shape = SHAPE


def make_learner(config: GPICLConfig = CONFIG) -> GPICL:
    """With every meta-parameter off its start, so that none can be left out unnoticed."""
    learner = SmallGPICL(config)
    learner.init_meta_parameters(generator(1))
    with torch.no_grad():
        for index, parameter in enumerate(learner.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator(index)), alpha=0.3)
    return learner


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred * centred).mean() + 1e-5).sqrt() * weight + bias


def gelu(x: float) -> float:
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def textbook(learner: GPICL, inputs: Tensor, labels: list[int]) -> Tensor:
    """Logits at the last of t inputs [t, D] after t - 1 labels, from the whole prefix: one token,
    head and pair of positions at a time."""
    p = dict(learner.named_parameters())
    start = SHAPE.classes
    hidden = [
        p["embed.weight"] @ x + p["embed.bias"] + p["labels"][y]
        for x, y in zip(inputs, [start, *labels], strict=True)
    ]
    width, channels = CONFIG.width, CONFIG.width // CONFIG.heads
    for index in range(CONFIG.layers):
        q = {
            name.removeprefix(f"layers.{index}."): tensor
            for name, tensor in p.items()
            if name.startswith(f"layers.{index}.")
        }
        w_q, w_k, w_v = q["queries_keys_values.weight"].split(width)
        b_q, b_k, b_v = q["queries_keys_values.bias"].split(width)
        after = []
        normed = [
            layer_norm(h, q["attention_norm.weight"], q["attention_norm.bias"]) for h in hidden
        ]
        keys = [w_k @ n + b_k for n in normed]
        for t, h in enumerate(hidden):
            read = []
            for head in range(CONFIG.heads):
                part = slice(head * channels, (head + 1) * channels)
                gate = 1 / (1 + exp(-q["smear"][head].item()))
                query = (w_q @ normed[t] + b_q)[part]
                weights, values = [], []
                for s in range(t + 1):
                    before = keys[s - 1][part] if s > 0 else torch.zeros(channels)
                    mixed = gate * keys[s][part] + (1 - gate) * before
                    weights.append(exp(float(query @ mixed) / sqrt(channels)))
                    values.append((w_v @ normed[s] + b_v)[part])
                read.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
            h = h + q["attended.weight"] @ torch.cat(read) + q["attended.bias"]
            wide = q["widen.weight"] @ layer_norm(
                h, q["forward_norm.weight"], q["forward_norm.bias"]
            )
            wide = torch.tensor([gelu(u) for u in (wide + q["widen.bias"]).tolist()])
            after.append(h + q["narrow.weight"] @ wide + q["narrow.bias"])
        hidden = after
    return (
        p["head.weight"] @ layer_norm(hidden[-1], p["norm.weight"], p["norm.bias"]) + p["head.bias"]
    )


def test_both_ways_are_the_textbook_transformer_that_reads_everything_again():
    with double_precision(), torch.no_grad():
        learner = make_learner()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        looped, _ = loop(learner, state, inputs, labels)
        unrolled, _ = learner.unroll(state, inputs, labels)
        for lifetime in range(LIFETIMES):
            x, y = inputs[:, lifetime].flatten(1), labels[:, lifetime].tolist()
            for t in range(STEPS):
                expected = textbook(learner, x[: t + 1], y[:t])
                torch.testing.assert_close(looped[t, lifetime], expected, rtol=1e-10, atol=1e-10)
                torch.testing.assert_close(unrolled[t, lifetime], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cut", [1, BLOCK - 1, BLOCK, BLOCK + 7])
def test_a_stream_of_several_blocks_is_the_loop_wherever_it_is_cut(cut: int):
    with double_precision(), torch.no_grad():
        learner = make_learner(GPICLConfig(width=4, layers=2, heads=1, widening=1))
        inputs, labels = make_stream(SHAPE, 2 * BLOCK + 30, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        expected, expected_state = loop(learner, state, inputs, labels)
        first, middle = learner.unroll(state, inputs[:cut], labels[:cut])
        second, last = learner.unroll(middle, inputs[cut:], labels[cut:])
    torch.testing.assert_close(torch.cat([first, second]), expected, rtol=1e-9, atol=1e-9)
    for part, expected_part in zip(
        pytree.tree_leaves(last), pytree.tree_leaves(expected_state), strict=True
    ):
        torch.testing.assert_close(part, expected_part, rtol=1e-9, atol=1e-9)


def test_the_cache_holds_one_entry_per_example_and_layer():
    learner = make_learner()
    inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    assert state.label.tolist() == [SHAPE.classes] * LIFETIMES, "no label is not a label"
    _, state = learner.unroll(state, inputs, labels)
    channels = CONFIG.width // CONFIG.heads
    assert len(state.layers) == CONFIG.layers
    for layer in state.layers:
        assert layer.keys.shape == (LIFETIMES, CONFIG.heads, STEPS, channels)
        assert layer.values.shape == layer.keys.shape
    assert torch.equal(state.label, labels[-1])


@pytest.mark.parametrize("now", [0, BLOCK - 1, BLOCK, BLOCK + 3])
def test_a_label_moves_the_next_prediction_and_none_before(now: int):
    learner = make_learner()
    inputs, labels = make_stream(SHAPE, BLOCK + 6, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    other = labels.clone()
    other[now] = (labels[now] + 1) % SHAPE.classes
    before, _ = learner.unroll(state, inputs, labels)
    after, _ = learner.unroll(state, inputs, other)
    assert torch.equal(before[: now + 1], after[: now + 1])
    assert (before[now + 1] != after[now + 1]).any(-1).all()


def test_the_gradient_is_that_of_the_loop_and_reaches_every_meta_parameter():
    with double_precision():
        learner = make_learner()
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        online_meta_gradient(learner, state, inputs, labels)
        unrolled = {name: p.grad for name, p in learner.named_parameters()}
        learner.zero_grad()
        logits, _ = loop(learner, state, inputs, labels)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    for name, parameter in learner.named_parameters():
        gradient = unrolled[name]
        assert gradient is not None and gradient.any(), name
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-10)


def test_attention_starts_as_a_similarity_of_examples():
    learner = SmallGPICL(CONFIG)
    learner.init_meta_parameters(generator(1))
    for index in range(CONFIG.layers):
        weight = learner.get_parameter(f"layers.{index}.queries_keys_values.weight")
        query, key, value = weight.chunk(3)
        assert torch.equal(query, key) and not torch.equal(query, value)


def test_meta_training_learns_to_associate(one_thread: None):
    """Each lifetime has its own four examples and its own labels of them; they come back, so that
    whoever remembers is right from the second time on."""
    steps, lifetimes = 20, 32
    learner = SmallGPICL(GPICLConfig(width=32, layers=1, heads=1, widening=2))
    learner.init_meta_parameters(generator(1))
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    untrained = trained = 0.0
    for update in range(200):
        inputs, labels = make_stream(SHAPE, steps, lifetimes, seed=update, noise=0.0)
        state = fresh_state(learner, lifetimes, SHAPE)
        outcome = online_meta_gradient(learner, state, inputs, labels)
        optimizer.step()
        untrained = outcome.accuracy if update == 0 else untrained
        trained = outcome.accuracy
    assert untrained < 0.4
    assert trained > 0.75  # the first time of each class can only be guessed: about 0.85 at best
