"""Holds a fast learner to a slow one: same outputs, same meta-gradients, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from vsml_bench.learner import Learner, Shape

L = TypeVar("L", bound=Learner)


def with_large_meta_parameters(learner: L, scale: float = 3.0) -> L:
    """The learner in float64, its meta-parameters large enough for every gate to matter."""
    generator = torch.Generator().manual_seed(1)
    learner.init_meta_parameters(generator)
    learner = learner.double()
    with torch.no_grad():
        for parameter in learner.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(scale).add_(0.3 * noise)
    return learner


def noise_stream(shape: Shape, steps: int, lifetimes: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Random inputs [T, E, *shape.inputs] in float64 and labels [T, E]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, lifetimes, *shape.inputs, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(shape.classes, (steps, lifetimes), generator=generator)


def assert_same_outputs_and_meta_gradients(
    learner: Learner, fast: Callable[[], Tensor], slow: Callable[[], Tensor], labels: Tensor
) -> None:
    """Compares logits [T, E, K] and the gradients of their mean cross-entropy."""
    results = []
    for run in (fast, slow):
        learner.zero_grad()
        logits = run()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in learner.named_parameters()
        }
        results.append((logits.detach(), gradients))
    (found, found_gradients), (expected, expected_gradients) = results
    assert found.std() > 1e-3, "the outputs must vary for the comparison to mean anything"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-5, atol=1e-9)
    assert any(g.abs().max() > 1e-4 for g in expected_gradients.values())
