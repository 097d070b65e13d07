"""VSML without sharing against its textbook form, and against VSML where all weights are equal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml.no_symmetry import NoSymmetryConfig, NoSymmetryNetwork
from vsml_bench.vsml.variants import VSML, VSMLConfig

CONFIG = NoSymmetryConfig(pool=14, classes=3)  # 2 x 2 inputs
SHAPE = Shape((1, 28, 28), 3)
LIFETIMES, STEPS = 2, 5


def averaged(inputs: torch.Tensor) -> torch.Tensor:
    """[T, E, 1, 28, 28] to [T, E, 1, 2, 2], each the mean of a quarter."""
    halves = (slice(0, 14), slice(14, 28))
    quarters = [inputs[..., rows, columns].mean((-2, -1)) for rows in halves for columns in halves]
    return torch.stack(quarters, -1).view(*inputs.shape[:3], 2, 2)


def test_outputs_and_meta_gradients_equal_the_textbook_form():
    learner = with_large_meta_parameters(NoSymmetryNetwork(CONFIG))
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    inputs = 10 * inputs  # the mean of a quarter is small
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: learner.unroll(state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, averaged(inputs), labels),
        labels,
    )


def test_equal_meta_parameters_everywhere_make_it_vsml():
    learner, shared = (
        NoSymmetryNetwork(CONFIG).double(),
        with_large_meta_parameters(VSML(VSMLConfig())),
    )
    own = dict(learner.named_parameters())
    with torch.no_grad():
        for name, parameter in shared.named_parameters():
            own[name].copy_(parameter.expand_as(own[name]))
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    generator = torch.Generator().manual_seed(3)
    state = learner.init_state(LIFETIMES, SHAPE, generator)
    found, _ = learner.unroll(state, inputs, labels)
    expected, _ = shared.unroll(state, averaged(inputs), labels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_nothing_is_shared():
    learner = NoSymmetryNetwork(NoSymmetryConfig())
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    assert learner.fixed_shape == Shape((1, 28, 28), 10)
    assert sum(p.numel() for p in learner.parameters()) == 7 * 7 * 10 * 2_384
    for parameter in learner.parameters():
        assert parameter.shape[:2] == (49, 10)
    own = dict(learner.named_parameters())
    weights = own["sub_rnns.0.gates_from_forward"].flatten(2).flatten(0, 1)
    assert len(weights.unique(dim=0)) == 490, "every sub-RNN has draws of its own"
    heads = [m for m in learner.modules() if isinstance(m, nn.Linear)]
    # the fan-in is that of one sub-RNN: 8 + 8 + 16 into the gates, 16 into the heads
    assert weights.std().item() == pytest.approx(0.8796 / 32**0.5, rel=0.02)
    for head in heads:
        assert head.weight.std().item() == pytest.approx(0.8796 / 16**0.5, rel=0.02)
        assert head.bias.abs().max() == 0


def test_names_of_labels_matter():
    learner = with_large_meta_parameters(NoSymmetryNetwork(CONFIG))
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    logits, _ = learner.unroll(state, inputs, labels)
    names = torch.tensor([1, 2, 0])
    layer = state.layers[0]
    permuted = state._replace(layers=(layer._replace(cell=layer.cell[:, :, :, names]),))
    again, _ = learner.unroll(permuted, inputs, torch.argsort(names)[labels])
    assert not torch.allclose(again, logits[..., names], atol=1e-2)
