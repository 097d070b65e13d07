"""VSML against its textbook form, its claims, and the numbers that FACTS about it state."""

from __future__ import annotations

import pytest
import torch

from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml.variants import VSML, VSMLConfig

OPTIONS = {
    "default": VSMLConfig(),
    "three ticks": VSMLConfig(ticks=3),
    "layer norm": VSMLConfig(layer_norm=True),
    "feed label": VSMLConfig(feed_label=True),
    "small": VSMLConfig(state_size=6, message_size=4),
    "two layers": VSMLConfig(hidden=(3,)),
    "three layers, layerwise": VSMLConfig(hidden=(3, 2), layerwise=True),
    "backward pass": VSMLConfig(hidden=(3,), backward_pass=True),
    "own backward sub-RNN": VSMLConfig(
        hidden=(3,), backward_pass=True, own_backward_sub_rnn=True, layerwise=True
    ),
    "batch": VSMLConfig(batch=3),
    "everything": VSMLConfig(
        hidden=(3,),
        layer_norm=True,
        feed_label=True,
        backward_pass=True,
        own_backward_sub_rnn=True,
        layerwise=True,
        batch=2,
    ),
}
SHAPE = Shape((1, 2, 2), 3)
LIFETIMES, STEPS = 2, 6


def make(config: VSMLConfig, scale: float = 3.0) -> VSML:
    return with_large_meta_parameters(VSML(config), scale)


def stream(seed: int = 2):
    return noise_stream(SHAPE, STEPS, LIFETIMES, seed)


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS.keys())
def test_outputs_and_meta_gradients_equal_the_textbook_form(config):
    learner = make(config)
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: learner.unroll(state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, inputs, labels),
        labels,
    )


def test_size_of_the_papers_model():
    learner = VSML(VSMLConfig())
    assert sum(p.numel() for p in learner.parameters()) == 2_384
    state = learner.init_state(1, Shape((1, 28, 28), 10), torch.Generator().manual_seed(0))
    assert state.layers[0].hidden.numel() + state.layers[0].cell.numel() == 250_880


def test_fresh_state_is_half_noise_half_zero():
    learner = VSML(VSMLConfig())
    layer = learner.init_state(1, Shape((100,), 50), torch.Generator().manual_seed(0)).layers[0]
    noise, rest = layer.cell.chunk(2, dim=-1)
    assert layer.hidden.abs().max() == 0 and rest.abs().max() == 0
    assert noise.abs().max() <= 2 / 100**0.5
    # a normal cut at two standard deviations has 0.8796 of its width
    assert noise.std().item() == pytest.approx(0.8796 / 100**0.5, rel=0.02)


def test_copies_of_a_batch_start_alike_and_share_the_error():
    """The error is that of the mean loss, so that two copies get half of softmax - onehot each."""
    learner = make(VSMLConfig(batch=2))
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    (layer,) = state.layers
    assert torch.equal(layer.cell[:, 0], layer.cell[:, 1]) and layer.cell[:, 0].std() > 0
    assert not torch.equal(layer.cell[0], layer.cell[1])  # lifetimes differ
    logits, state = learner.predict(state, inputs[0])
    state = learner.observe(state, labels[0])
    right = torch.nn.functional.one_hot(labels[0], logits.shape[-1])
    fed = state.feedback[-1][:, -1, :, 0]  # of the copy that learned, now the last in the queue
    torch.testing.assert_close(fed, (logits.softmax(-1) - right) / 2)
    assert not state.feedback[-1][:, 0].any()


def test_order_of_inputs_and_names_of_labels_do_not_matter():
    learner = make(VSMLConfig())
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    logits, _ = learner.unroll(state, inputs, labels)
    pixels, names = torch.randperm(4), torch.randperm(3)
    layer = state.layers[0]
    permuted = state._replace(
        layers=(layer._replace(cell=layer.cell[:, :, pixels][:, :, :, names]),)
    )
    inverse = torch.argsort(names)
    flat = inputs.flatten(2)[..., pixels].view_as(inputs)
    again, _ = learner.unroll(permuted, flat, inverse[labels])
    torch.testing.assert_close(again, logits[..., names], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_step_equals_eager_step():
    learner = make(VSMLConfig())
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    eager, _ = learner.unroll(state, inputs, labels)
    learner.compile(dynamic=False)
    compiled, _ = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-12)
