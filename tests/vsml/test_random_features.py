"""The random layer below a VSML network: how it is drawn, and that the C++ code reads it too."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml.fast import library, lifetimes, packing
from vsml_bench.vsml.random_features import RandomFeaturesConfig
from vsml_bench.vsml.variants import RandomFeaturesVSML

SHAPE = Shape((1, 3, 3), 4)
CONFIGS = [
    RandomFeaturesConfig(),
    RandomFeaturesConfig(random_features=1, hidden=(3,), backward_pass=True),
]


def make(config: RandomFeaturesConfig, scale: float = 3.0) -> RandomFeaturesVSML:
    return with_large_meta_parameters(RandomFeaturesVSML(config), scale)


@pytest.mark.parametrize("config", CONFIGS)
def test_outputs_and_meta_gradients_equal_the_textbook_form(config: RandomFeaturesConfig) -> None:
    learner = make(config)
    inputs, labels = noise_stream(SHAPE, 6, 2)
    state = learner.init_state(2, SHAPE, torch.Generator().manual_seed(3))
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: learner.unroll(state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, inputs, labels),
        labels,
    )


def test_units_have_mean_0_and_variance_1_over_inputs_that_have() -> None:
    learner, shape = RandomFeaturesVSML(RandomFeaturesConfig(random_features=4)), Shape((100,), 3)
    draw = torch.Generator().manual_seed(1)
    state = learner.init_state(2, shape, draw)
    units = learner.entering(state, torch.randn(500, 2, 100, generator=draw))
    assert units.shape == (500, 2, 400)
    torch.testing.assert_close(units.mean(), torch.tensor(0.0), rtol=0, atol=0.05)
    torch.testing.assert_close(units.var(), torch.tensor(1.0), rtol=0, atol=0.1)


def test_every_lifetime_has_units_of_its_own() -> None:
    learner = RandomFeaturesVSML(RandomFeaturesConfig())
    state = learner.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    weights, bias = state.below
    assert weights.shape == (2, 9, 18) and bias.shape == (2, 18)
    assert not torch.equal(weights[0], weights[1])
    assert state.layers[0].hidden.shape[2:4] == (18, 4)


@pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")
@pytest.mark.parametrize("config", CONFIGS)
def test_whole_lifetimes_equal_the_written_steps(config: RandomFeaturesConfig) -> None:
    learner = make(config, 1.5).float()
    inputs, labels = noise_stream(SHAPE, 6, 2)
    inputs = inputs.float()
    start = learner.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    written, end = learner.unroll(start, inputs, labels)
    expected = torch.autograd.grad(
        written.square().sum(), list(learner.parameters()), materialize_grads=True
    )

    found = lifetimes.unroll(learner, start, inputs, labels)
    assert lifetimes.lives(learner) and found is not None
    gradients = torch.autograd.grad(
        found[0].square().sum(), list(learner.parameters()), materialize_grads=True
    )

    torch.testing.assert_close(found[0], written, rtol=1e-4, atol=1e-5)
    for own, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    ends = (pytree.tree_leaves(found[1]), pytree.tree_leaves(end))
    for own, other in zip(*ends, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("units", [0, -1])
def test_no_units_are_refused(units: int) -> None:
    with pytest.raises(ValueError, match=f"random_features: expected at least 1, found {units}"):
        RandomFeaturesVSML(RandomFeaturesConfig(random_features=units))


def test_the_cuda_code_would_read_the_units() -> None:
    learner = RandomFeaturesVSML(RandomFeaturesConfig())
    inputs, labels = noise_stream(SHAPE, 6, 2)
    state = learner.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    packed = packing.pack(learner, state, inputs.float(), labels)
    torch.testing.assert_close(packed.inputs, learner.entering(state, inputs.float()))
