"""The sub-RNN: the tiny LSTM that stands in for a weight (Kirsch & Schmidhuber 2021, section 3.1).

All its parameters are meta-parameters, shared by every weight of a layer or of the whole network.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

FORGET_OFFSET = 5.0
"""Added to the forget gate and taken from the input gate: a fresh sub-RNN remembers."""


def require_sizes(config: object, *names: str) -> None:
    """ValueError where one of these fields, a size or several, is below 1."""
    for name in names:
        found = getattr(config, name)
        if min(found if isinstance(found, tuple) else (found,), default=1) < 1:
            raise ValueError(f"{name}: expected at least 1, found {found}")


def truncated_normal_(tensor: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """Fills with N(0, 1/fan_in) cut at two standard deviations, in place."""
    std = 1.0 / sqrt(fan_in)
    with torch.no_grad():
        return nn.init.trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std, generator=generator)


def fast_tanh(x: Tensor) -> Tensor:
    """tanh(x) as 2 sigmoid(2x) - 1, which vectorises far better on CPUs."""
    return 2 * torch.sigmoid(2 * x) - 1


class SubRNN(nn.Module):
    """Meta-parameters of one kind of sub-RNN, and the equations that use them.

    One tick of the sub-RNN at input a and output b, with forward message m_a, backward message
    m_b and own state (h, c):

        i, g, f, o = W_a m_a + W_b m_b + W_h h + bias
        c' = sigmoid(f + 5) c + sigmoid(i - 5) tanh(g)
        h' = sigmoid(o) tanh(c')

    The gate map is kept in its three parts so that W_a m_a is computed once per input and W_b m_b
    once per output, instead of once per sub-RNN: the same sum.
    """

    def __init__(
        self,
        state_size: int,
        message_size: int,
        layer_norm: bool = False,
        received_size: int | None = None,
    ) -> None:
        """received_size: channels of a message that comes in, where they are not the message_size
        that it sends out."""
        super().__init__()
        self.state_size = state_size
        self.received_size = received_size or message_size
        received, gates = self.received_size, 4 * state_size
        self.gates_from_forward = nn.Parameter(torch.empty(received, gates))  # W_a, transposed
        self.gates_from_backward = nn.Parameter(torch.empty(received, gates))  # W_b
        self.gates_from_hidden = nn.Parameter(torch.empty(state_size, gates))  # W_h
        self.gates_bias = nn.Parameter(torch.empty(gates))
        self.forward_head = nn.Linear(state_size, message_size)
        self.backward_head = nn.Linear(state_size, message_size)
        self.forward_norm = nn.LayerNorm(message_size) if layer_norm else None
        self.backward_norm = nn.LayerNorm(message_size) if layer_norm else None

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Draws all weights from truncated normals with std 1/sqrt(fan in); biases start at 0."""
        fan_in = 2 * self.received_size + self.state_size
        for part in (self.gates_from_forward, self.gates_from_backward, self.gates_from_hidden):
            truncated_normal_(part, fan_in, generator)
        for head in (self.forward_head, self.backward_head):
            truncated_normal_(head.weight, self.state_size, generator)
            nn.init.zeros_(head.bias)
        nn.init.zeros_(self.gates_bias)
        for norm in (self.forward_norm, self.backward_norm):
            if norm is not None:
                norm.reset_parameters()

    def incoming(
        self, forward_messages: Tensor, backward_messages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The messages' shares of the gates, the same in all ticks of one sweep.

        forward_messages [E, A, M], backward_messages [E, B, M]; returns W_a m_a + bias [E, A, 4N]
        and W_b m_b [E, B, 4N].
        """
        from_inputs = forward_messages @ self.gates_from_forward + self.gates_bias
        return from_inputs, backward_messages @ self.gates_from_backward

    def incoming_grid(self, forward_messages: Tensor, backward_messages: Tensor) -> Tensor:
        """`incoming` added up for every sub-RNN, [E, A, B, 4N]."""
        from_inputs, from_outputs = self.incoming(forward_messages, backward_messages)
        return from_inputs.unsqueeze(2) + from_outputs.unsqueeze(1)

    def recurrent(self, hidden: Tensor) -> Tensor:
        """W_h h of every sub-RNN, [E, A, B, N] to [E, A, B, 4N]."""
        return hidden @ self.gates_from_hidden

    def tick(self, incoming: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One LSTM update of every sub-RNN; hidden and cell are [E, A, B, N]."""
        gates = incoming + self.recurrent(hidden)
        i, g, f, o = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(f + FORGET_OFFSET) * cell + torch.sigmoid(
            i - FORGET_OFFSET
        ) * fast_tanh(g)
        return torch.sigmoid(o) * fast_tanh(cell), cell

    def outgoing(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Messages to the neighbours: forward [E, B, M], the mean over inputs a, and backward
        [E, A, M], the mean over outputs b. hidden is [E, A, B, N]."""
        if self.forward_norm is None or self.backward_norm is None:
            return self.heads(hidden.mean(1), hidden.mean(2))
        forward_messages = self.forward_norm(self.forward_head(hidden)).mean(1)
        backward_messages = self.backward_norm(self.backward_head(hidden)).mean(2)
        return forward_messages, backward_messages

    def heads(self, over_inputs: Tensor, over_outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Messages from hidden states already averaged, over inputs [E, B, N] and over outputs
        [E, A, N]: without LayerNorm the linear heads commute with the mean, so they are applied
        once per neuron instead of once per sub-RNN."""
        return self.forward_head(over_inputs), self.backward_head(over_outputs)
