"""Self-referential weight matrix: a matrix that makes the keys, values and rates that change it.

Each layer has one matrix W per head, whose rows are four parts: W^y, W^q, W^k and W^beta. For an
input h, with phi the softmax over a head's channels,

    y, q, k, beta = W phi(h)
    W <- W + sigmoid(beta) (W phi(q) - W phi(k)) phi(k)^T     delta rule

with a rate of its own for each of the four parts, so that also how W changes itself changes. The
meta-parameters are W as a lifetime begins and the layers around it. A block is

    h <- h + O y,   h <- h + B relu(A norm(h)),   where W reads norm(h)

The label comes with its example: an example is predicted by a pass over (x, no label), which writes
nothing, and learned in a second pass over (x, y), whose outputs nobody reads but the next block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, relu

from vsml_bench.learner import Learner, Phase, Recipe, Shape

KEYS = 10.0
"""Of fresh matrices: W^k begins near this multiple of the identity, so that what is written at an
example's key is found again where a similar example is read."""
LABEL_STD = 0.5
"""Of fresh label embeddings: an example with its label is then still like the example without."""


@dataclass(frozen=True)
class SRWMConfig:
    """Size of the network. The defaults train on one CPU core; the paper's for few-shot learning
    has two or three layers of width 256 with 16 heads."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    """H, matrices per layer; each has C = width / heads channels."""
    widening: int = 2
    """Units of the feed-forward part per unit of width."""


class SRWMState(NamedTuple):
    """What a lifetime has made of the matrices, and the example that comes with the next label."""

    matrices: tuple[Tensor, ...]  # W of each layer [E, H, 3 C + 4, C]
    embedded: Tensor  # of the example just predicted, without a label [E, width]


class Block(nn.Module):
    """A layer of self-referential matrices and a feed-forward one, both with LayerNorm before and a
    residual path around."""

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
        """Matrices of standard deviation 1, but for W^k; rates start at about 1/2."""
        nn.init.normal_(self.start, generator=generator)
        with torch.no_grad():
            keys = self.start[:, 2 * self.channels : 3 * self.channels]
            keys.diagonal(dim1=-2, dim2=-1).add_(KEYS)
        for layer in (self.out, self.widen, self.narrow):
            bound = 1 / sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        for layer in (self.widen, self.narrow):
            nn.init.zeros_(layer.bias)
        for norm in (self.norm, self.forward_norm):
            norm.reset_parameters()  # 1 and 0: draws nothing

    def forward(self, hidden: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Reads S inputs [E, S, width]; returns what follows from them, and the matrices as the
        last of them changes them."""
        lifetimes, steps, width = hidden.shape
        channels = self.channels
        given = self.norm(hidden).view(lifetimes, steps, -1, channels).permute(0, 2, 3, 1)
        read = matrices @ given.softmax(-2)  # [E, H, 3 C + 4, S]
        output, query, key, rates = read.split([channels, channels, channels, 4], -2)
        hidden = hidden + self.out(output.permute(0, 3, 1, 2).reshape(lifetimes, steps, width))
        hidden = hidden + self.narrow(relu(self.widen(self.forward_norm(hidden))))
        at_key = key[..., -1:].softmax(-2)  # phi(k) [E, H, C, 1]
        missing = matrices @ (query[..., -1:].softmax(-2) - at_key)  # W phi(q) - W phi(k)
        rate = rates[..., -1:].sigmoid()  # one for W^y, W^q, W^k, W^beta
        each = [*[rate[:, :, i : i + 1].expand_as(at_key) for i in range(3)], rate[:, :, 3:]]
        strength = torch.cat([*each, *[rate[:, :, 3:]] * 3], -2)
        return hidden, matrices + strength * missing * at_key.mT


class SRWM(Learner):
    """Blocks of self-referential weight matrices between a linear embedding of the example and its
    label, and a linear readout."""

    variants: ClassVar[Mapping[str, SRWMConfig]] = {"srwm": SRWMConfig()}
    family = "fast weights"
    source = "Irie, Schlag, Csordas & Schmidhuber 2022, arXiv 2202.05780"
    fixed_shape: Shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=600, lifetime=50, learning_rate=1e-3),
            Phase(steps=200, lifetime=100, learning_rate=1e-3, final_learning_rate=1e-4),
        ),
        lifetimes=32,
        validate_every=100,
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
        """Uniform in +-1/sqrt(fan in), labels normal, biases 0; blocks as they say."""
        for layer in (self.embed, self.readout):
            bound = 1 / sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.labels, std=LABEL_STD, generator=generator)
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
        return self._logits(hidden), state._replace(embedded=embedded)

    def observe(self, state: SRWMState, labels: Tensor) -> SRWMState:
        """The pass with the label, in which the matrices change themselves."""
        labelled = state.embedded + embedding(labels, self.labels)
        return state._replace(matrices=self._pass(labelled.unsqueeze(1), state.matrices)[1])

    def unroll(self, state: SRWMState, inputs: Tensor, labels: Tensor) -> tuple[Tensor, SRWMState]:
        """The same, with both passes over an example side by side: both read the same matrices."""
        embedded = self.embed(inputs.flatten(2))
        both = torch.stack([embedded + self.labels[-1], embedded + embedding(labels, self.labels)])
        matrices, read = state.matrices, []
        for pair in both.permute(1, 2, 0, 3):  # [E, 2, width]
            hidden, matrices = self._pass(pair, matrices)
            read.append(hidden)
        return self._logits(torch.stack(read)), SRWMState(matrices, embedded[-1])

    def _pass(
        self, hidden: Tensor, matrices: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Through all blocks, [E, S, width]; the last of S inputs changes the matrices."""
        changed = []
        for block, own in zip(self.blocks, matrices, strict=True):
            hidden, own = block(hidden, own)
            changed.append(own)
        return hidden, tuple(changed)

    def _logits(self, hidden: Tensor) -> Tensor:
        """From the first of S inputs, [..., S, width] to [..., K]."""
        logits: Tensor = self.readout(self.norm(hidden[..., 0, :]))
        return logits
