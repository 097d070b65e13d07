"""The nearest class mean: a classifier that keeps one prototype per class and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vsml_bench.learner import Learner, NoConfig, Shape


class NearestMeanState(NamedTuple):
    """The classes so far."""

    means: Tensor  # m_k, zero where nothing was seen [E, K, D]
    counts: Tensor  # n_k [E, K]
    inputs: Tensor  # the example just predicted [E, D]


class NearestMean(Learner):
    """Predicts the class whose mean is nearest, with the logits

    -|x - m_k|^2 / (2 D),   m_k <- m_k + (x - m_k) / n_k.

    They are those of Gaussian classes with one covariance D I in common; D, the number of inputs,
    keeps their scale the same for images of any size and leaves the argmax alone. A class not seen
    yet comes after all that were: it counts as 1 + twice as far as the farthest of them.
    """

    variants: ClassVar[Mapping[str, NoConfig]] = {"nearest-mean": NoConfig()}
    family = "prototypes"
    source = "Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, sec. 18.2"
    invariances = frozenset({"inputs", "labels"})

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> NearestMeanState:
        """No class seen; draws nothing."""
        device = generator.device
        return NearestMeanState(
            means=torch.zeros(lifetimes, shape.classes, shape.features, device=device),
            counts=torch.zeros(lifetimes, shape.classes, device=device),
            inputs=torch.zeros(lifetimes, shape.features, device=device),
        )

    def predict(self, state: NearestMeanState, inputs: Tensor) -> tuple[Tensor, NearestMeanState]:
        """Minus half the mean squared difference from each class mean."""
        x = inputs.flatten(1)
        distances = (x.unsqueeze(-2) - state.means).square().mean(-1)  # [E, K]
        seen = state.counts > 0
        beyond = 1 + 2 * distances.where(seen, 0).amax(-1, keepdim=True)
        return -0.5 * distances.where(seen, beyond), state._replace(inputs=x)

    def observe(self, state: NearestMeanState, labels: Tensor) -> NearestMeanState:
        """Moves the mean of the label's class to include the example."""
        hit = one_hot(labels, state.counts.shape[-1])  # [E, K]
        counts = state.counts + hit
        rate = hit / counts.clamp(min=1)
        difference = state.inputs.unsqueeze(-2) - state.means
        return state._replace(means=state.means + rate.unsqueeze(-1) * difference, counts=counts)
