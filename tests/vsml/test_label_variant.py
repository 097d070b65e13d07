"""The label-fed VSML of 2022 against its own loop form, and what its zero state implies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.runners import on_cpu
from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from vsml_bench.learner import Shape
from vsml_bench.vsml.fast import library
from vsml_bench.vsml.label_variant import LabelVSMLConfig, LabelVSMLNetwork

SHAPE = Shape((1, 2, 2), 3)
LIFETIMES, STEPS = 2, 5
OPTIONS = {
    "default": LabelVSMLConfig(),
    "small, three ticks": LabelVSMLConfig(state_size=6, message_size=4, ticks=3),
}


def make(config: LabelVSMLConfig | None = None) -> LabelVSMLNetwork:
    return with_large_meta_parameters(LabelVSMLNetwork(config or LabelVSMLConfig()))


def fresh(learner: LabelVSMLNetwork, shape: Shape = SHAPE):
    return learner.init_state(LIFETIMES, shape, torch.Generator().manual_seed(3))


def haiku_bias(bias: Tensor) -> Tensor:
    """The bias as Haiku's LSTM would hold it: +1 on the forget gate and nothing on the input gate,
    where the sub-RNN adds +5 and -5."""
    i, g, f, o = bias.chunk(4)
    return torch.cat([i - 5, g, f + 4, o])


def textbook_lifetime(learner: LabelVSMLNetwork, inputs: Tensor, labels: Tensor) -> Tensor:
    """One lifetime, one sub-RNN at a time: inputs [T, ...], labels [T], logits [T, K]."""
    rnn, config, classes = learner.sub_rnn, learner.config, SHAPE.classes
    weight = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
    bias, features = haiku_bias(rnn.gates_bias), inputs[0].numel()
    grid = [(a, b) for a in range(features) for b in range(classes)]
    h = {at: inputs.new_zeros(config.state_size) for at in grid}
    c = dict(h)
    up = [inputs.new_zeros(config.message_size) for _ in range(classes)]
    down = [inputs.new_zeros(config.message_size) for _ in range(features)]
    shown = inputs.new_zeros(classes)
    logits = []
    for x, label in zip(inputs.flatten(1), labels.tolist(), strict=True):
        for a, b in grid:
            message = torch.cat([down[a], x[a : a + 1], up[b], shown[b : b + 1]])
            for _ in range(config.ticks):
                i, g, f, o = (torch.cat([message, h[a, b]]) @ weight + bias).chunk(4)
                c[a, b] = torch.sigmoid(f + 1) * c[a, b] + torch.sigmoid(i) * torch.tanh(g)
                h[a, b] = torch.sigmoid(o) * torch.tanh(c[a, b])
        up = [
            torch.stack([rnn.forward_head(h[a, b]) for a in range(features)]).mean(0)
            for b in range(classes)
        ]
        down = [
            torch.stack([rnn.backward_head(h[a, b]) for b in range(classes)]).mean(0)
            for a in range(features)
        ]
        logits.append(torch.stack([message[0] for message in up]))
        shown = torch.zeros_like(shown)
        shown[label] = 1.0
    return torch.stack(logits)


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS.keys())
def test_outputs_and_meta_gradients_equal_the_textbook_form(config):
    learner = make(config)
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: learner.unroll(fresh(learner), inputs, labels)[0],
        lambda: torch.stack(
            [textbook_lifetime(learner, inputs[:, e], labels[:, e]) for e in range(LIFETIMES)], 1
        ),
        labels,
    )


def test_size_and_fresh_meta_parameters_are_those_of_the_published_code():
    learner = LabelVSMLNetwork(LabelVSMLConfig())
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    # an LSTM of 16 that gets 9 + 9 + 16 numbers, and two linear heads of 8
    assert sum(p.numel() for p in learner.parameters()) == 34 * 64 + 64 + 2 * (16 * 8 + 8)
    bias = haiku_bias(learner.sub_rnn.gates_bias.detach())
    torch.testing.assert_close(bias, torch.zeros(64))
    rnn = learner.sub_rnn
    weights = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
    assert weights.abs().max() <= 2 / 34**0.5
    assert weights.std().item() == pytest.approx(0.8796 / 34**0.5, rel=0.05)


def test_a_fresh_state_is_all_zero_and_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    state = LabelVSMLNetwork(LabelVSMLConfig()).init_state(2, SHAPE, generator)
    parts = (*state.layer, state.upward, state.downward, state.label)
    assert all(part.abs().max() == 0 for part in parts)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


def test_only_inputs_and_labels_tell_sub_rnns_apart():
    learner = make()
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    shape = Shape(SHAPE.inputs, 5)  # of which classes 2, 3 and 4 are never shown
    logits, _ = learner.unroll(fresh(learner, shape), inputs, labels.clamp(max=1))
    torch.testing.assert_close(logits[..., 3], logits[..., 2], rtol=0, atol=1e-12)
    torch.testing.assert_close(logits[..., 4], logits[..., 2], rtol=0, atol=1e-12)
    assert not torch.allclose(logits[-1, :, 0], logits[-1, :, 2])


def test_order_of_inputs_and_names_of_labels_do_not_matter():
    learner = make()
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    logits, _ = learner.unroll(fresh(learner), inputs, labels)
    pixels, names = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    shuffled = inputs.flatten(2)[..., pixels].view_as(inputs)
    again, _ = learner.unroll(fresh(learner), shuffled, torch.argsort(names)[labels])
    torch.testing.assert_close(again, logits[..., names], rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")
def test_kernel_equals_plain_form():
    learner = make().float()
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    fast, plain = (
        way.unroll(fresh(learner), inputs.float(), labels)[0] for way in (on_cpu(learner), learner)
    )
    assert not torch.equal(fast, plain), "the kernel did not run"
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
