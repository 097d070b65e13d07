"""Ridge regression in a meta-trained embedding: what a learned embedding makes of a closed form.

With f the embedding and (Z, Y) the embeddings and one-hot labels that a lifetime has had so far,

    logits = alpha f(x) W,   W = (lambda I + Z^T Z)^-1 Z^T Y,

where f, alpha and lambda are meta-parameters. (R2-D2 also learns one bias for all logits alike,
which no softmax can see.) One example at a time this is recursive least squares, with z = f(x),

    g = P z / (1 + z^T P z),   W <- W + g (y - W^T z)^T,   P <- P - g z^T P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vsml_bench.learner import Learner, Phase, Recipe, Shape

SHAPE = Shape((1, 28, 28), 62)
"""The embedding takes images of one size; 62 is the most classes of any of the paper's datasets."""
BLOCK = 256
"""Steps that `unroll` takes at once; a block needs products of all its pairs of steps."""
IMAGES = 1024
"""Images embedded at once where no gradient is needed: feature maps of more would fill memory."""
FRESH_SCALE = 10.0
"""Of fresh alpha: fits of one-hot labels lie between 0 and 1, logits should not."""


@dataclass(frozen=True)
class DenseConfig:
    """Dense ReLU layers."""

    hidden: tuple[int, ...] = (256,)
    """Widths of hidden layers."""
    width: int = 64
    """D, numbers in an embedding."""


@dataclass(frozen=True)
class ConvConfig:
    """Four convolutional blocks."""

    filters: int = 64
    """Channels of each; as many are left of a 28x28 image in the end, which is D."""


class LearnedRidgeState(NamedTuple):
    """The fit so far, in float64 whatever the inputs are: P loses a little in every update."""

    covariance: Tensor  # P = (lambda I + Z^T Z)^-1 [E, D, D]
    weights: Tensor  # W = P Z^T Y [E, D, K]
    embedded: Tensor  # f of the example just predicted [E, D]


