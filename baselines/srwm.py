"""Self-referential weight matrix: a matrix that makes the keys, values and rates that change it.

Each layer has one matrix W per head, whose rows are four parts: W^y, W^q, W^k and W^beta. For an
input h, with phi the softmax over a head's channels,

    y, q, k, beta = W phi(h)
    W <- W + sigmoid(beta) (W phi(q) - W phi(k)) phi(k)^T     delta rule

with a rate of its own for each of the four parts, so that also how W changes itself changes. The
meta-parameters are W as a lifetime begins and the layers around it. A block is

    h <- h + O y,   h <- h + B relu(A norm(h)),   where W reads norm(h)

The label comes with its example: a pass over (x, no label) predicts and writes nothing, a second
pass over (x, y) learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vsml_bench.learner import Learner, Phase, Recipe, Shape

KEYS = 20.0
"""Fresh W^k on an example's channels, and W^q on a label's, are near this multiple of I."""
APART = 5.0
"""So much lower are fresh keys on a label's channels and queries on an example's: phi sums to 1."""
SLOW = 10.0
"""So much lower than the beta of W^y are fresh betas of W^q, W^k and W^beta."""
SHARP = 2.0
"""Fresh scale of what a matrix reads: phi then tells examples apart."""
LOUD = 16.0
"""Fresh O is so much larger than other layers: a matrix gives back a mean of what it knows."""


@dataclass(frozen=True)
class SRWMConfig:
    """Size of the network. The paper's have two or three layers of width 256 with 16 heads."""

    width: int = 128
    layers: int = 2
    heads: int = 8
    """H, matrices per layer; each has C = width / heads channels."""
    widening: int = 2
    """Units of the feed-forward part per unit of width."""


class SRWMState(NamedTuple):
    """What a lifetime has made of the matrices, and the example that comes with the next label."""

    matrices: tuple[Tensor, ...]  # W of each layer [E, H, 3 C + 4, C]
    embedded: Tensor  # of the example just predicted, without a label [E, width]


def of_examples(channels: int) -> int:
    """How many of a head's channels hear the example when fresh; the others hear the label."""
    return channels - math.ceil(channels / 4)


class Block(nn.Module):
    """A layer of matrices and a feed-forward one, each after LayerNorm and in a residual path."""

    def __init__(self, config: SRWMConfig) -> None:
        super().__init__()
        width, wide = config.width, config.widening * config.width
        self.channels = width // config.heads
        self.start = nn.Parameter(torch.empty(config.heads, 3 * self.channels + 4, self.channels))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        self.forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, wide)
        self.narrow = nn.Linear(wide, width)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Fresh matrices are an associative memory. Keys come from an example's channels, queries
        from a label's, and W^y has random codes of labels. So a label's code is written where its
        example is, at a rate near 1/2, and found again where a similar example is read."""
        own = of_examples(self.channels)
        nn.init.normal_(self.start, generator=generator)
        with torch.no_grad():
            values, queries, keys, rates = self.start.split([*[self.channels] * 3, 4], 1)
            values[..., :own] = 0
            self.start[:, self.channels :].mul_(0.1)
            queries.diagonal(dim1=-2, dim2=-1)[:, own:].add_(KEYS)
            keys.diagonal(dim1=-2, dim2=-1)[:, :own].add_(KEYS)
            queries[:, :own].sub_(APART)
            keys[:, own:].sub_(APART)
            rates[:, 1:].sub_(SLOW)
        for layer, loud in ((self.out, LOUD), (self.widen, 1.0), (self.narrow, 1.0)):
            bound = loud / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        for zero in (self.widen.bias, self.narrow.bias, self.norm.bias, self.forward_norm.bias):
            nn.init.zeros_(zero)
        nn.init.constant_(self.norm.weight, SHARP)
        nn.init.ones_(self.forward_norm.weight)

    def forward(self, hidden: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Reads S inputs [E, S, width]; returns what follows from them, and the matrices as the
        last of them changes them."""
        (lifetimes, steps, width), channels = hidden.shape, self.channels
        given = self.norm(hidden).view(lifetimes, steps, -1, channels).permute(0, 2, 3, 1)
        read = matrices @ given.softmax(-2)  # [E, H, 3 C + 4, S]
        output, query, key, rates = read.split([channels, channels, channels, 4], -2)
        hidden = hidden + self.out(output.permute(0, 3, 1, 2).reshape(lifetimes, steps, width))
        hidden = hidden + self.narrow(torch.relu(self.widen(self.forward_norm(hidden))))
        at_key = key[..., -1:].softmax(-2)  # phi(k) [E, H, C, 1]
        missing = matrices @ (query[..., -1:].softmax(-2) - at_key)  # W phi(q) - W phi(k)
        rate = rates[..., -1:].sigmoid().split(1, -2)  # of W^y, W^q, W^k, W^beta
        strength = torch.cat([*[part.expand_as(at_key) for part in rate[:3]], *[rate[3]] * 4], -2)
        return hidden, matrices + strength * missing * at_key.mT


