"""One nearest neighbour: remembers everything, and shows how far plain memory goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vsml_bench.learner import Learner, NoConfig, Shape

BLOCK_ELEMENTS = 2**24
"""Distances held at once by `unroll`, over all lifetimes (64 MiB in float32)."""


class NearestNeighbourState(NamedTuple):
    """The memory; n examples so far."""

    examples: Tensor  # [E, n, D]
    labels: Tensor  # int64 [E, n]
    inputs: Tensor  # the example just predicted [E, D]
    logits: Tensor  # of the last prediction [E, K]


class NearestNeighbour(Learner):
    """Predicts the label of the nearest example seen in this lifetime, with the logits

    -min_{s: y_s = k} |x - x_s|^2 / (2 D),

    D the number of inputs, so that their scale does not depend on it. A class not seen yet comes
    after all that were: it counts as 1 + twice as far as the farthest of them.
    """

    variants: ClassVar[Mapping[str, NoConfig]] = {"1-nn": NoConfig()}
    family = "memory"
    source = "Cover & Hart 1967, IEEE Transactions on Information Theory 13(1), 21-27"
    invariances = frozenset({"inputs", "labels"})

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> NearestNeighbourState:
        """An empty memory; draws nothing."""
        device = generator.device
        return NearestNeighbourState(
            examples=torch.zeros(lifetimes, 0, shape.features, device=device),
            labels=torch.zeros(lifetimes, 0, dtype=torch.int64, device=device),
            inputs=torch.zeros(lifetimes, shape.features, device=device),
            logits=torch.zeros(lifetimes, shape.classes, device=device),
        )

    def predict(
        self, state: NearestNeighbourState, inputs: Tensor
    ) -> tuple[Tensor, NearestNeighbourState]:
        """Compares with the whole memory."""
        x = inputs.flatten(1)
        distances = (x.unsqueeze(1) - state.examples).square().mean(-1)  # [E, n]
        logits = _logits(distances.unsqueeze(1), state.labels, state.logits.shape[-1]).squeeze(1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: NearestNeighbourState, labels: Tensor) -> NearestNeighbourState:
        """Remembers the example."""
        return state._replace(
            examples=torch.cat([state.examples, state.inputs.unsqueeze(1)], 1),
            labels=torch.cat([state.labels, labels.unsqueeze(1)], 1),
        )

    def unroll(
        self, state: NearestNeighbourState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, NearestNeighbourState]:
        """All steps in a few blocks: distances to the whole stream by one batched product, those
        to examples not yet seen put at infinity."""
        steps, lifetimes = labels.shape
        before, classes = state.labels.shape[1], state.logits.shape[-1]
        queries = inputs.flatten(2).transpose(0, 1)  # [E, T, D]
        examples = torch.cat([state.examples, queries], 1)  # [E, n + T, D]
        known = torch.cat([state.labels, labels.T], 1)  # [E, n + T]
        norms = examples.square().sum(-1)
        position = torch.arange(before + steps, device=labels.device)
        rows = max(1, BLOCK_ELEMENTS // (lifetimes * (before + steps)))
        blocks = []
        for start in range(before, before + steps, rows):
            stop = min(start + rows, before + steps)
            # |x - x_s|^2 = |x|^2 - 2 x.x_s + |x_s|^2
            gram = torch.bmm(examples[:, start:stop], examples[:, :stop].mT)
            distances = norms[:, start:stop, None] - 2 * gram + norms[:, None, :stop]
            unseen = position[:stop] >= position[start:stop, None]
            distances = distances.clamp(min=0).masked_fill(unseen, torch.inf)
            blocks.append(_logits(distances / examples.shape[-1], known[:, :stop], classes))
        logits = torch.cat(blocks, 1).transpose(0, 1)  # [T, E, K]
        return logits, NearestNeighbourState(examples, known, queries[:, -1], logits[-1])


def _logits(distances: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits [E, Q, K] from mean squared differences [E, Q, n], infinite to what is not seen yet,
    and labels [E, n]."""
    lifetimes, queries, _ = distances.shape
    nearest = distances.new_full((lifetimes, queries, classes), torch.inf).scatter_reduce(
        -1, labels.unsqueeze(1).expand_as(distances), distances, "amin"
    )
    unseen = nearest.isposinf()  # NaN is none: it has to reach the logits
    beyond = 1 + 2 * nearest.where(~unseen, 0).amax(-1, keepdim=True)
    return -0.5 * nearest.where(~unseen, beyond)
