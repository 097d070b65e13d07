"""A sub-RNN that learns to be a weight of a network trained by backpropagation, by running forward
alone (Kirsch & Schmidhuber 2021, arXiv 2012.14905, sections 3.2 and 4.1).

Where the sub-RNNs of `sub_rnn` find their own learning algorithm, this one is given one: part of
its state *is* a weight, and its meta-parameters are found by imitating what backpropagation does
with that weight. Run afterwards, it knows nothing of gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

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
