"""An example: the nearest class mean whose means forget. Copy it and change it."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from vsml_bench.learner import Learner, Shape, TuningGrid


@dataclass(frozen=True)
class FadingConfig:
    rate: float = 0.05


class FadingState(NamedTuple):
    means: torch.Tensor  # m_k [E, K, D]: E lifetimes, K classes, D inputs
    inputs: torch.Tensor  # x, the example just predicted [E, D]


class FadingMean(Learner):
    """Logits -|x - m_k|^2 / (2 D); then m_y moves by rate (x - m_y)."""

    variants: ClassVar = {"fading-mean": FadingConfig()}
    family, source = "prototypes", "examples/my_learner.py"
    tuning = TuningGrid({"rate": (0.02, 0.05, 0.1)}, lifetimes=4, steps=500)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> FadingState:
        empty = torch.zeros(lifetimes, shape.features, device=generator.device)
        return FadingState(empty.unsqueeze(1).repeat(1, shape.classes, 1), empty)

    def predict(self, state: FadingState, inputs: torch.Tensor) -> tuple[torch.Tensor, FadingState]:
        x = inputs.flatten(1)
        return -0.5 * (x.unsqueeze(1) - state.means).square().mean(-1), state._replace(inputs=x)

    def observe(self, state: FadingState, labels: torch.Tensor) -> FadingState:
        own = torch.nn.functional.one_hot(labels, state.means.shape[1]).unsqueeze(-1)
        towards = state.inputs.unsqueeze(1) - state.means
        return state._replace(means=state.means + self.config.rate * own * towards)
