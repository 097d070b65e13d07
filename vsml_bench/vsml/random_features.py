"""VSML above a random layer of rectified units, which is drawn afresh in every lifetime.

One layer of sub-RNNs adds up what each of its inputs says, so that the best linear fit bounds it.
With random units for inputs it adds up what they say, and comes near a kernel machine (Rahimi &
Recht 2008, "Random Features for Large-Scale Kernel Machines"; the kernel of rectified units: Cho &
Saul 2009, "Kernel Methods for Deep Learning"). Nothing in the layer is meta-learned or learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vsml_bench.learner import Shape
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import require_sizes

BIAS_STD = 0.5

# Inputs of unit variance give pre-activations of about this standard deviation, and a rectified
# Gaussian has this mean and standard deviation.
_STD = math.sqrt(1 + BIAS_STD**2)
MEAN_OF_UNIT = _STD / math.sqrt(2 * math.pi)
STD_OF_UNIT = _STD * math.sqrt(0.5 - 0.5 / math.pi)


@dataclass(frozen=True)
class RandomFeaturesConfig(VSMLConfig):
    """As `VSMLConfig`, with the random layer."""

    random_features: int = 2
    """Units, as a multiple of the inputs."""


class RandomFeaturesNetwork(VSMLNetwork):
    """A VSML network whose inputs are F random units of the task's inputs x [A],

    u = (max(0, W^T x + b) - m) / s,   W ~ N(0, 1/A),   b ~ N(0, 1/4),

    where m and s are the mean and the standard deviation of max(0, z), z ~ N(0, 5/4). Its named
    configuration is in `vsml_bench.vsml.variants`.
    """

    config: RandomFeaturesConfig

    def __init__(self, config: RandomFeaturesConfig) -> None:
        require_sizes(config, "random_features")
        super().__init__(config)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> VSMLState:
        """As in `VSMLNetwork`, after W [E, A, F] and b [E, F] are drawn, which `below` keeps."""
        inputs, units = shape.features, self.config.random_features * shape.features
        like = self._sub_rnn(0).gates_bias

        def normal(*size: int) -> Tensor:
            device = generator.device
            drawn = torch.randn(size, generator=generator, dtype=like.dtype, device=device)
            return drawn.to(like.device)

        weights = normal(lifetimes, inputs, units) / math.sqrt(inputs)
        bias = BIAS_STD * normal(lifetimes, units)
        state = super().init_state(lifetimes, Shape((units,), shape.classes), generator)
        return state._replace(below=(weights, bias))

    def entering(self, state: VSMLState, inputs: Tensor) -> Tensor:
        """The units [T, E, F]."""
        weights, bias = state.below
        rows = inputs.flatten(2).transpose(0, 1)  # [E, T, A]
        units = torch.baddbmm(bias.unsqueeze(1), rows, weights).relu()
        return ((units - MEAN_OF_UNIT) / STD_OF_UNIT).transpose(0, 1)
