"""VSML against its textbook form, its claims, and the numbers that FACTS about it state."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
import torch

from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml import kernel
from vsml_bench.vsml.learner import VSML, VSMLConfig

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


needs_kernel = pytest.mark.skipif(kernel.load() is None, reason="no C++ compiler for the kernel")


@pytest.fixture
def plain_path(monkeypatch):
    """A context in which the kernel is switched off."""

    @contextmanager
    def switched_off():
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "load", lambda: None)
            yield

    return switched_off


@needs_kernel
@pytest.mark.parametrize(
    "config",
    [
        VSMLConfig(),
        VSMLConfig(hidden=(7,)),
        VSMLConfig(ticks=3, hidden=(2,), layerwise=True, backward_pass=True),
        VSMLConfig(batch=2, feed_label=True),
    ],
    ids=["default", "two layers", "three ticks, backward pass", "batch"],
)
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 6, 11])
def test_kernel_and_its_gradient_equal_plain_form(config, classes, plain_path):
    learner = make(config, scale=1.5).float()
    generator = torch.Generator().manual_seed(4)
    shape = Shape((9,), classes)
    inputs = torch.randn(12, 3, 9, generator=generator)
    labels = torch.randint(classes, (12, 3), generator=generator)
    state = learner.init_state(3, shape, generator)

    def run():
        learner.zero_grad()
        logits, last = learner.unroll(state, inputs, labels)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        # the states' own gradients matter too, as where a lifetime is cut in two
        loss = loss + sum(layer.cell.sin().mean() + layer.hidden.mean() for layer in last.layers)
        loss.backward()
        return [logits, last.layers[0].cell], [
            torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters()
        ]

    fast, fast_gradients = run()
    with plain_path():
        plain, plain_gradients = run()
    with torch.inference_mode():
        inferred, _ = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inferred, fast[0].detach(), rtol=1e-6, atol=1e-6)
    largest = max(gradient.abs().max() for gradient in plain_gradients)
    assert largest > 1e-3, "gradients must be large enough for the comparison to mean anything"
    for gradient, expected in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(largest))


@needs_kernel
def test_training_through_the_kernel_follows_the_plain_path(plain_path):
    ends = []
    for use_kernel in (True, False):
        learner = make(VSMLConfig(), scale=1.0).float()
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        with nullcontext() if use_kernel else plain_path():
            for step in range(5):
                inputs, labels = stream(step)
                state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(step))
                logits, _ = learner.unroll(state, inputs.float(), labels)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
                optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


@needs_kernel
def test_kernel_saturates_and_keeps_nan(plain_path):
    learner = make(VSMLConfig(), scale=100.0).float()
    shape = Shape((4,), 3)
    state = learner.init_state(2, shape, torch.Generator().manual_seed(0))
    inputs = 50 * torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(5, 2, dtype=torch.int64)
    with plain_path():
        plain, _ = learner.unroll(state, inputs, labels)
    inputs[3:, 1] = torch.nan
    with torch.inference_mode():
        fast, _ = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(fast[:, 0], plain[:, 0], rtol=1e-4, atol=1e-4)
    assert fast[3:, 1].isnan().all() and fast[:3].isfinite().all()
