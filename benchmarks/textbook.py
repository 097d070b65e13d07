"""VSML as its equations read, batched, in eager PyTorch: what the speed of VSML is compared with.

One dense layer, one tensor operation per line of the paper: what a sub-RNN sees is concatenated,
every sub-RNN has its gates computed from all of it, and the message heads are applied per sub-RNN
before the mean. The tests hold it to their own oracle, which computes one sub-RNN at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vsml_bench.vsml.network import VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN
from vsml_bench.vsml.variants import VSML


def textbook_unroll(
    learner: VSML, state: VSMLState, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Logits [T, E, K] of the lifetimes inputs [T, E, A] with labels int64 [T, E], and the last
    hidden and cell states [E, A, K, N].

    learner: a "vsml" with one dense layer; only its meta-parameters and sizes are read. state: what
    its `init_state` returned.
    """
    rnn, config = learner.sub_rnns[0], learner.config
    assert isinstance(rnn, SubRNN)
    weight = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
    hidden, cell = (part[:, 0] for part in state.layers[0])
    lifetimes, rows, columns, _ = hidden.shape
    backward = hidden.new_zeros(lifetimes, columns, config.message_size)
    logits = []
    for x, y in zip(inputs, labels, strict=True):
        forward = x.new_zeros(lifetimes, rows, config.message_size)
        forward[..., 0] = x
        incoming = [
            forward.unsqueeze(2).expand(-1, -1, columns, -1),
            backward.unsqueeze(1).expand(-1, rows, -1, -1),
        ]
        for _ in range(config.ticks):
            gates = torch.cat([*incoming, hidden], -1) @ weight + rnn.gates_bias
            i, g, f, o = gates.chunk(4, -1)
            cell = torch.sigmoid(f + 5) * cell + torch.sigmoid(i - 5) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        upward = rnn.forward_head(hidden).mean(1)
        rnn.backward_head(hidden).mean(2)  # for a layer below, if there were one
        predicted = 100 * torch.tanh(upward[..., 1] / 100)
        error = torch.softmax(predicted, -1) - torch.nn.functional.one_hot(y, columns)
        backward = torch.nn.functional.pad(error.unsqueeze(-1), (0, config.message_size - 1))
        logits.append(predicted)
    return torch.stack(logits), (hidden, cell)
