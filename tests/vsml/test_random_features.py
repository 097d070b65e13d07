"""The random layer below a VSML network: how it is drawn, and that the C++ code reads it too."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from vsml_bench.learner import Shape
from vsml_bench.vsml.fast import library, lifetimes
from vsml_bench.vsml.network import VSMLConfig
from vsml_bench.vsml.random_features import draw_random_features, random_features_of
from vsml_bench.vsml.variants import VSML

SHAPE = Shape((1, 3, 3), 4)


def test_units_have_mean_0_and_variance_1_over_inputs_that_have() -> None:
    draw = torch.Generator().manual_seed(1)
    like = torch.zeros(1, dtype=torch.float64)
    features = draw_random_features(like, 2, 100, 400, draw)
    inputs = torch.randn(2, 500, 100, generator=draw, dtype=torch.float64)
    units = random_features_of(features, inputs)
    assert units.shape == (2, 500, 400)
    torch.testing.assert_close(units.mean(), torch.zeros_like(units.mean()), rtol=0, atol=0.05)
    torch.testing.assert_close(units.var(), torch.ones_like(units.var()), rtol=0, atol=0.1)


def test_every_lifetime_has_features_of_its_own() -> None:
    learner = VSML(VSMLConfig(random_features=2))
    state = learner.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    (features,) = state.random_features
    assert features.weights.shape == (2, 9, 18) and features.bias.shape == (2, 18)
    assert not torch.equal(features.weights[0], features.weights[1])
    assert state.layers[0].hidden.shape[2:4] == (18, 4)


def test_without_the_option_nothing_is_drawn_for_it() -> None:
    state = VSML(VSMLConfig()).init_state(2, SHAPE, torch.Generator().manual_seed(1))
    assert state.random_features == ()


@pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")
@pytest.mark.parametrize("backward_pass", [False, True])
def test_whole_lifetimes_equal_the_written_steps(backward_pass: bool) -> None:
    config = VSMLConfig(random_features=3, hidden=(2,), backward_pass=backward_pass)
    learner = with_large_meta_parameters(VSML(config), 1.5).float()
    inputs, labels = noise_stream(SHAPE, 6, 2)
    inputs = inputs.float()
    start = learner.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    written, end = learner.unroll(start, inputs, labels)
    expected = torch.autograd.grad(written.square().sum(), list(learner.parameters()))

    found = lifetimes.unroll(learner, start, inputs, labels)
    assert lifetimes.lives(learner) and found is not None
    gradients = torch.autograd.grad(found[0].square().sum(), list(learner.parameters()))

    torch.testing.assert_close(found[0], written, rtol=1e-4, atol=1e-5)
    for own, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    ends = (pytree.tree_leaves(found[1]), pytree.tree_leaves(end))
    for own, other in zip(*ends, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
