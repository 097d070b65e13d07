"""Whole lifetimes in C++, of every size and with every option, against the equations of `network`
in float64: logits, last states, gradients of the meta-parameters and of the first states.

In float32 they are to be as near to float64 as the written steps are in float32, to within a factor
of ten, or to within `NEAR` of it, relative to the norm of what is compared.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.runners import on_cpu
from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from vsml_bench.learner import Learner, Shape
from vsml_bench.vsml.fast import library, lifetimes
from vsml_bench.vsml.network import VSMLConfig, VSMLState
from vsml_bench.vsml.variants import VSML

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")

NEAR = 2e-5

CONFIGS = st.builds(
    VSMLConfig,
    hidden=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    ticks=st.integers(1, 3),
    layer_norm=st.booleans(),
    feed_label=st.booleans(),
    backward_pass=st.booleans(),
    own_backward_sub_rnn=st.booleans(),
    layerwise=st.booleans(),
)


def outcomes(way: Any, learner: Learner, start: VSMLState, xs: Tensor, ys: Tensor) -> list[Tensor]:
    """Logits, last states and, of a random function of them, all gradients."""
    leaves, structure = pytree.tree_flatten(start)
    leaves = [p.clone().requires_grad_() if p.is_floating_point() else p for p in leaves]
    logits, end = way.unroll(pytree.tree_unflatten(leaves, structure), xs, ys)
    results = [logits, *(p for p in pytree.tree_leaves(end) if p.is_floating_point())]
    draw = torch.Generator().manual_seed(3)
    weights = [torch.randn(part.shape, generator=draw, dtype=torch.float64) for part in results]
    total = torch.stack([(w.to(r) * r).sum() for w, r in zip(weights, results, strict=True)]).sum()
    wanted = [*learner.parameters(), *(p for p in leaves if p.requires_grad)]
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    found = [
        torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)
    ]
    return [part.detach().double() for part in (*results, *found)]


@settings(max_examples=25, deadline=None)
@given(
    config=CONFIGS,
    size=st.integers(1, 11),
    classes=st.integers(1, 11),
    count=st.integers(1, 3),
    steps=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_they_are_the_lifetimes_that_the_equations_give(
    config: VSMLConfig, size: int, classes: int, count: int, steps: int, seed: int
) -> None:
    exact = with_large_meta_parameters(VSML(config), 1.5)
    single, shape = copy.deepcopy(exact).float(), Shape((size,), classes)
    xs, ys = noise_stream(shape, steps, count, seed)
    start = exact.init_state(count, shape, torch.Generator().manual_seed(seed))
    begun = pytree.tree_map(lambda p: p.float() if p.is_floating_point() else p, start)
    runner = on_cpu(single)

    right = outcomes(exact, exact, start, xs, ys)
    written = outcomes(single, single, begun, xs.float(), ys)
    found = outcomes(runner, single, begun, xs.float(), ys)

    assert lifetimes.lives(single) and runner.fast is not None and runner.fast.in_use
    for expected, own, other in zip(right, written, found, strict=True):
        scale = expected.norm() + 1e-3
        allowed = max(10 * float((own - expected).norm() / scale), NEAR)
        assert float((other - expected).norm() / scale) <= allowed


def test_unused_options_change_nothing() -> None:
    """A sub-RNN for a backward pass that there is none of."""
    config = VSMLConfig(hidden=(3,), own_backward_sub_rnn=True)
    learner = with_large_meta_parameters(VSML(config), 1.5).float()
    xs, ys = noise_stream(Shape((4,), 3), 3, 2)
    start = learner.init_state(2, Shape((4,), 3), torch.Generator().manual_seed(0))
    runner = on_cpu(learner)
    logits, _ = runner.unroll(start, xs.float(), ys)
    logits.square().sum().backward()
    assert runner.fast is not None and runner.fast.in_use
    assert learner.backward_sub_rnns is not None
    assert all(p.grad is None for p in learner.backward_sub_rnns.parameters())
