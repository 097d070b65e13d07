"""Online ridge regression on one-hot targets: the best that a linear least-squares fit can do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from vsml_bench.learner import Learner, Shape, TuningGrid

BLOCK = 256
"""Steps that `unroll` takes at once: large enough for matrix products to be quick, small enough
for a block's Gram matrix to be small beside P."""


@dataclass(frozen=True)
class RidgeConfig:
    """How strongly weights are held at zero."""

    strength: float = 100.0
    """lambda, in units of the inputs' squares summed over examples."""


class RidgeState(NamedTuple):
    """The fit so far, in float64 whatever the inputs are: P loses a little in every update."""

    covariance: Tensor  # P = (lambda I + X^T X)^-1 [E, D+1, D+1]
    weights: Tensor  # W = P X^T Y [E, D+1, K]
    inputs: Tensor  # (x, 1) of the example just predicted [E, D+1]


class Ridge(Learner):
    """Predicts W^T (x, 1), where W minimises, over the examples (X, Y) seen so far,

    |X W - Y|^2 + lambda |W|^2,   so that   W = P X^T Y,   P = (lambda I + X^T X)^-1.

    X has a constant 1 as its last column (its weight, the bias, is held like the others) and Y is
    one-hot. One example at a time this is recursive least squares,

    g = P x / (1 + x^T P x),   W <- W + g (y - W^T x)^T,   P <- P - g x^T P,

    and all predictions of a block of steps come from one Cholesky factor (see `unroll`).
    """

    variants: ClassVar[Mapping[str, RidgeConfig]] = {"ridge": RidgeConfig()}
    family = "least squares"
    source = "Hoerl & Kennard 1970, Technometrics 12(1), 55-67; recursion: Plackett 1950"
    invariances = frozenset({"inputs", "labels"})
    tuning = TuningGrid({"strength": (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)}, lifetimes=8, steps=2000)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> RidgeState:
        """P = I / lambda, W = 0; draws nothing."""
        size, device = shape.features + 1, generator.device
        prior = torch.eye(size, dtype=torch.float64, device=device) / self.config.strength
        weights = torch.zeros(lifetimes, size, shape.classes, dtype=torch.float64, device=device)
        return RidgeState(
            prior.repeat(lifetimes, 1, 1), weights, weights.new_zeros(lifetimes, size)
        )

    def predict(self, state: RidgeState, inputs: Tensor) -> tuple[Tensor, RidgeState]:
        """The fit's value at the inputs, in the inputs' dtype."""
        x = _with_bias(inputs.flatten(1))
        logits = torch.bmm(x.unsqueeze(1), state.weights).squeeze(1)
        return logits.to(inputs.dtype), state._replace(inputs=x)

    def observe(self, state: RidgeState, labels: Tensor) -> RidgeState:
        """One step of recursive least squares."""
        covariance, weights, inputs = state
        x = inputs.unsqueeze(-1)  # [E, D+1, 1]
        y = one_hot(labels, weights.shape[-1]).to(weights.dtype).unsqueeze(1)  # [E, 1, K]
        projected = torch.bmm(covariance, x)  # P x, which is (x^T P)^T: P is symmetric
        gain = projected / (1 + torch.bmm(x.mT, projected))
        return RidgeState(
            covariance=torch.baddbmm(covariance, gain, projected.mT, alpha=-1),
            weights=torch.baddbmm(weights, gain, y - torch.bmm(x.mT, weights)),
            inputs=inputs,
        )

    def unroll(
        self, state: RidgeState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, RidgeState]:
        """The same predictions a block of steps at a time.

        With X [S, D+1] the block's inputs, R = Y - X W what the fit before it leaves over, and
        X P X^T + I = L L^T, where row t of L knows only inputs up to t, the prediction at step t
        made after the t - 1 before it is row t of

        X W + strictly_lower(L) L^-1 R,

        and the fit after the block is W + V^T L^-1 R and P - V^T V, with V = L^-1 X P.
        """
        logits = []
        for x_block, y_block in zip(inputs.split(BLOCK), labels.split(BLOCK), strict=True):
            covariance, weights, _ = state
            x = _with_bias(x_block.flatten(2).transpose(0, 1))  # [E, S, D+1]
            y = one_hot(y_block.T, weights.shape[-1]).to(weights.dtype)  # [E, S, K]
            identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            projected = torch.bmm(x, covariance)  # X P
            factor = torch.linalg.cholesky(torch.bmm(projected, x.mT) + identity)  # L
            fitted = torch.bmm(x, weights)
            residual = torch.linalg.solve_triangular(factor, y - fitted, upper=False)  # L^-1 R
            logits.append(fitted + torch.bmm(factor.tril(-1), residual))
            whitened = torch.linalg.solve_triangular(factor, projected, upper=False)  # V
            state = RidgeState(
                covariance=torch.baddbmm(covariance, whitened.mT, whitened, alpha=-1),
                weights=torch.baddbmm(weights, whitened.mT, residual),
                inputs=x[:, -1],
            )
        return torch.cat(logits, 1).transpose(0, 1).to(inputs.dtype), state


