"""The fast weight programmer against its equations in NumPy, and what its write rules are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.fast_weight_programmer import FastWeightProgrammer, FastWeightProgrammerConfig
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
both_rules = pytest.mark.parametrize("delta_rule", [True, False], ids=["delta", "additive"])


def small(delta_rule: bool, shape: Shape = SHAPE) -> FastWeightProgrammer:
    config = FastWeightProgrammerConfig(keys=5, values=3, delta_rule=delta_rule)
    return resized(FastWeightProgrammer, shape, config)


def textbook_logits(learner: FastWeightProgrammer, inputs: np.ndarray, labels: np.ndarray):
    """One lifetime: inputs [T, D], labels [T]; returns logits [T, K]."""
    p = {name: value.detach().numpy() for name, value in learner.named_parameters()}
    classes, values = p["readout.weight"].shape
    fast = np.zeros((values, learner.config.keys))
    outputs = []

    def phi(u: np.ndarray) -> np.ndarray:
        activated = u / (1 + np.exp(-u))
        return np.asarray(activated / np.linalg.norm(activated))

    for x, y in zip(inputs, labels, strict=True):
        logits = p["readout.weight"] @ fast @ phi(p["query.weight"] @ x) + p["readout.bias"]
        label = np.eye(classes)[y]
        error = np.exp(logits) / np.exp(logits).sum() - label
        slow_weights = np.hstack([p["write_from_inputs.weight"], p["write_from_feedback.weight"]])
        slow = slow_weights @ np.concatenate([x, error, label]) + p["write_from_inputs.bias"]
        value, beta = slow[:values], 1 / (1 + math.exp(-slow[values]))
        key = phi(p["key.weight"] @ x)
        stored = fast @ key if learner.config.delta_rule else np.zeros(values)
        fast = fast + beta * np.outer(value - stored, key)
        outputs.append(logits)
    return np.stack(outputs)


@both_rules
def test_it_follows_its_equations(delta_rule: bool):
    with double_precision(), torch.no_grad():
        learner = small(delta_rule)
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
        for e in range(LIFETIMES):
            expected = textbook_logits(
                learner, inputs[:, e].flatten(1).numpy(), labels[:, e].numpy()
            )
            np.testing.assert_allclose(logits[:, e], expected, rtol=1e-9, atol=1e-9)


@both_rules
def test_only_the_delta_rule_replaces_what_is_stored_under_a_key(delta_rule: bool):
    """At full strength; written twice, the additive rule holds the sum of both values."""
    learner = small(delta_rule)
    with torch.no_grad():
        learner.write_from_inputs.weight[-1] = learner.write_from_feedback.weight[-1] = 0
        learner.write_from_inputs.bias[-1] = 100.0  # beta = 1
        state = fresh_state(learner, 1, SHAPE)
        inputs, _ = make_stream(SHAPE, 1, 1)
        values, held = [], []
        for label in (2, 1):
            logits, state = learner.predict(state, inputs[0])
            onehot = torch.eye(SHAPE.classes)[label]
            feedback = torch.cat([logits.softmax(-1)[0] - onehot, onehot])
            values.append(state.from_inputs[0, :-1] + learner.write_from_feedback(feedback)[:-1])
            state = learner.observe(state, torch.tensor([label]))
            held.append(state.fast_weights[0] @ state.key[0])
    torch.testing.assert_close(held[0], values[0])
    torch.testing.assert_close(held[1], values[1] if delta_rule else values[0] + values[1])


def test_the_models_of_the_board():
    delta, additive = FastWeightProgrammer.variants.values()
    assert delta.keys == 64 and delta.delta_rule and not additive.delta_rule
    learner = FastWeightProgrammer(delta)
    slow = 784 * (64 + 64 + 65) + 65 + 2 * 62 * 65
    assert sum(p.numel() for p in learner.parameters()) == slow + 62 * (64 + 1)
    assert fresh_state(learner, 1, learner.fixed_shape).fast_weights.shape == (1, 64, 64)


@both_rules
def test_every_meta_parameter_gets_a_gradient(delta_rule: bool):
    assert parameters_without_gradient(small(delta_rule), SHAPE) == []


@both_rules
def test_meta_training_teaches_it_to_learn(delta_rule: bool):
    shape = Shape((3,), 2)
    losses = meta_train_briefly(small(delta_rule, shape), shape, updates=60, learning_rate=3e-2)
    assert losses[0] > 0.85 * math.log(2)
    assert sum(losses[-10:]) / 10 < 0.45 * math.log(2)


@both_rules
def test_a_fresh_memory_gives_back_what_was_written_at_the_same_example(delta_rule: bool):
    learner = small(delta_rule)
    inputs, labels = make_stream(SHAPE, 1, LIFETIMES)
    _, state = learner.predict(fresh_state(learner, LIFETIMES, SHAPE), inputs[0])
    key = state.key
    state = learner.observe(state, labels[0])
    again, _ = learner.predict(state, inputs[0])
    written = torch.bmm(state.fast_weights, key.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(again, learner.readout(written))
    torch.testing.assert_close(key.norm(dim=-1), torch.ones(LIFETIMES))
