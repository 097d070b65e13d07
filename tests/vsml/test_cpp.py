"""The hand-written code against the plain form: same outputs, same gradients, in every use."""

from __future__ import annotations

import dataclasses
import platform

import pytest
import torch
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from tests.runners import CPU, on_cpu
from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from vsml_bench.learner import Learner, Shape
from vsml_bench.vsml.fast import Lifetimes, fast_code, library
from vsml_bench.vsml.fast.sweep import sweep
from vsml_bench.vsml.label_variant import LabelVSMLConfig, LabelVSMLNetwork
from vsml_bench.vsml.layers import DenseLayer
from vsml_bench.vsml.sub_rnn import SubRNN
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")

SHAPE = Shape((1, 2, 2), 3)
LIFETIMES, STEPS = 2, 6


def make(config: VSMLConfig, scale: float) -> VSML:
    return with_large_meta_parameters(VSML(config), scale).float()


def stream(seed: int = 2, shape: Shape = SHAPE, steps: int = STEPS, count: int = LIFETIMES):
    inputs, labels = noise_stream(shape, steps, count, seed)
    return inputs.float(), labels


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
def test_kernel_and_its_gradient_equal_plain_form(config, classes):
    compare_with_plain_form(config, classes)


@pytest.fixture(params=["-mno-avx512f", "-mno-avx"])
def fewer_instructions(request, monkeypatch, tmp_path):
    """The code as it is compiled on CPUs without AVX-512 and without AVX."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "_FLAGS", (*library._FLAGS, request.param))
    library.load.cache_clear()
    assert library.load() is not None
    yield
    library.load.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 compilers")
@pytest.mark.usefixtures("fewer_instructions")
def test_code_for_other_cpus_equals_plain_form():
    for options in ({}, {"hidden": (7,)}, {"hidden": (7,), "layer_norm": True}):
        for classes in (11, 17):
            compare_with_plain_form(VSMLConfig(**options), classes)


def compare_with_plain_form(config: VSMLConfig, classes: int) -> None:
    """Logits, last states and gradients."""
    learner = make(config, scale=1.5)
    runner = on_cpu(learner)
    generator = torch.Generator().manual_seed(4)
    shape = Shape((9,), classes)
    inputs = torch.randn(12, 3, 9, generator=generator)
    labels = torch.randint(classes, (12, 3), generator=generator)
    state = learner.init_state(3, shape, generator)

    def run(way):
        learner.zero_grad()
        logits, last = way.unroll(state, inputs, labels)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        # the states' own gradients matter too, as where a lifetime is cut in two
        loss = loss + sum(layer.cell.sin().mean() + layer.hidden.mean() for layer in last.layers)
        loss.backward()
        return [logits, last.layers[0].cell], [
            torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters()
        ]

    fast, fast_gradients = run(runner)
    plain, plain_gradients = run(learner)
    with torch.inference_mode():
        inferred, _ = runner.unroll(state, inputs, labels)
    assert runner.fast is not None and runner.fast.in_use and not torch.equal(fast[0], plain[0])
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inferred, fast[0].detach(), rtol=1e-6, atol=1e-6)
    largest = max(gradient.abs().max() for gradient in plain_gradients)
    assert largest > 1e-3, "gradients must be large enough for the comparison to mean anything"
    for gradient, expected in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(largest))


def test_training_through_the_kernel_follows_the_plain_path():
    ends = []
    for way_of in (on_cpu, lambda learner: learner):
        learner = make(VSMLConfig(), scale=1.0)
        way = way_of(learner)
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        for step in range(5):
            inputs, labels = stream(step)
            state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(step))
            logits, _ = way.unroll(state, inputs, labels)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


def test_kernel_saturates_and_keeps_nan():
    learner = make(VSMLConfig(), scale=100.0)
    shape = Shape((4,), 3)
    state = learner.init_state(2, shape, torch.Generator().manual_seed(0))
    inputs = 50 * torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(5, 2, dtype=torch.int64)
    plain, _ = learner.unroll(state, inputs, labels)
    inputs[3:, 1] = torch.nan
    runner = on_cpu(learner)
    with torch.inference_mode():
        fast, _ = runner.unroll(state, inputs, labels)
    assert runner.fast is not None and runner.fast.in_use
    torch.testing.assert_close(fast[:, 0], plain[:, 0], rtol=1e-4, atol=1e-4)
    assert fast[3:, 1].isnan().all() and fast[:3].isfinite().all()


class OtherHeads(SubRNN):
    """Sends twice of what a `SubRNN` sends up."""

    def heads(self, over_inputs, over_outputs):
        upward, downward = super().heads(over_inputs, over_outputs)
        return 2 * upward, downward


class OtherOutgoing(SubRNN):
    """The same, but where the means are taken."""

    def outgoing(self, hidden):
        upward, downward = super().outgoing(hidden)
        return 2 * upward, downward


class OtherTick(SubRNN):
    """Forgets half of its cell in each tick."""

    def tick(self, incoming, hidden, cell):
        return super().tick(incoming, hidden, 0.5 * cell)


def with_sub_rnns(kind: type[SubRNN], config: VSMLConfig) -> VSML:
    class Network(VSML):
        def make_sub_rnn(self):
            return kind(self.config.state_size, self.config.message_size)

    return with_large_meta_parameters(Network(config), 1.5).float()


@pytest.mark.parametrize("hidden", [(), (7,)], ids=["one layer", "two layers"])
@pytest.mark.parametrize("kind", [OtherHeads, OtherOutgoing, OtherTick])
def test_other_sub_rnns_run_as_they_are_written(kind, hidden, caplog):
    """And by the C++ code only as far as that computes them: there is nothing to warn of."""
    config = VSMLConfig(hidden=hidden)
    learner, own = with_sub_rnns(kind, config), make(config, scale=1.5)
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    expected, expected_end = learner.unroll(state, inputs, labels)
    found, end = on_cpu(learner).unroll(state, inputs, labels)
    torch.testing.assert_close((found, end), (expected, expected_end), rtol=1e-4, atol=1e-5)
    usual, _ = own.unroll(state, inputs, labels)
    assert not torch.allclose(usual, expected, atol=1e-3), "it must differ from VSML"
    assert not caplog.records


class OtherStep(VSML):
    """Learns from the labels of another lifetime."""

    def observe(self, state, labels):
        return super().observe(state, labels.flip(0))


def test_whole_lifetimes_are_those_of_vsml_alone():
    for config in (
        *(VSMLConfig(), VSMLConfig(hidden=(2,)), VSMLConfig(layer_norm=True, feed_label=True)),
        VSMLConfig(hidden=(2,), layerwise=True, backward_pass=True, own_backward_sub_rnn=True),
    ):
        assert isinstance(fast_code(make(config, 1.0), CPU, 0), Lifetimes)
    others: list[Learner] = [OtherStep(VSMLConfig()), VSML(VSMLConfig(batch=2))]
    others += [with_sub_rnns(OtherHeads, VSMLConfig()), LabelVSMLNetwork(LabelVSMLConfig())]
    for other in others:
        assert isinstance(fast_code(other, CPU, 0), type(other))  # by steps
    for none in (
        *(VSML(VSMLConfig(layer_norm=True, batch=2)), VSML(VSMLConfig(state_size=8))),
        *(VSML(VSMLConfig(ticks=9)), with_sub_rnns(OtherTick, VSMLConfig())),
    ):
        assert fast_code(none, CPU, 0) is None


class OtherLayer(DenseLayer):
    """Not as a `DenseLayer` is written."""


def test_a_network_without_layers_to_replace_has_no_fast_code():
    """Which leaves its step to the compiler."""
    learner = make(VSMLConfig(hidden=(2,)), 1.0)
    learner.layers = (OtherLayer(), OtherLayer())
    assert fast_code(learner, CPU, 0) is None
    learner.layers = (OtherLayer(), DenseLayer())
    assert fast_code(learner, CPU, 0) is not None


def test_mixed_precision_and_the_switch_turn_it_off(monkeypatch):
    learner = make(VSMLConfig(), 1.0)
    assert fast_code(learner, dataclasses.replace(CPU, precision="bfloat16"), 0) is None
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = (w.unroll(state, inputs, labels)[0] for w in (on_cpu(learner), learner))
    assert torch.equal(found, expected)
    monkeypatch.setenv("VSML_BENCH_KERNEL", "0")
    assert fast_code(learner, CPU, 0) is None


def test_gradients_of_inputs_are_not_lost():
    learner = make(VSMLConfig(), scale=1.5)
    inputs, labels = stream()
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    gradients = []
    for way in (on_cpu(learner), learner):
        leaf = inputs.clone().requires_grad_()
        logits, _ = way.unroll(state, leaf, labels)
        gradients += torch.autograd.grad(logits.square().sum(), leaf)
    assert gradients[1].abs().max() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["one layer", "two layers"])
@pytest.mark.parametrize("backward_pass", [False, True])
def test_a_lifetime_cut_in_two_equals_one_in_one_go_and_so_does_its_gradient(hidden, backward_pass):
    learner = make(VSMLConfig(hidden=hidden, backward_pass=backward_pass), scale=1.5)
    inputs, labels = stream()
    results = []
    for cut in (0, 2):
        learner.zero_grad()
        state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
        runner, parts = on_cpu(learner), []
        for part in (slice(0, cut), slice(cut, STEPS)):
            if labels[part].numel():
                logits, state = runner.unroll(state, inputs[part], labels[part])
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
        self.learner, self.runner = learner, on_cpu(learner)

    def forward(self, state, inputs, labels):
        return self.runner.unroll(state, inputs, labels)


@pytest.mark.parametrize("own_state", [False, True])
@pytest.mark.parametrize(
    "config",
    [VSMLConfig(), VSMLConfig(hidden=(5,), layer_norm=True, feed_label=True, backward_pass=True)],
    ids=["default", "two layers, all options"],
)
def test_a_population_equals_its_members_one_by_one(config, own_state, monkeypatch):
    module = Unroll(make(config, scale=1.5))
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
    calls, call = [], library.call

    def counted(name, *arguments):
        calls.append((name, arguments[2]))
        call(name, *arguments)

    monkeypatch.setattr(library, "call", counted)

    def live(parameters, state):
        return functional_call(module, parameters, (state, inputs, labels))

    state = pytree.tree_map(lambda *parts: torch.stack(parts), *states) if own_state else states[0]
    together = vmap(live, in_dims=(0, 0 if own_state else None))(members, state)
    assert calls == [("vsml_lifetimes", 2), ("vsml_lifetimes", STEPS)], "a check, then all at once"
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
    logits, _ = on_cpu(learner).unroll(state, inputs, labels)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    return [p.grad for p in learner.parameters() if p.grad is not None]


def sweep_gradients() -> list[torch.Tensor]:
    """Of one sweep alone: what PyTorch multiplies around it may depend on the threads."""
    generator = torch.Generator().manual_seed(3)
    sizes = ((3, 300, 64), (3, 5, 64), (16, 64), (3, 300, 5, 16), (3, 300, 5, 16))
    operands = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
    swept = sweep(2, *operands)
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