class RandomFeaturesState(NamedTuple):
    """A fit to random units."""

    fit: RidgeState  # with D = F units
    weights: Tensor  # of the units, drawn in each lifetime [E, A, F]
    bias: Tensor  # [E, F]


class RandomFeaturesRidge(Learner):
    """Ridge regression on F = 2 A random rectified units of the A inputs,

    u = (max(0, W^T x + b) - m) / s,   W ~ N(0, 1/A),   b ~ N(0, 1/4),

    where m and s are what max(0, z) has for mean and standard deviation if z ~ N(0, 5/4). Nothing
    but the fit to them is learned. VSML with the same units is `vsml-random-features`.
    """

    variants: ClassVar[Mapping[str, RidgeConfig]] = {"ridge-random-features": RidgeConfig()}
    family = Ridge.family
    source = (
        "Rahimi & Recht 2008, Weighted Sums of Random Kitchen Sinks; units: Cho & Saul 2009, "
        "Kernel Methods for Deep Learning"
    )
    invariances = frozenset({"labels"})
    tuning = Ridge.tuning

    def __init__(self, config: RidgeConfig) -> None:
        super().__init__(config)
        self.ridge = Ridge(config)

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> RandomFeaturesState:
        """Draws the units of each lifetime; nothing is fitted yet."""
        inputs, units = shape.features, 2 * shape.features
        draw = partial(torch.randn, generator=generator, device=generator.device)
        return RandomFeaturesState(
            self.ridge.init_state(lifetimes, Shape((units,), shape.classes), generator),
            draw(lifetimes, inputs, units) / math.sqrt(inputs),
            draw(lifetimes, units) / 2,
        )

    def predict(
        self, state: RandomFeaturesState, inputs: Tensor
    ) -> tuple[Tensor, RandomFeaturesState]:
        """The fit's value at the units, in the inputs' dtype."""
        units = _random_units(state, inputs.unsqueeze(0)).squeeze(0)
        logits, fit = self.ridge.predict(state.fit, units)
        return logits, state._replace(fit=fit)

    def observe(self, state: RandomFeaturesState, labels: Tensor) -> RandomFeaturesState:
        """One step of recursive least squares."""
        return state._replace(fit=self.ridge.observe(state.fit, labels))

    def unroll(
        self, state: RandomFeaturesState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, RandomFeaturesState]:
        """The same predictions a block of steps at a time."""
        logits, fit = self.ridge.unroll(state.fit, _random_units(state, inputs), labels)
        return logits, state._replace(fit=fit)


def _random_units(state: RandomFeaturesState, inputs: Tensor) -> Tensor:
    """[T, E, F] of inputs [T, E, *shape]."""
    rows = inputs.flatten(2).transpose(0, 1)
    units = torch.baddbmm(state.bias.unsqueeze(1), rows, state.weights).relu()
    std = math.sqrt(5 / 4)
    mean_of_unit, std_of_unit = std / math.sqrt(2 * math.pi), std * math.sqrt(0.5 - 0.5 / math.pi)
    return ((units - mean_of_unit) / std_of_unit).transpose(0, 1)


def _with_bias(inputs: Tensor) -> Tensor:
    """Inputs [..., D] in float64, with a constant 1 appended."""
    return pad(inputs.double(), (0, 1), value=1.0)
