"""The hand-written code against the plain form: same outputs, same gradients, in every use."""

from __future__ import annotations

import platform
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from vsml_bench.learner import Shape
from vsml_bench.vsml import kernel, native
from vsml_bench.vsml.learner import VSML, VSMLConfig

pytestmark = pytest.mark.skipif(native.load() is None, reason="no C++ compiler for the kernel")

SHAPE = Shape((1, 2, 2), 3)
LIFETIMES, STEPS = 2, 6


def make(config: VSMLConfig, scale: float) -> VSML:
    return with_large_meta_parameters(VSML(config), scale).float()


def stream(seed: int = 2, shape: Shape = SHAPE, steps: int = STEPS, count: int = LIFETIMES):
    inputs, labels = noise_stream(shape, steps, count, seed)
    return inputs.float(), labels


@pytest.fixture
def plain_path(monkeypatch):
    """A context in which the kernel is switched off."""

    @contextmanager
    def switched_off():
        with monkeypatch.context() as patch:
            patch.setattr(native, "load", lambda: None)
            yield

    return switched_off


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
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 6, 11, 17])
def test_kernel_and_its_gradient_equal_plain_form(config, classes, plain_path):
    compare_with_plain_form(config, classes, plain_path)


@pytest.fixture(params=["-mno-avx512f", "-mno-avx"])
def fewer_instructions(request, monkeypatch, tmp_path):
    """The code as it is compiled on CPUs without AVX-512 and without AVX."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_FLAGS", (*native._FLAGS, request.param))
    native.load.cache_clear()
    assert native.load() is not None
    yield
    native.load.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 compilers")
@pytest.mark.usefixtures("fewer_instructions")
def test_code_for_other_cpus_equals_plain_form(plain_path):
    for hidden in ((), (7,)):
        for classes in (11, 17):
            compare_with_plain_form(VSMLConfig(hidden=hidden), classes, plain_path)


def compare_with_plain_form(config: VSMLConfig, classes: int, plain_path) -> None:
    """Logits, last states and gradients."""
    learner = make(config, scale=1.5)
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


def test_training_through_the_kernel_follows_the_plain_path(plain_path):
    ends = []
    for use_kernel in (True, False):
        learner = make(VSMLConfig(), scale=1.0)
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        with nullcontext() if use_kernel else plain_path():
            for step in range(5):
                inputs, labels = stream(step)
                state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(step))
                logits, _ = learner.unroll(state, inputs, labels)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
                optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


def test_kernel_saturates_and_keeps_nan(plain_path):
    learner = make(VSMLConfig(), scale=100.0)
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


def test_a_lifetime_cut_in_two_equals_one_in_one_go_and_so_does_its_gradient():
    learner = make(VSMLConfig(), scale=1.5)
    inputs, labels = stream()
    results = []
    for cut in (0, 2):
        learner.zero_grad()
        state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
        parts = []
        for part in (slice(0, cut), slice(cut, STEPS)):
            if labels[part].numel():
                logits, state = learner.unroll(state, inputs[part], labels[part])
                parts.append(logits)
        logits = torch.cat(parts)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        results.append((logits.detach(), [p.grad for p in learner.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=0)
    for whole, cut_in_two in zip(results[0][1], results[1][1], strict=True):
        if whole is not None:
            torch.testing.assert_close(whole, cut_in_two, rtol=1e-4, atol=1e-6)


class Unroll(torch.nn.Module):
    """A learner's whole lifetime, as the module whose parameters `functional_call` replaces."""

    def __init__(self, learner: VSML) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, state, inputs, labels):
        return self.learner.unroll(state, inputs, labels)


@pytest.mark.parametrize("own_state", [False, True])
def test_a_population_equals_its_members_one_by_one(own_state, monkeypatch):
    module = Unroll(make(VSMLConfig(), scale=1.5))
    members = {
        name: torch.stack([p.detach() * factor for factor in (1.0, 0.5, -0.7)])
        for name, p in module.named_parameters()
    }
    states = [
        module.learner.init_state(
            LIFETIMES, SHAPE, torch.Generator().manual_seed(3 + member * own_state)
        )
        for member in range(3)
    ]
    inputs, labels = stream()
    calls, call = [], native.call

    def counted(name, *arguments):
        calls.append(name)
        call(name, *arguments)

    monkeypatch.setattr(native, "call", counted)

    def live(parameters, state):
        return functional_call(module, parameters, (state, inputs, labels))

    state = pytree.tree_map(lambda *parts: torch.stack(parts), *states) if own_state else states[0]
    together = vmap(live, in_dims=(0, 0 if own_state else None))(members, state)
    assert calls == ["vsml_lifetimes"], "the population must go through the code in one call"
    for index, own_state_of in enumerate(states):
        alone = live({name: p[index] for name, p in members.items()}, own_state_of)
        own = pytree.tree_map(lambda part, index=index: part[index], together)
        for found, expected in zip(pytree.tree_leaves(own), pytree.tree_leaves(alone), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def lifetimes_gradients() -> list[torch.Tensor]:
    """Of whole lifetimes, with respect to the meta-parameters."""
    learner, shape = make(VSMLConfig(), scale=1.0), Shape((300,), 5)
    inputs, labels = stream(shape=shape, steps=3, count=3)
    state = learner.init_state(3, shape, torch.Generator().manual_seed(3))
    logits, _ = learner.unroll(state, inputs, labels)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    return [p.grad for p in learner.parameters() if p.grad is not None]


def sweep_gradients() -> list[torch.Tensor]:
    """Of one sweep alone: what PyTorch multiplies around it may depend on the threads."""
    generator = torch.Generator().manual_seed(3)
    sizes = ((3, 300, 64), (3, 5, 64), (16, 64), (3, 300, 5, 16), (3, 300, 5, 16))
    operands = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
    swept = kernel.sweep(2, *operands)
    wanted = [torch.randn(part.shape, generator=generator) for part in swept]
    torch.autograd.backward(swept, wanted)
    return [operand.grad for operand in operands if operand.grad is not None]


@pytest.mark.parametrize("found", [lifetimes_gradients, sweep_gradients])
def test_the_number_of_threads_changes_no_bit(found):
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(found())
    finally:
        torch.set_num_threads(threads)
    for gradients in zip(*results, strict=True):
        assert gradients[0].abs().max() > 0
        assert gradients[0].equal(gradients[1]) and gradients[0].equal(gradients[2])
