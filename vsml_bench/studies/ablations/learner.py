"""Ablations of VSML: the paper's one-layer model with one choice changed at a time, all of them
meta-trained alike and shortly.

They are not among the learners that are found without being pointed at: the suite `ablations` names
this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vsml_bench.learner import Phase, Recipe, Shape
from vsml_bench.vsml.layers import LayerState
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import FORGET_OFFSET, SubRNN, truncated_normal_

RANDOM_SHARE = 0.5


@dataclass(frozen=True)
class AblationConfig:
    """What can be changed; the defaults are VSML."""

    network: VSMLConfig = field(default_factory=VSMLConfig)
    """Its size: micro-ticks, N, M."""
    random_share: float = RANDOM_SHARE
    """Share of c that is drawn at random for a fresh state; the rest of it is 0."""
    forget_offset: float = FORGET_OFFSET
    """Added to the forget gate of fresh meta-parameters."""
    input_offset: float = FORGET_OFFSET
    """Taken from their input gate."""


class Ablation(VSMLNetwork):
    """VSML with another size, fresh state or gate offset.

    With one layer, messages of M channels use two: the input and the error enter on channel 0, the
    logit leaves on channel 1. M then sets no more than the spread of fresh weights, whose variance
    is 1 / (2 M + N), and so how much changes in what M should not touch.
    """

    variants: ClassVar[Mapping[str, AblationConfig]] = {
        "ablation-none": AblationConfig(),
        "ablation-ticks-1": AblationConfig(VSMLConfig(ticks=1)),
        "ablation-ticks-3": AblationConfig(VSMLConfig(ticks=3)),
        "ablation-n-8": AblationConfig(VSMLConfig(state_size=8)),
        "ablation-n-32": AblationConfig(VSMLConfig(state_size=32)),
        "ablation-messages-4": AblationConfig(VSMLConfig(message_size=4)),
        "ablation-messages-16": AblationConfig(VSMLConfig(message_size=16)),
        "ablation-random-0": AblationConfig(random_share=0.0),
        "ablation-random-1": AblationConfig(random_share=1.0),
        "ablation-offsets-0": AblationConfig(forget_offset=0.0, input_offset=0.0),
        "ablation-offsets-1": AblationConfig(forget_offset=1.0, input_offset=1.0),
    }
    invariances = frozenset({"inputs", "labels"})
    recipe = Recipe(
        phases=(
            Phase(steps=300, lifetime=100, learning_rate=1e-2, classes=3),
            Phase(150, lifetime=100, learning_rate=1e-2, final_learning_rate=1e-3, lifetimes=8),
        ),
        size=8,
        validation_lifetimes=8,
    )

    def __init__(self, config: AblationConfig) -> None:
        super().__init__(config.network)
        self.changed = config

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """As in `VSMLNetwork`. Offsets add to a trained bias, so that another offset is another
        initial bias, and the hand-written code computes it as well."""
        super().init_meta_parameters(generator)
        for module in self.modules():
            if isinstance(module, SubRNN):
                i, _, f, _ = module.gates_bias.data.chunk(4)
                i -= self.changed.input_offset - FORGET_OFFSET
                f += self.changed.forget_offset - FORGET_OFFSET

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> VSMLState:
        """As in `VSMLNetwork`, with `random_share` of each c drawn."""
        state = super().init_state(lifetimes, shape, generator)
        if self.changed.random_share == RANDOM_SHARE:
            return state
        layers = tuple(self._redrawn(layer, generator) for layer in state.layers)
        return state._replace(layers=layers)

    def _redrawn(self, layer: LayerState, generator: torch.Generator) -> LayerState:
        """layer: [E, R, A, B, N], the fan in is A."""
        cell = torch.zeros_like(layer.cell, device=generator.device)
        drawn = round(self.changed.random_share * cell.shape[-1])
        if drawn > 0:
            truncated_normal_(cell[..., :drawn], cell.shape[2], generator)
        return layer._replace(cell=cell.to(layer.cell.device))


class LabelAblation(Ablation):
    """VSML that is told the label instead of the error of its prediction, on the same channel."""

    variants: ClassVar[Mapping[str, AblationConfig]] = {"ablation-label": AblationConfig()}

    def observe(self, state: VSMLState, labels: Tensor) -> VSMLState:
        """Puts the one-hot label at the top of the network, where the next sweep meets it."""
        onehot = nn.functional.one_hot(labels, state.logits.shape[-1]).to(state.logits.dtype)
        top = self._message(onehot).unsqueeze(1)  # [E, R, K, M], R = 1
        return state._replace(feedback=(*state.feedback[:-1], top))


class SummingSubRNN(SubRNN):
    """Messages are added up where `SubRNN` takes their mean."""

    def heads(self, over_inputs: Tensor, over_outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The means of A or B messages, times their number; there is one row per unit of the other
        side."""
        forward_messages, backward_messages = super().heads(over_inputs, over_outputs)
        inputs, outputs = over_outputs.shape[1], over_inputs.shape[1]
        return inputs * forward_messages, outputs * backward_messages


class SumAblation(Ablation):
    """VSML whose messages are summed."""

    variants: ClassVar[Mapping[str, AblationConfig]] = {"ablation-sum": AblationConfig()}

    def make_sub_rnn(self) -> SubRNN:
        """One set of meta-parameters."""
        return SummingSubRNN(self.config.state_size, self.config.message_size)
