"""VSML's equations once more, for speed: in C++ for CPUs, as Triton kernels for CUDA GPUs. Equal to
what `network`, `dense`, `sub_rnn` and `label_variant` write, up to rounding.

This module says where they apply. The C++ code runs whole lifetimes of networks with dense
layers, with all options but a batch and other messages than of size 8 (`lifetimes`), and for other
networks the sweep of a dense layer without LayerNorm (`sweep`). On a GPU whole lifetimes of a
network with one dense layer and no options run (`cuda`). They compute in float32 with N = 16 and
few micro-ticks; the GPU also in mixed precision where no gradients are asked for. Set
VSML_BENCH_KERNEL=0 to never use them.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from vsml_bench.acceleration import worth_compiling
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, State
from vsml_bench.vsml.conv import ConvLayer
from vsml_bench.vsml.fast import cuda, library, lifetimes
from vsml_bench.vsml.fast.sweep import FastDenseLayer, computes
from vsml_bench.vsml.label_variant import LabelVSMLNetwork
from vsml_bench.vsml.layers import DenseLayer, Layer
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork
from vsml_bench.vsml.sub_rnn import SubRNN

SWITCH = "VSML_BENCH_KERNEL"


def fast_code(learner: Learner, execution: Execution, steps: int) -> Lifetimes | Learner | None:
    """What `Learner.fast_code` asks for."""
    if os.environ.get(SWITCH) == "0":
        return None
    if execution.device.type == "cuda":
        usable = _is_one_dense_layer(learner) and worth_compiling(steps)
        return Lifetimes(learner, cuda) if usable and cuda.available(execution.device) else None
    if execution.precision != "float32" or library.load() is None:
        return None
    by_steps = _with_fast_layers(learner)
    if not lifetimes.lives(learner):
        return by_steps
    if by_steps is None:
        return Lifetimes(learner, lifetimes)
    return LifetimesOrSteps(learner, lifetimes, by_steps)


@dataclass(frozen=True)
class Lifetimes:
    """Whole lifetimes."""

    learner: Learner
    backend: ModuleType
    """`lifetimes` or `cuda`."""

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State] | None:
        """See `Learner.unroll`."""
        found: tuple[Tensor, State] | None
        found = self.backend.unroll(self.learner, state, inputs, labels)
        return found


@dataclass(frozen=True)
class LifetimesOrSteps(Lifetimes):
    """Whole lifetimes, and steps where it has to be steps."""

    by_steps: Learner
    """A copy of the learner that shares its meta-parameters and has faster layers."""

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.unroll`."""
        found = super().unroll(state, inputs, labels)
        return self.by_steps.unroll(state, inputs, labels) if found is None else found

    def predict(self, state: State, inputs: Tensor) -> tuple[Tensor, State]:
        """See `Learner.predict`."""
        return self.by_steps.predict(state, inputs)

    def observe(self, state: State, labels: Tensor) -> State:
        """See `Learner.observe`."""
        return self.by_steps.observe(state, labels)


def _is_one_dense_layer(learner: Learner) -> bool:
    """Whether whole lifetimes are exactly those of `VSMLConfig()`, but for the micro-ticks."""
    if not lifetimes.lives(learner):
        return False
    config = learner.config
    return bool(config == VSMLConfig(ticks=config.ticks, layerwise=config.layerwise))


def _with_fast_layers(learner: Learner) -> Learner | None:
    """A copy with the same meta-parameters, also where these are replaced, whose dense layers sweep
    in C++; None where there are none, or its sub-RNNs are others."""
    if not isinstance(learner, VSMLNetwork | LabelVSMLNetwork):
        return None
    written = all(computes(m) for m in learner.modules() if isinstance(m, SubRNN))
    if not written or learner.config.ticks > library.MAX_TICKS:
        return None
    copied = copy.copy(learner)
    copied.layers = tuple(map(_fast, learner.layers))
    return None if copied.layers == learner.layers else copied


def _fast(layer: Layer) -> Layer:
    if type(layer) is ConvLayer and type(layer.grid) is DenseLayer:
        return ConvLayer(FastDenseLayer())
    return FastDenseLayer() if type(layer) is DenseLayer else layer