class SRWM(Learner):
    """Blocks of self-referential matrices between linear embeddings and a linear readout."""

    variants: ClassVar[Mapping[str, SRWMConfig]] = {"srwm": SRWMConfig()}
    family = "fast weights"
    source = "Irie, Schlag, Csordas & Schmidhuber 2022, arXiv 2202.05780"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=250, lifetime=50, learning_rate=1e-3),
            Phase(steps=150, lifetime=200, learning_rate=1e-3, final_learning_rate=2e-4),
        ),
        lifetimes=32,
    )

    def __init__(self, config: SRWMConfig) -> None:
        super().__init__(config)
        features, self.classes = self.fixed_shape.features, self.fixed_shape.classes
        self.embed = nn.Linear(features, config.width)
        self.labels = nn.Parameter(torch.empty(self.classes + 1, config.width))  # last: none yet
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.readout = nn.Linear(config.width, self.classes)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Uniform in +-1/sqrt(fan in), labels normal, each in its channels; no label, biases 0."""
        for layer in (self.embed, self.readout):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.labels, generator=generator)
        channels = self.config.width // self.config.heads
        own = of_examples(channels)
        with torch.no_grad():
            self.embed.weight.view(-1, channels, self.embed.in_features)[:, own:] = 0
            self.labels.view(len(self.labels), -1, channels)[..., :own] = 0
            self.labels[-1] = 0
        self.norm.reset_parameters()  # 1 and 0: draws nothing
        for block in self.blocks:
            assert isinstance(block, Block)
            block.init_meta_parameters(generator)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> SRWMState:
        """The meta-learned matrices in every lifetime; draws nothing."""
        starts = [p.to(generator.device) for n, p in self.named_parameters() if n.endswith("start")]
        matrices = tuple(start.expand(lifetimes, *start.shape) for start in starts)
        return SRWMState(matrices, starts[0].new_zeros(lifetimes, self.config.width))

    def predict(self, state: SRWMState, inputs: Tensor) -> tuple[Tensor, SRWMState]:
        """The pass without a label, which leaves the matrices as they are."""
        embedded = self.embed(inputs.flatten(1))
        hidden, _ = self._pass((embedded + self.labels[-1]).unsqueeze(1), state.matrices)
        logits: Tensor = self.readout(self.norm(hidden[:, 0]))
        return logits, state._replace(embedded=embedded)

    def observe(self, state: SRWMState, labels: Tensor) -> SRWMState:
        """The pass with the label, in which the matrices change themselves."""
        labelled = state.embedded + nn.functional.embedding(labels, self.labels)
        return state._replace(matrices=self._pass(labelled.unsqueeze(1), state.matrices)[1])

    def unroll(self, state: SRWMState, inputs: Tensor, labels: Tensor) -> tuple[Tensor, SRWMState]:
        """The same, with both passes over an example side by side: both read the same matrices."""
        embedded = self.embed(inputs.flatten(2))
        labelled = embedded + nn.functional.embedding(labels, self.labels)
        both = torch.stack([embedded + self.labels[-1], labelled])
        matrices, read = state.matrices, []
        for pair in both.permute(1, 2, 0, 3):  # [E, 2, width]
            hidden, matrices = self._pass(pair, matrices)
            read.append(hidden[:, 0])
        logits: Tensor = self.readout(self.norm(torch.stack(read)))
        return logits, SRWMState(matrices, embedded[-1])

    def _pass(
        self, hidden: Tensor, matrices: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Through all blocks, [E, S, width]; the last of S inputs changes the matrices."""
        changed = []
        for block, own in zip(self.blocks, matrices, strict=True):
            hidden, own = block(hidden, own)
            changed.append(own)
        return hidden, tuple(changed)
