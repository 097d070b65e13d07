"""VSML's equations once more, for speed: in C++ for CPUs, as Triton kernels for CUDA GPUs. Equal to
what `network`, `dense`, `sub_rnn` and `label_variant` write, up to rounding.

This module says where they apply. Both run whole lifetimes of a network with one dense layer
(`cpu`, `cuda`); the C++ code also runs the sweep of a dense layer (`sweep`), for other networks.
They compute in float32 with N = 16, without LayerNorm and with few micro-ticks; the GPU also in
mixed precision where no gradients are asked for. Set VSML_BENCH_KERNEL=0 to never use them.
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
from vsml_bench.vsml.fast import cpu, cuda, library
from vsml_bench.vsml.fast.cpu import FastDenseLayer, computes
from vsml_bench.vsml.fast.packing import pack, unpack
from vsml_bench.vsml.label_variant import LabelVSMLNetwork
from vsml_bench.vsml.layers import DenseLayer, Layer
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork
from vsml_bench.vsml.sub_rnn import SubRNN

SWITCH = "VSML_BENCH_KERNEL"
_STEPS = ("forward", "predict", "observe", "unroll", "_message", "_put_first", "_sub_rnn")
"""Methods of `VSMLNetwork` that whole lifetimes are made of."""


def fast_code(learner: Learner, execution: Execution, steps: int) -> Lifetimes | Learner | None:
    """What `Learner.fast_code` asks for."""
    if os.environ.get(SWITCH) == "0":
        return None
    one_layer = _is_one_dense_layer(learner)
    if execution.device.type == "cuda":
        usable = one_layer and worth_compiling(steps) and cuda.available(execution.device)
        return Lifetimes(learner, cuda) if usable else None
    if execution.precision != "float32" or library.load() is None:
        return None
    by_steps = _with_fast_layers(learner)
    if by_steps is None or not one_layer:
        return by_steps
    return LifetimesOrSteps(learner, cpu, by_steps)


@dataclass(frozen=True)
class Lifetimes:
    """Whole lifetimes."""

    learner: Learner
    backend: ModuleType
    """`cpu` or `cuda`."""

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State] | None:
        """See `Learner.unroll`."""
        assert isinstance(self.learner, VSMLNetwork)
        packed = pack(self.learner, state, inputs, labels)
        if not self.backend.takes(packed):
            return None
        logits, end = self.backend.run(packed)
        return logits, unpack(state, logits, end)


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
    if not isinstance(learner, VSMLNetwork):
        return False
    config = learner.config
    return (
        config == VSMLConfig(ticks=config.ticks, layerwise=config.layerwise)
        and all(getattr(type(learner), step) is getattr(VSMLNetwork, step) for step in _STEPS)
        and [type(layer) for layer in learner.layers] == [DenseLayer]
        and [type(sub_rnn) for sub_rnn in learner.sub_rnns] == [SubRNN]
        and all(map(computes, learner.sub_rnns))
    )


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
