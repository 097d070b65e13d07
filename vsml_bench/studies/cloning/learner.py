"""Networks of synapses that imitate backpropagation: at meta-test they only run forward.

Each example is two sweeps: upwards with the inputs, where every unit receives the sum of its
synapses' messages; then downwards with the error of the logits. There is no gradient, no weight and
no update rule but what the synapses do with their states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vsml_bench.learner import Learner, Phase, Recipe, Shape
from vsml_bench.studies.cloning.backpropagation import (
    Backpropagation,
    BackpropagationConfig,
    Weights,
    error_of,
    initial_weights,
    with_constant,
)
from vsml_bench.studies.cloning.synapse import Synapse, SynapseConfig
from vsml_bench.vsml.layers import LayerState


@dataclass(frozen=True)
class CloneConfig:
    """The network, and the synapse that it is made of."""

    hidden: tuple[int, ...] = ()
    """Widths of hidden layers."""
    rate_factor: float = 1.0
    """The rate that the synapses are told, in units of `synapse.rate`."""
    synapse: SynapseConfig = field(default_factory=SynapseConfig)


class CloneState(NamedTuple):
    """What changes in one lifetime."""

    layers: tuple[LayerState, ...]  # each [E, A + 1, B, N]; the last input is the constant
    logits: Tensor  # of the last prediction [E, K]


class Clone(Learner):
    """Backpropagation, cloned into the dynamics of shared sub-RNNs. One synapse serves networks of
    any depth and width: variants with equal synapses share one checkpoint."""

    variants: ClassVar[Mapping[str, CloneConfig]] = {
        "clone-1": CloneConfig(),
        "clone-2": CloneConfig(hidden=(32,)),
        "clone-3": CloneConfig(hidden=(32, 32)),
        "clone-momentum": CloneConfig(synapse=SynapseConfig(rate=0.002, momentum=0.9)),
        "clone-any-rate": CloneConfig(synapse=SynapseConfig(rate_range=4.0)),
        "clone-half-rate": CloneConfig(rate_factor=0.5, synapse=SynapseConfig(rate_range=4.0)),
        "clone-double-rate": CloneConfig(rate_factor=2.0, synapse=SynapseConfig(rate_range=4.0)),
    }
    family = "cloned algorithm"
    source = "Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 4.1"
    protocols = frozenset({"online", "few_shot", "cloning"})
    invariances = frozenset({"inputs", "labels"})
    recipe = Recipe(
        phases=(Phase(120_000, lifetime=3, learning_rate=1e-2, final_learning_rate=0.0),),
        lifetimes=512,
        validate_every=4000,
        checkpoint_every=4000,
        source="vsml_bench.studies.cloning.imitation:Imitation",
        shared="synapse",
    )

    def __init__(self, config: CloneConfig) -> None:
        super().__init__(config)
        self.synapse = Synapse(config.synapse)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """See `Synapse.init_meta_parameters`."""
        self.synapse.init_meta_parameters(generator)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> CloneState:
        """Synapses that store the weights that `Backpropagation` starts from."""
        weights = initial_weights(lifetimes, self.config.hidden, shape, generator)
        like = self.synapse.from_hidden
        return self.starting_from(tuple(w.to(like.device, like.dtype) for w in weights))

    def starting_from(self, weights: Weights) -> CloneState:
        """Fresh synapses that store these weights."""
        cells = [self.synapse.storing(weight) for weight in weights]
        return CloneState(
            layers=tuple(LayerState(torch.zeros_like(cell), cell) for cell in cells),
            logits=torch.zeros_like(weights[-1][:, 0]),
        )

    def predict(self, state: CloneState, inputs: Tensor) -> tuple[Tensor, CloneState]:
        """The sweep upwards."""
        units, layers = inputs.flatten(1), []
        for hidden, cell in state.layers:
            incoming = self._incoming(0, with_constant(units)).unsqueeze(2)
            hidden, cell = self.synapse.run_phase(incoming, hidden, cell)
            layers.append(LayerState(hidden, cell))
            units = self.synapse.message(0, hidden, axis=1)
        return units, CloneState(tuple(layers), units)

    def observe(self, state: CloneState, labels: Tensor) -> CloneState:
        """The sweep downwards, from the error of the logits."""
        error = error_of(state.logits, labels)
        layers: list[LayerState] = []
        for hidden, cell in reversed(state.layers):
            incoming = self._incoming(1, error).unsqueeze(1)
            hidden, cell = self.synapse.run_phase(incoming, hidden, cell)
            layers.append(LayerState(hidden, cell))
            error = self.synapse.message(1, hidden, axis=2)[:, :-1]
        return state._replace(layers=tuple(layers[::-1]))

    def weights(self, state: CloneState) -> Weights:
        """The weights that the synapses store."""
        return tuple(self.synapse.weight(layer.cell) for layer in state.layers)

    def velocities(self, state: CloneState) -> Weights:
        """The velocities that they store; zeros without momentum."""
        if not self.config.synapse.momentum:
            return tuple(torch.zeros_like(weight) for weight in self.weights(state))
        return tuple(self.synapse.velocity(layer.cell) for layer in state.layers)

    def reference(self) -> Backpropagation:
        """The algorithm that it imitates, in the same network."""
        synapse = self.config.synapse
        return Backpropagation(
            BackpropagationConfig(self.config.hidden, self._rate, synapse.momentum)
        )

    @property
    def _rate(self) -> float:
        rate: float = self.config.rate_factor * self.config.synapse.rate
        return rate

    def _incoming(self, phase: int, messages: Tensor) -> Tensor:
        rate = torch.full_like(messages, self._rate) if self.synapse.has_rate else None
        return self.synapse.incoming(phase, messages, rate)


class MetaTrainedClone(Clone):
    """The same network, whose synapses go on from a clone of backpropagation and are meta-trained
    on tasks, as VSML is: where does it go when imitation no longer holds it?"""

    variants: ClassVar[Mapping[str, CloneConfig]] = {"clone-meta-trained": CloneConfig()}
    protocols = frozenset({"online", "few_shot"})
    recipe = Recipe(
        phases=(
            Phase(60, lifetime=50, learning_rate=1e-3),
            Phase(80, lifetime=200, learning_rate=1e-3),
            Phase(60, lifetime=400, learning_rate=1e-3, final_learning_rate=1e-4),
        ),
        lifetimes=4,
        size=8,
        validation_lifetimes=8,
        starts_from="clone-1",
    )
