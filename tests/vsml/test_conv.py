"""Convolutional VSML against its textbook form, and what its sharing over space implies."""

from __future__ import annotations

import pytest
import torch

from tests.runners import on_cpu
from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml.conv import ConvLayer, _gather
from vsml_bench.vsml.fast import library
from vsml_bench.vsml.sub_rnn import SubRNN
from vsml_bench.vsml.variants import VSML, VSMLConfig

OPTIONS = {
    "one conv layer": (VSMLConfig(conv=(2,), ticks=3), Shape((1, 3, 2), 2)),
    "two channels in, odd sides": (VSMLConfig(conv=(1,)), Shape((2, 3, 3), 2)),
    "two conv layers, layerwise": (VSMLConfig(conv=(2, 1), layerwise=True), Shape((1, 4, 3), 2)),
    "everything": (
        VSMLConfig(
            conv=(2,),
            hidden=(2,),
            layer_norm=True,
            backward_pass=True,
            own_backward_sub_rnn=True,
            batch=2,
        ),
        Shape((1, 3, 3), 2),
    ),
}
LIFETIMES, STEPS = 2, 4


def make(config: VSMLConfig) -> VSML:
    return with_large_meta_parameters(VSML(config))


def fresh(learner: VSML, shape: Shape, lifetimes: int = LIFETIMES):
    return learner.init_state(lifetimes, shape, torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("config", "shape"), OPTIONS.values(), ids=OPTIONS.keys())
