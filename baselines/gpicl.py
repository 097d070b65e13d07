"""GPICL: a causal Transformer that is meta-trained until reading a stream is learning from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

from vsml_bench.learner import Learner, Phase, Recipe, Shape

BLOCK = 256
"""Steps that `unroll` takes at once: attention holds at most E x H x BLOCK x t scores."""
LABEL_STD = 0.5
"""Of fresh label embeddings: as heard as the image, which is standardised, but not louder."""
SHARPNESS = 1.5
"""Factor on the fresh W_Q = W_K: how much more similar examples are attended to at first."""
FRESH_SMEAR = -2.0
"""Of fresh gates, as a logit: a key is then 12 % its own example's, 88 % its predecessor's."""


@dataclass(frozen=True)
class GPICLConfig:
    """Size of the Transformer. The defaults train on one CPU core; the paper's has width 512 and
    four layers."""

    width: int = 128
    layers: int = 2
    heads: int = 2
    """H, heads of attention; each has width / heads channels."""
    widening: int = 4
    """Units of the feed-forward part per unit of width."""


class LayerCache(NamedTuple):
    """What a layer remembers of t examples, H heads of C channels."""

    keys: Tensor  # already mixed with their predecessors [E, H, t, C]
    values: Tensor  # [E, H, t, C]
    latest: Tensor  # the last key before it was mixed, 0 at the start [E, H, 1, C]


class GPICLState(NamedTuple):
    """The key-value cache of every layer, and what the next token needs to know."""

    layers: tuple[LayerCache, ...]
    label: Tensor  # y_{t-1}, int64 [E]; `classes` where there was none yet


class Layer(nn.Module):
    """Pre-LayerNorm attention and feed-forward, as in the paper, with smeared keys: head h attends
    to k_s <- g_h k_s + (1 - g_h) k_{s-1}, g_h = sigmoid(`smear`_h)."""

    def __init__(self, config: GPICLConfig) -> None:
        super().__init__()
        width, wide = config.width, config.widening * config.width
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.smear = nn.Parameter(torch.empty(config.heads, 1, 1))
        self.attended = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, wide)
        self.narrow = nn.Linear(wide, width)

    def init_meta_parameters(self, gain: float, generator: torch.Generator) -> None:
        """Truncated normal matrices of variance gain / fan in; W_K = W_Q."""
        for module in (self.queries_keys_values, self.attended, self.widen, self.narrow):
            _truncated_normal_(module.weight, gain / module.in_features, generator)
            nn.init.zeros_(module.bias)
        for norm in (self.attention_norm, self.forward_norm):
            norm.reset_parameters()  # 1 and 0: draws nothing
        with torch.no_grad():
            self.smear.fill_(FRESH_SMEAR)
            query, key, _ = self.queries_keys_values.weight.chunk(3)
            key.copy_(query.mul_(SHARPNESS))

    def forward(self, hidden: Tensor, cache: LayerCache) -> tuple[Tensor, LayerCache]:
        """S further tokens [E, S, width] and what they leave in the cache."""
        lifetimes, steps, width = hidden.shape
        projected = self.queries_keys_values(self.attention_norm(hidden))
        split = projected.view(lifetimes, steps, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each [E, H, S, C]
        previous = torch.cat([cache.latest, key[:, :, :-1]], 2)
        gate = self.smear.sigmoid()
        keys = torch.cat([cache.keys, gate * key + (1 - gate) * previous], 2)
        values = torch.cat([cache.values, value], 2)
        seen = hidden.new_ones(steps, keys.shape[2], dtype=torch.bool).tril(cache.keys.shape[2])
        read = scaled_dot_product_attention(query, keys, values, attn_mask=seen)
        hidden = hidden + self.attended(read.transpose(1, 2).reshape(lifetimes, steps, width))
        wide = gelu(self.widen(self.forward_norm(hidden)), approximate="tanh")
        return hidden + self.narrow(wide), LayerCache(keys, values, key[:, :, -1:])


class GPICL(Learner):
    """A Transformer over tokens (x_t, y_{t-1}) whose output at token t predicts y_t. Its
    meta-parameters never change in a lifetime: what it learns is in its context.

    The key-value cache has no limit and grows by one entry a step, appended to a copy: a state must
    stay what it was, and copying costs O(t), as does the attention that reads the cache.

    Positions: the paper learns an embedding per position, so that it ends where meta-training's
    lifetimes end. Here a key is mixed with its predecessor's, which puts x_{s-1} beside the y_{s-1}
    of token s, and the stream is otherwise read as a set, of any size.

    Start: W_K = W_Q, and gates near the predecessor. Attention then begins as a similarity of
    examples (after Trockman & Kolter 2023, arXiv 2305.09828). At width 64 the loss left its plateau
    within 150 meta-updates; with duller maps, even gates and louder labels it was still there when
    trials ended, after 200 to 300.
    """

    variants: ClassVar[Mapping[str, GPICLConfig]] = {"gpicl": GPICLConfig()}
    family = "in-context"
    source = "Kirsch, Harrison, Sohl-Dickstein & Metz 2022, arXiv 2212.04458"
    fixed_shape = Shape((1, 28, 28), 62)
    recipe = Recipe(
        phases=(
            Phase(steps=100, lifetime=100, learning_rate=2e-4, final_learning_rate=2e-3),
            Phase(steps=200, lifetime=100, learning_rate=2e-3),
            Phase(700, 400, learning_rate=2e-3, final_learning_rate=2e-4, lifetimes=12),
        ),
        lifetimes=32,
    )

    def __init__(self, config: GPICLConfig) -> None:
        super().__init__(config)
        features, self.classes = self.fixed_shape.features, self.fixed_shape.classes
        self.embed = nn.Linear(features, config.width)
        self.labels = nn.Parameter(torch.empty(self.classes + 1, config.width))  # last: none yet
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, self.classes)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Truncated normal matrices of std sqrt(1 / fan in), in layers sqrt(2 / (layers fan in)) as
        in the released code; then W_K = W_Q. Biases are 0."""
        _truncated_normal_(self.embed.weight, 1 / self.embed.in_features, generator)
        _truncated_normal_(self.labels, LABEL_STD**2, generator)
        _truncated_normal_(self.head.weight, 1 / self.head.in_features, generator)
        nn.init.zeros_(self.embed.bias)
        nn.init.zeros_(self.head.bias)
        self.norm.reset_parameters()  # 1 and 0: draws nothing
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.init_meta_parameters(2 / self.config.layers, generator)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> GPICLState:
        """An empty cache and no label; draws nothing."""
        heads, channels = self.config.heads, self.config.width // self.config.heads
        dtype, device = self.labels.dtype, generator.device
        start = torch.zeros(lifetimes, heads, 1, channels, dtype=dtype, device=device)
        nothing = start[:, :, :0]
        none_yet = torch.full((lifetimes,), self.classes, device=device)
        return GPICLState((LayerCache(nothing, nothing, start),) * self.config.layers, none_yet)

    def predict(self, state: GPICLState, inputs: Tensor) -> tuple[Tensor, GPICLState]:
        """Appends the token (x_t, y_{t-1}) and reads the prediction there."""
        logits, layers = self._read(state.layers, inputs.unsqueeze(0), state.label.unsqueeze(0))
        return logits.squeeze(0), state._replace(layers=layers)

    def observe(self, state: GPICLState, labels: Tensor) -> GPICLState:
        """Keeps the label for the next token."""
        return state._replace(label=labels)

    def unroll(
        self, state: GPICLState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, GPICLState]:
        """All tokens of a block in one causal attention: the label of a step is in the token of
        the next one only."""
        layers, blocks = state.layers, []
        previous = torch.cat([state.label.unsqueeze(0), labels[:-1]])
        for x_block, y_block in zip(inputs.split(BLOCK), previous.split(BLOCK), strict=True):
            logits, layers = self._read(layers, x_block, y_block)
            blocks.append(logits)
        return torch.cat(blocks), GPICLState(layers, labels[-1])

    def _read(
        self, caches: tuple[LayerCache, ...], inputs: Tensor, previous: Tensor
    ) -> tuple[Tensor, tuple[LayerCache, ...]]:
        """Logits [S, E, K] at S further tokens, of inputs [S, E, 1, 28, 28] and the labels before
        them [S, E]."""
        hidden = self.embed(inputs.flatten(2)) + embedding(previous, self.labels)
        hidden = hidden.transpose(0, 1)  # [E, S, width]
        grown = []
        for layer, cache in zip(self.layers, caches, strict=True):
            hidden, cache = layer(hidden, cache)
            grown.append(cache)
        return self.head(self.norm(hidden)).transpose(0, 1), tuple(grown)


def _truncated_normal_(tensor: Tensor, variance: float, generator: torch.Generator) -> None:
    """Fills with N(0, variance) cut at two standard deviations, in place."""
    std = sqrt(variance)
    nn.init.trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std, generator=generator)
