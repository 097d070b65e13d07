"""Hand-written online backpropagation against autograd and torch.optim.SGD."""

from __future__ import annotations

import pytest
import torch

from vsml_bench.learner import Shape
from vsml_bench.studies.cloning.backpropagation import (
    CONSTANT,
    Backpropagation,
    BackpropagationConfig,
)

SHAPE = Shape((1, 2, 3), 4)
LIFETIMES, STEPS = 2, 12


@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)], ids=["one layer", "two", "three"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_sgd_on_the_cross_entropy(hidden: tuple[int, ...], momentum: float) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(STEPS, LIFETIMES, *SHAPE.inputs, dtype=torch.float64)
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES))
    learner = Backpropagation(BackpropagationConfig(hidden, rate=0.05, momentum=momentum))
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(1))
    state = learner.starting_from(tuple(w.double() for w in state.weights))
    logits, last = learner.unroll(state, inputs, labels)

    for lifetime in range(LIFETIMES):
        layers = [w[lifetime].clone().requires_grad_() for w in state.weights]
        sgd = torch.optim.SGD(layers, lr=0.05, momentum=momentum)
        for t in range(STEPS):
            units = inputs[t, lifetime].flatten()
            for layer in layers:
                units = torch.tanh(torch.cat([units, units.new_tensor([CONSTANT])])) @ layer
            torch.testing.assert_close(logits[t, lifetime], units.detach(), rtol=0, atol=1e-12)
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(units, labels[t, lifetime]).backward()
            sgd.step()
        for found, wanted in zip(last.weights, layers, strict=True):
            torch.testing.assert_close(found[lifetime], wanted.detach(), rtol=0, atol=1e-12)


def test_nothing_is_learned_without_a_label() -> None:
    learner = Backpropagation(BackpropagationConfig((5,)))
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(1))
    _, after = learner(state, torch.randn(LIFETIMES, *SHAPE.inputs), torch.tensor([-1, 2]))
    for before, weights in zip(state.weights, after.weights, strict=True):
        assert torch.equal(before[0], weights[0])
        assert not torch.equal(before[1], weights[1])
