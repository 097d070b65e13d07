"""Prototypical networks: a meta-trained embedding, and the nearest class mean in it.

With f the embedding, S_k the examples of class k that a lifetime has had so far and m_k their mean,

    logits_k = -|f(x) - m_k|^2,   m_k = 1/|S_k| sum over x in S_k of f(x),

so that a prediction is the softmax of negative squared distances. Nothing but the means changes
within a lifetime: what is learned by learning is f. A class without an example has no mean; it
counts c times as far away as the means that there are, on average, and c is learned as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from vsml_bench.learner import Learner, Phase, Recipe, Shape

SHAPE = Shape((1, 28, 28), 62)
"""The embedding takes images of one size; 62 is the most classes of any of the paper's datasets."""
BLOCK = 256
"""Steps that `unroll` takes at once; a block needs products of all its pairs of steps."""
IMAGES = 1024
"""Images embedded at once where no gradient is needed: feature maps of more would fill memory."""


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


class ProtoNetState(NamedTuple):
    """The classes so far."""

    sums: Tensor  # of the embeddings of each class [E, K, D]
    counts: Tensor  # |S_k| [E, K]
    embedded: Tensor  # f of the example just predicted [E, D]


class ProtoNet(Learner):
    """Class means in a learned embedding, f being a network of dense ReLU layers."""

    variants: ClassVar[Mapping[str, Any]] = {"protonet": DenseConfig()}
    family = "learned embeddings"
    source = "Snell, Swersky & Zemel 2017, arXiv 1703.05175"
    invariances = frozenset({"labels"})
    fixed_shape: Shape = SHAPE
    recipe = Recipe(phases=(Phase(300, 100, 1e-3, 1e-4),), lifetimes=16, validate_every=100)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.network = self.make_network()
        self.log_unseen = nn.Parameter(torch.empty(()))  # log c

    def make_network(self) -> nn.Module:
        """f: images [S, *fixed_shape.inputs] to embeddings [S, D]; the last layer has no ReLU."""
        layers: list[nn.Module] = [nn.Flatten()]
        width = self.fixed_shape.features
        for hidden in self.config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, self.config.width))

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Weights and biases uniform in +-1/sqrt(fan in), as in PyTorch; c = 1."""
        nn.init.zeros_(self.log_unseen)
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                bound = 1 / sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()  # 1 and 0: draws nothing

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> ProtoNetState:
        """No class seen; draws nothing."""
        like = next(self.network.parameters())
        width = self._embed(like.new_zeros(1, *self.fixed_shape.inputs)).shape[-1]
        zeros = torch.zeros(lifetimes, shape.classes, width, dtype=like.dtype)
        zeros = zeros.to(generator.device)
        return ProtoNetState(zeros, zeros[..., 0], zeros[:, 0])

    def predict(self, state: ProtoNetState, inputs: Tensor) -> tuple[Tensor, ProtoNetState]:
        """Minus the squared distances from all class means."""
        embedded = self._embed(inputs)
        return self._logits(state, embedded), state._replace(embedded=embedded)

    def observe(self, state: ProtoNetState, labels: Tensor) -> ProtoNetState:
        """Adds the embedding to its class."""
        hit = one_hot(labels, state.counts.shape[-1]).to(state.sums.dtype)  # [E, K]
        added = hit.unsqueeze(-1) * state.embedded.unsqueeze(-2)
        return state._replace(sums=state.sums + added, counts=state.counts + hit)

    def unroll(
        self, state: ProtoNetState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, ProtoNetState]:
        """The same predictions a block of steps at a time. With s_k the sum of class k before a
        step, |z - s_k/n|^2 = |z|^2 - 2 z s_k / n + |s_k|^2 / n^2; the products z s_k come from
        those of all pairs of steps, and |s_k + z|^2 = |s_k|^2 + 2 z s_k + |z|^2."""
        logits = []
        for x_block, y_block in zip(inputs.split(BLOCK), labels.split(BLOCK), strict=True):
            embedded = self._embed(x_block.flatten(0, 1)).unflatten(0, y_block.shape)
            z = embedded.transpose(0, 1)  # [E, S, D]
            hits = one_hot(y_block.T, state.counts.shape[-1]).to(z.dtype)  # [E, S, K]
            products = torch.bmm(torch.bmm(z, z.mT).tril(-1), hits) + torch.bmm(z, state.sums.mT)
            own = z.square().sum(-1, keepdim=True)  # |z|^2
            squares = _before(hits * (2 * products + own), state.sums.square().sum(-1))
            counts = _before(hits, state.counts)
            n = counts.clamp(min=1)
            distances = own - 2 * products / n + squares / n.square()
            logits.append(self._of_distances(distances, counts))
            state = ProtoNetState(
                sums=state.sums + torch.bmm(hits.mT, z),
                counts=state.counts + hits.sum(1),
                embedded=embedded[-1],
            )
        return torch.cat(logits, 1).transpose(0, 1), state

    def answer(self, state: ProtoNetState, queries: Tensor) -> Tensor:
        """All queries from the same means."""
        embedded = self._embed(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
        return torch.stack([self._logits(state, z) for z in embedded])

    def _embed(self, images: Tensor) -> Tensor:
        """f(x), [S, D] of images [S, *fixed_shape.inputs]."""
        if torch.is_grad_enabled():
            embedded: Tensor = self.network(images)
            return embedded
        return torch.cat([self.network(part) for part in images.split(IMAGES)])

    def _logits(self, state: ProtoNetState, embedded: Tensor) -> Tensor:
        """One example of each lifetime, [E, D] to [E, K]."""
        means = state.sums / state.counts.clamp(min=1).unsqueeze(-1)
        distances = (embedded.unsqueeze(-2) - means).square().sum(-1)
        return self._of_distances(distances, state.counts)

    def _of_distances(self, distances: Tensor, counts: Tensor) -> Tensor:
        seen = counts > 0
        total = distances.where(seen, 0).sum(-1, keepdim=True)
        average = total / seen.sum(-1, keepdim=True).clamp(min=1)
        return -distances.where(seen, self.log_unseen.exp() * average)


class ConvProtoNet(ProtoNet):
    """Class means in the field's usual embedding of Omniglot's characters: four blocks of 3x3
    convolution, normalisation, ReLU and 2x2 maximum. The normalisation is over one image's
    features, not over a batch: no lifetime, and no query, may know of another."""

    variants: ClassVar[Mapping[str, Any]] = {"protonet-conv": ConvConfig()}
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


def _before(increments: Tensor, start: Tensor) -> Tensor:
    """What has added up before each of S steps [E, S, K], from `start` [E, K] on; no step's own
    increment goes into it, not even for rounding."""
    return start.unsqueeze(1) + pad(increments.cumsum(1), (0, 0, 1, -1))
