"""Networks of synapses that imitate backpropagation: at meta-test they only run forward.

Each example is two sweeps: upwards with the inputs, where every unit receives the sum of its
synapses' messages; then downwards with the error of the logits. There is no gradient, no weight and
no update rule but what the synapses do with their states.

A synapse is a sub-RNN (arXiv 2012.14905, sections 3.2 and 4.1). Those of `vsml.sub_rnn` find their
own learning algorithm, this one is given one: part of its state *is* a weight, and its
meta-parameters are found by imitating what backpropagation does with that weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vsml_bench.learner import Learner, Phase, Recipe, Shape
from vsml_bench.studies.cloning.backpropagation import (
    Backpropagation,
    BackpropagationConfig,
    Weights,
    error_of,
    initial_weights,
    with_constant,
)
from vsml_bench.vsml.layers import LayerState
from vsml_bench.vsml.sub_rnn import fast_tanh

FORGET_WEIGHT = 10.0
"""Forget bias of the coordinates that store something for ever; the others start at 1."""


@dataclass(frozen=True)
class SynapseConfig:
    """Size of the sub-RNN, and the algorithm that it imitates."""

    state_size: int = 32
    """N."""
    ticks: int = 2
    """Micro-ticks of each phase, forward and backward."""
    weight_scale: float = 4.0
    """The stored weight is that many times the first coordinate of the cell."""
    rate: float = 0.02
    """alpha, the learning rate that is imitated; the middle of the range where there is one."""
    rate_range: float = 1.0
    """Rates from rate / rate_range to rate * rate_range are imitated, and the rate is an input. 1
    is one rate, which the meta-parameters know by heart."""
    momentum: float = 0.0
    """mu. With momentum the second coordinate of the cell stores the velocity."""


class Synapse(nn.Module):
    """Meta-parameters of the sub-RNN, and its equations.

    In the forward phase it receives x, the value of its input unit, and sends tanh(x) w; in the
    backward phase it receives e, the error dL/dy of its output unit, sends w e (1 - tanh(x)^2), for
    which it must remember x, and changes its w by -alpha tanh(x) e. One tick is an LSTM update

        i, g, f, o = W_p (message, 1) + W_h h + bias     p the phase (and the rate as an input)
        c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')

    and the messages are linear in h. Nothing of the targets above is built in.
    """

    def __init__(self, config: SynapseConfig) -> None:
        super().__init__()
        self.config = config
        size, gates = config.state_size, 4 * config.state_size
        self.has_rate = config.rate_range > 1
        self.from_message = nn.Parameter(torch.empty(2, gates))  # of a phase's message
        self.from_phase = nn.Parameter(torch.empty(2, gates))
        self.from_rate = nn.Parameter(torch.empty(gates)) if self.has_rate else None
        self.from_hidden = nn.Parameter(torch.empty(size, gates))  # W_h, transposed
        self.heads = nn.Linear(size, 2)  # the forward and the backward message

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Normal weights with variance 1/fan in; biases 0, but for the forget gates."""
        config = self.config
        fan_in = config.state_size + 2 + self.has_rate
        with torch.no_grad():
            for part in (self.from_message, self.from_phase, self.from_rate, self.from_hidden):
                if part is not None:
                    part.normal_(0.0, 1 / sqrt(fan_in), generator=generator)
            forget = self.from_phase.unflatten(-1, (4, config.state_size))[:, 2]
            forget += 1.0
            forget[:, : self.stored] += FORGET_WEIGHT - 1.0
            self.heads.weight.normal_(0.0, 1 / sqrt(config.state_size), generator=generator)
            nn.init.zeros_(self.heads.bias)

    @property
    def stored(self) -> int:
        """Coordinates of the cell that store something: the weight, and the velocity if any."""
        return 2 if self.config.momentum else 1

    def incoming(self, phase: int, message: Tensor, rate: Tensor | None = None) -> Tensor:
        """The share of the gates that a message has, [...] to [..., 4N].

        phase: 0 forward, 1 backward. rate: alpha, like `message`, where the synapse is told it.
        """
        gates = message.unsqueeze(-1) * self.from_message[phase] + self.from_phase[phase]
        if self.from_rate is None:
            return gates
        assert rate is not None
        return gates + (rate / self.config.rate).log().unsqueeze(-1) * self.from_rate

    def run_phase(self, incoming: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The ticks of a phase. hidden and cell [..., N]; incoming broadcasts to [..., 4N]."""
        for _ in range(self.config.ticks):
            i, g, f, o = (incoming + hidden @ self.from_hidden).chunk(4, dim=-1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * fast_tanh(g)
            hidden = torch.sigmoid(o) * fast_tanh(cell)
        return hidden, cell

    def message(self, phase: int, hidden: Tensor, axis: int) -> Tensor:
        """What a unit receives: the sum of the messages of its synapses, over `axis` of hidden
        [..., N]. The head is applied once to the summed states, which is the same."""
        weight, bias = self.heads.weight[phase], self.heads.bias[phase]
        return hidden.sum(axis) @ weight + hidden.shape[axis] * bias

    def weight(self, cell: Tensor) -> Tensor:
        """The stored w, [..., N] to [...]."""
        return self.config.weight_scale * cell[..., 0]

    def velocity(self, cell: Tensor) -> Tensor:
        """The stored v of momentum, [..., N] to [...]. It is kept in units of alpha times the
        scale, for it is about as much smaller than a weight."""
        config = self.config
        return config.weight_scale * config.rate * cell[..., 1]

    def storing(self, weight: Tensor) -> Tensor:
        """A fresh cell that stores `weight` [...] and nothing else, [..., N]."""
        rest = self.config.state_size - 1
        return nn.functional.pad((weight / self.config.weight_scale).unsqueeze(-1), (0, rest))


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
