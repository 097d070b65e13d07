"""A random layer of rectified units below a learner, drawn afresh in every lifetime.

A linear learner above it, or one layer of sub-RNNs, adds up what each unit says, and so comes near
a kernel machine (Rahimi & Recht 2008, "Random Features for Large-Scale Kernel Machines"; the kernel
of rectified units: Cho & Saul 2009, "Kernel Methods for Deep Learning"). Nothing in the layer is
meta-learned or learned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

BIAS_STD = 0.5

# Inputs of unit variance give pre-activations of about this standard deviation, and a rectified
# Gaussian has this mean and standard deviation.
_STD = math.sqrt(1 + BIAS_STD**2)
MEAN_OF_UNIT = _STD / math.sqrt(2 * math.pi)
STD_OF_UNIT = _STD * math.sqrt(0.5 - 0.5 / math.pi)


class RandomFeatures(NamedTuple):
    """The layer of each lifetime."""

    weights: Tensor  # [E, A, F], normal with variance 1/A
    bias: Tensor  # [E, F], normal with standard deviation `BIAS_STD`


def draw_random_features(
    like: Tensor, lifetimes: int, inputs: int, count: int, generator: torch.Generator
) -> RandomFeatures:
    """`count` units F over `inputs` numbers A, of the dtype and on the device of `like`."""

    def normal(*size: int) -> Tensor:
        drawn = torch.randn(size, generator=generator, dtype=like.dtype, device=generator.device)
        return drawn.to(like.device)

    weights = normal(lifetimes, inputs, count) / math.sqrt(inputs)
    return RandomFeatures(weights, BIAS_STD * normal(lifetimes, count))


def random_features_of(features: RandomFeatures, inputs: Tensor) -> Tensor:
    """(relu(W^T x + b) - mean) / std [E, T, F] of inputs x [E, T, A] of mean 0 and variance 1."""
    units = torch.baddbmm(features.bias.unsqueeze(1), inputs, features.weights).relu()
    return (units - MEAN_OF_UNIT) / STD_OF_UNIT