def test_outputs_and_meta_gradients_equal_the_textbook_form(config, shape):
    learner = make(config)
    inputs, labels = noise_stream(shape, STEPS, LIFETIMES)
    state = fresh(learner, shape)
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: learner.unroll(state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, inputs, labels),
        labels,
    )


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        ([[5.0]], [[0, 0, 0, 0, 5, 0, 0, 0, 0]]),
        ([[1.0, 2.0], [3.0, 4.0]], [[0, 0, 0, 0, 1, 2, 0, 3, 4]]),
        (
            [[1.0, 2.0, 3.0]],
            [[0, 0, 0, 0, 1, 2, 0, 0, 0], [0, 0, 0, 2, 3, 0, 0, 0, 0]],
        ),
        (
            [[1.0, 2.0, 3.0, 4.0]],
            [[0, 0, 0, 0, 1, 2, 0, 0, 0], [0, 0, 0, 2, 3, 4, 0, 0, 0]],
        ),
    ],
    ids=["one pixel", "even", "odd row", "even row"],
)
def test_each_output_looks_around_every_other_pixel(image, seen):
    """Centres are at the pixels (0, 0), (0, 2), .. whether the size is even or odd."""
    messages = torch.tensor(image)[None, None, :, :, None]  # [E, C, H, W, M]
    assert _gather(messages)[0, :, :, 0].tolist() == seen


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (7, 1)])
def test_outputs_look_where_a_padded_convolution_does(size):
    messages = torch.randn(2, 3, *size, 1, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.unfold(messages[..., 0], 3, padding=1, stride=2)
    assert torch.equal(_gather(messages)[..., 0], expected.transpose(1, 2))


def test_noise_of_fresh_kernels_does_not_depend_on_their_channels():
    """N(0, 1/3) cut at two standard deviations has the standard deviation 0.88 / sqrt(3); that of a
    dense layer of A inputs is 0.88 / sqrt(A)."""
    learner = VSML(VSMLConfig(conv=(8, 8), hidden=(16,)))
    state = fresh(learner, Shape((1, 8, 8), 4), lifetimes=200)
    first, second, dense, _ = (layer.cell[..., :8] for layer in state.layers)
    for kernel in (first, second):
        assert float(kernel.std()) == pytest.approx(0.8796 / 3**0.5, rel=0.02)
        assert float(kernel.abs().max()) <= 2 / 3**0.5
    assert float(dense.std()) == pytest.approx(0.8796 / 32**0.5, rel=0.02)


def test_sizes_of_states_and_messages():
    learner = VSML(VSMLConfig(conv=(4, 8, 3), hidden=(5,)))
    assert sum(p.numel() for p in learner.parameters()) == 2_384  # whatever the layers
    state = fresh(learner, Shape((3, 28, 20), 10))
    grids = [tuple(layer.cell.shape[2:]) for layer in state.layers]
    # 28 x 20 becomes 14 x 10, 7 x 5, 4 x 3; a kernel has 9 positions per input channel
    assert grids == [(27, 4, 16), (36, 8, 16), (72, 3, 16), (3 * 4 * 3, 5, 16), (5, 10, 16)]
    units = [tuple(messages.shape[2:-1]) for messages in state.feedback]
    assert units == [(4, 14, 10), (8, 7, 5), (3, 4, 3), (5,), (10,)]


def test_channels_of_a_hidden_layer_have_no_names():
    """Permuting what leads into and out of a conv layer's channels leaves every logit alone."""
    learner, shape = make(VSMLConfig(conv=(3, 2))), Shape((1, 6, 5), 4)
    inputs, labels = noise_stream(shape, STEPS, LIFETIMES)
    state = fresh(learner, shape)
    logits, _ = learner.unroll(state, inputs, labels)
    first, second, top = (layer.cell for layer in state.layers)  # [E, R, A, B, N]
    order = torch.tensor([2, 0, 1])
    first = first[..., order, :]
    second = second.unflatten(2, (3, 9))[:, :, order].flatten(2, 3)
    cells = (first, second, top)
    layers = tuple(
        layer._replace(cell=cell) for layer, cell in zip(state.layers, cells, strict=True)
    )
    again, _ = learner.unroll(state._replace(layers=layers), inputs, labels)
    torch.testing.assert_close(again, logits, rtol=1e-9, atol=1e-12)
    wrong = state._replace(layers=(layers[0], *state.layers[1:]))
    assert not torch.allclose(learner.unroll(wrong, inputs, labels)[0], logits)


def test_a_kernel_sees_the_same_everywhere():
    """Moving an image by the stride moves what goes up and down, and leaves the new state alone,
    as long as the image stays away from the edges."""
    learner = make(VSMLConfig(conv=(2,)))
    sub_rnn = learner.sub_rnns[0]
    assert isinstance(sub_rnn, SubRNN)
    state = fresh(learner, Shape((1, 16, 16), 2)).layers[0]
    state = type(state)(*(part[:, 0] for part in state))
    generator = torch.Generator().manual_seed(6)
    below = torch.zeros(LIFETIMES, 1, 16, 16, 8, dtype=torch.float64)
    below[:, :, 6:10, 6:10] = torch.randn(
        LIFETIMES, 1, 4, 4, 8, generator=generator, dtype=torch.float64
    )
    above = torch.zeros(LIFETIMES, 2, 8, 8, 8, dtype=torch.float64)
    results = []
    for move in (0, 1):
        moved = (below.roll(2 * move, 3), above.roll(move, 3))
        results.append(ConvLayer().sweep(sub_rnn, 2, state, *moved))
    (before, up, down), (after, moved_up, moved_down) = results
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)
    assert up.std() > 1e-3 and down.std() > 1e-3
    torch.testing.assert_close(moved_up[..., 1:-1, :], up.roll(1, 3)[..., 1:-1, :])
    torch.testing.assert_close(moved_down[..., 4:-4, :], down.roll(2, 3)[..., 4:-4, :])


@pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")
def test_kernel_equals_plain_form():
    learner = make(VSMLConfig(conv=(3,))).float()
    shape = Shape((1, 7, 6), 4)
    inputs, labels = noise_stream(shape, STEPS, LIFETIMES)
    state = fresh(learner, shape)

    def run(way):
        learner.zero_grad()
        logits, _ = way.unroll(state, inputs.float(), labels)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        return [logits.detach(), *(p.grad for p in learner.parameters() if p.grad is not None)]

    runner = on_cpu(learner)
    torch.testing.assert_close(run(runner), run(learner), rtol=1e-3, atol=1e-5)
    assert runner.fast is not None and runner.fast.in_use


def test_vectors_are_refused_with_a_sentence():
    learner = VSML(VSMLConfig(conv=(2,)))
    with pytest.raises(ValueError, match=r"takes images .* found inputs of shape \(6,\)"):
        fresh(learner, Shape((6,), 2))
