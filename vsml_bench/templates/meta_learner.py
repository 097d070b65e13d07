"""MyLearner: one sentence on what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vsml_bench.learner import Learner, NoConfig, Phase, Recipe, Shape, cross_entropy_error


class MyLearnerState(NamedTuple):
    """What changes within a lifetime. Every tensor has the leading axis [E], the lifetimes."""

    weights: Tensor  # W [E, K, D]
    inputs: Tensor  # x, the example just predicted [E, D]
    logits: Tensor  # W x [E, K]


class MyLearner(Learner):
    """A start to change: softmax regression that forgets, with a meta-learned rate and decay,

    W <- decay W - rate (softmax(W x) - onehot(y)) x^T / D.
    """

    variants: ClassVar[Mapping[str, NoConfig]] = {"my-learner": NoConfig()}
    family = "learned gradient descent"
    source = "the paper it comes from"
    invariances = frozenset({"inputs", "labels"})  # claims; `vsml-bench check` measures them
    recipe = Recipe(phases=(Phase(steps=50, lifetime=50, learning_rate=0.05),), lifetimes=8)

    def __init__(self, config: NoConfig) -> None:
        super().__init__(config)
        self.log_rate = nn.Parameter(torch.empty(()))  # rate = exp(log_rate)
        self.decay_logit = nn.Parameter(torch.empty(()))  # decay = sigmoid(decay_logit)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Fresh meta-parameters, drawn from `generator` alone."""
        with torch.no_grad():
            self.log_rate.normal_(0.0, 0.5, generator=generator)
            self.decay_logit.normal_(4.0, 0.5, generator=generator)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> MyLearnerState:
        """A fresh state for each lifetime; anything random comes from `generator`."""
        zeros = self.log_rate.new_zeros
        return MyLearnerState(
            weights=zeros(lifetimes, shape.classes, shape.features),
            inputs=zeros(lifetimes, shape.features),
            logits=zeros(lifetimes, shape.classes),
        )

    def predict(self, state: MyLearnerState, inputs: Tensor) -> tuple[Tensor, MyLearnerState]:
        """Logits for one example per lifetime, before its label is known."""
        x = inputs.flatten(1)
        logits = (state.weights * x.unsqueeze(1)).sum(-1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: MyLearnerState, labels: Tensor) -> MyLearnerState:
        """Learns from the labels of the examples just predicted; must be differentiable."""
        error = cross_entropy_error(state.logits, labels)  # [E, K]
        gradient = error.unsqueeze(-1) * state.inputs.unsqueeze(1)  # [E, K, D]
        rate = self.log_rate.exp() / state.inputs.shape[-1]
        decay = self.decay_logit.sigmoid()
        return state._replace(weights=decay * state.weights - rate * gradient)
