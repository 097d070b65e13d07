"""MyLearner: one sentence on what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vsml_bench.learner import Learner, Shape, TuningGrid, cross_entropy_error


@dataclass(frozen=True)
class MyLearnerConfig:
    """What can be set; `tuning` below tries values on the meta-train side."""

    rate: float = 0.03


class MyLearnerState(NamedTuple):
    """What changes within a lifetime. Every tensor has the leading axis [E], the lifetimes."""

    weights: Tensor  # W [E, K, D]
    inputs: Tensor  # x, the example just predicted [E, D]
    logits: Tensor  # W x [E, K]


class MyLearner(Learner):
    """A start to change: softmax regression, W <- W - rate (softmax(W x) - onehot(y)) x^T."""

    variants: ClassVar[Mapping[str, MyLearnerConfig]] = {"my-learner": MyLearnerConfig()}
    family = "gradient descent"
    source = "the paper it comes from"
    invariances = frozenset({"inputs", "labels"})  # claims; `vsml-bench check` measures them
    tuning = TuningGrid({"rate": (0.01, 0.03, 0.1)}, lifetimes=4, steps=500)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> MyLearnerState:
        """A fresh state for each lifetime; anything random comes from `generator`."""
        device, classes, features = generator.device, shape.classes, shape.features
        return MyLearnerState(
            weights=torch.zeros(lifetimes, classes, features, device=device),
            inputs=torch.zeros(lifetimes, features, device=device),
            logits=torch.zeros(lifetimes, classes, device=device),
        )

    def predict(self, state: MyLearnerState, inputs: Tensor) -> tuple[Tensor, MyLearnerState]:
        """Logits for one example per lifetime, before its label is known."""
        x = inputs.flatten(1)
        logits = (state.weights * x.unsqueeze(1)).sum(-1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: MyLearnerState, labels: Tensor) -> MyLearnerState:
        """Learns from the labels of the examples just predicted; returns a new state."""
        error = cross_entropy_error(state.logits, labels)  # [E, K]
        gradient = error.unsqueeze(-1) * state.inputs.unsqueeze(1)  # [E, K, D]
        return state._replace(weights=state.weights - self.config.rate * gradient)