class LearnedRidge(Learner):
    """Online ridge regression in a learned embedding, f being a network of dense ReLU layers."""

    variants: ClassVar[Mapping[str, Any]] = {"learned-ridge": DenseConfig()}
    family = "learned embeddings"
    source = "Bertinetto, Henriques, Torr & Vedaldi 2019, arXiv 1805.08136 (R2-D2)"
    invariances = frozenset({"labels"})
    fixed_shape: Shape = SHAPE
    recipe = Recipe(phases=(Phase(300, 100, 1e-3, 1e-4),), lifetimes=16, validate_every=100)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.network = self.make_network()
        self.log_strength = nn.Parameter(torch.empty(()))  # log lambda
        self.log_scale = nn.Parameter(torch.empty(()))  # log alpha

    def make_network(self) -> nn.Module:
        """f: images [S, *fixed_shape.inputs] to embeddings [S, D]; the last layer has no ReLU."""
        layers: list[nn.Module] = [nn.Flatten()]
        width = self.fixed_shape.features
        for hidden in self.config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, self.config.width))

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Weights and biases uniform in +-1/sqrt(fan in), as in PyTorch; lambda = 1."""
        nn.init.zeros_(self.log_strength)
        nn.init.constant_(self.log_scale, log(FRESH_SCALE))
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                bound = 1 / sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()  # 1 and 0: draws nothing

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> LearnedRidgeState:
        """P = I / lambda, W = 0; draws nothing."""
        like = next(self.network.parameters())
        width = self._embed(like.new_zeros(1, *self.fixed_shape.inputs)).shape[-1]
        device = generator.device
        identity = torch.eye(width, dtype=torch.float64, device=device)
        prior = identity * (-self.log_strength.double()).exp().to(device)
        weights = torch.zeros(lifetimes, width, shape.classes, dtype=torch.float64, device=device)
        return LearnedRidgeState(prior.repeat(lifetimes, 1, 1), weights, weights[..., 0])

    def predict(self, state: LearnedRidgeState, inputs: Tensor) -> tuple[Tensor, LearnedRidgeState]:
        """The fit's value at the inputs, in their dtype."""
        z = self._embed(inputs)
        fitted = torch.bmm(z.unsqueeze(1), state.weights).squeeze(1)
        return self._logits(fitted, inputs), state._replace(embedded=z)

    def observe(self, state: LearnedRidgeState, labels: Tensor) -> LearnedRidgeState:
        """One step of recursive least squares."""
        covariance, weights, embedded = state
        z = embedded.unsqueeze(-1)  # [E, D, 1]
        y = one_hot(labels, weights.shape[-1]).to(weights.dtype).unsqueeze(1)  # [E, 1, K]
        projected = torch.bmm(covariance, z)  # P z, which is (z^T P)^T: P is symmetric
        gain = projected / (1 + torch.bmm(z.mT, projected))
        return LearnedRidgeState(
            covariance=covariance - torch.bmm(gain, projected.mT),
            weights=weights + torch.bmm(gain, y - torch.bmm(z.mT, weights)),
            embedded=embedded,
        )

    def unroll(
        self, state: LearnedRidgeState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, LearnedRidgeState]:
        """The same predictions a block of steps at a time, by one Cholesky factor each: with Z the
        block's embeddings, R = Y - Z W what the fit before it leaves over, and Z P Z^T + I = L L^T,
        they are Z W + strictly_lower(L) L^-1 R. The fit after the block is W + V^T L^-1 R and
        P - V^T V, with V = L^-1 Z P."""
        fits = []
        for x_block, y_block in zip(inputs.split(BLOCK), labels.split(BLOCK), strict=True):
            covariance, weights, _ = state
            z = self._embed(x_block.flatten(0, 1)).unflatten(0, y_block.shape).transpose(0, 1)
            y = one_hot(y_block.T, weights.shape[-1]).to(weights.dtype)  # [E, S, K]
            identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
            projected = torch.bmm(z, covariance)  # Z P
            factor = torch.linalg.cholesky(torch.bmm(projected, z.mT) + identity)  # L
            fitted = torch.bmm(z, weights)
            residual = torch.linalg.solve_triangular(factor, y - fitted, upper=False)  # L^-1 R
            fits.append(fitted + torch.bmm(factor.tril(-1), residual))
            whitened = torch.linalg.solve_triangular(factor, projected, upper=False)  # V
            state = LearnedRidgeState(
                covariance=covariance - torch.bmm(whitened.mT, whitened),
                weights=weights + torch.bmm(whitened.mT, residual),
                embedded=z[:, -1],
            )
        return self._logits(torch.cat(fits, 1).transpose(0, 1), inputs), state

    def answer(self, state: LearnedRidgeState, queries: Tensor) -> Tensor:
        """All queries from the same fit."""
        z = self._embed(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
        return self._logits(torch.einsum("qed,edk->qek", z, state.weights), queries)

    def _embed(self, images: Tensor) -> Tensor:
        """f(x) in float64, [S, D] of images [S, *fixed_shape.inputs]."""
        if torch.is_grad_enabled():
            embedded: Tensor = self.network(images)
            return embedded.double()
        return torch.cat([self.network(part) for part in images.split(IMAGES)]).double()

    def _logits(self, fitted: Tensor, inputs: Tensor) -> Tensor:
        return (self.log_scale.exp() * fitted).to(inputs.dtype)


class ConvLearnedRidge(LearnedRidge):
    """Ridge regression in the field's usual embedding of Omniglot's characters: four blocks of 3x3
    convolution, normalisation, ReLU and 2x2 maximum. The normalisation is over one image's
    features, not over a batch: no lifetime, and no query, may know of another."""

    variants: ClassVar[Mapping[str, Any]] = {"learned-ridge-conv": ConvConfig()}
    recipe = Recipe(phases=(Phase(600, 80, 1e-3, 1e-4),), lifetimes=8, validate_every=100)

    def make_network(self) -> nn.Module:
        """From 28x28 over 14, 7 and 3 to 1x1, which is the embedding."""
        channels, filters = self.fixed_shape.inputs[0], self.config.filters
        layers: list[nn.Module] = []
        for _ in range(4):
            convolution = nn.Conv2d(channels, filters, 3, padding=1)
            layers += [convolution, nn.GroupNorm(1, filters), nn.ReLU(), nn.MaxPool2d(2)]
            channels = filters
        return nn.Sequential(*layers, nn.Flatten())
