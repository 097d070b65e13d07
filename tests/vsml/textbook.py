"""VSML as its equations read, one sub-RNN at a time: the slow oracle that the fast form is held to.

Written from the paper's description, with none of the fast form's code: inputs of a gate are
concatenated, every sub-RNN runs by itself, message heads are applied per sub-RNN, a batch is a real
batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class TextbookNetwork:
    """One lifetime of a dense VSML network.

    learner: the fast `VSML`, only read for its configuration and meta-parameters.
    """

    def __init__(self, learner, hidden: list[Tensor], cell: list[Tensor]) -> None:
        """hidden, cell: per layer, the initial state of each batch element [batch, A, B, N]."""
        self.config = learner.config
        self.learner = learner
        self.h = [[[list(row.unbind(0)) for row in x.unbind(0)] for x in h] for h in hidden]
        self.c = [[[list(row.unbind(0)) for row in x.unbind(0)] for x in c] for c in cell]
        batch = hidden[0].shape[0]
        message = self.config.message_size
        self.backward_in = [
            [[h.new_zeros(message) for _ in range(h.shape[2])] for _ in range(batch)]
            for h in hidden
        ]

    def step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One step on a batch: inputs [batch, D], labels [batch]; returns logits [batch, K]."""
        logits = torch.stack(
            [
                self._example(index, x, y)
                for index, (x, y) in enumerate(zip(inputs, labels, strict=True))
            ]
        )
        if len(inputs) > 1:
            self._merge(len(inputs))
        return logits

    def _example(self, index: int, x: Tensor, label: Tensor) -> Tensor:
        config, layers = self.config, len(self.h)
        message = x.new_zeros
        carried = []
        forward = []
        for pixel in x.flatten():
            m = message(config.message_size)
            m[0] = pixel
            forward.append(m)
        for layer in range(layers):
            carried.append(forward)
            bank = self.learner.sub_rnns
            forward, backward = self._layer(
                index, layer, bank[layer % len(bank)], forward, self.backward_in[layer][index]
            )
            if layer > 0:
                self.backward_in[layer - 1][index] = backward
        logits = 100 * torch.tanh(torch.stack([m[1] for m in forward]) / 100)
        error = torch.softmax(logits, 0)
        feedback = []
        for k in range(len(logits)):
            channels = [error[k] - 1 if k == label else error[k]]
            if config.feed_label:
                channels.append(message(()) + (1.0 if k == label else 0.0))
            channels += [message(())] * (config.message_size - len(channels))
            feedback.append(torch.stack(channels))
        if not config.backward_pass:
            self.backward_in[-1][index] = feedback
            return logits
        own = self.learner.backward_sub_rnns
        bank = own if own is not None else self.learner.sub_rnns
        backward = feedback
        for layer in reversed(range(layers)):
            if layer < layers - 1:
                self.backward_in[layer][index] = backward
            _, backward = self._layer(
                index, layer, bank[layer % len(bank)], carried[layer], backward
            )
        self.backward_in[-1][index] = [torch.zeros_like(m) for m in feedback]
        return logits

    def _layer(self, index, layer, rnn, forward, backward):
        h, c = self.h[layer][index], self.c[layer][index]
        inputs, outputs = len(h), len(h[0])
        up: Any = [[None] * outputs for _ in range(inputs)]
        down: Any = [[None] * outputs for _ in range(inputs)]
        weight = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
        for a in range(inputs):
            for b in range(outputs):
                for _ in range(self.config.ticks):
                    z = torch.cat([forward[a], backward[b], h[a][b]]) @ weight + rnn.gates_bias
                    i, g, f, o = z.chunk(4)
                    c[a][b] = torch.sigmoid(f + 5) * c[a][b] + torch.sigmoid(i - 5) * torch.tanh(g)
                    h[a][b] = torch.sigmoid(o) * torch.tanh(c[a][b])
                up[a][b] = rnn.forward_head(h[a][b])
                down[a][b] = rnn.backward_head(h[a][b])
                if self.config.layer_norm:
                    up[a][b] = rnn.forward_norm(up[a][b])
                    down[a][b] = rnn.backward_norm(down[a][b])
        upward = [sum(up[a][b] for a in range(inputs)) / inputs for b in range(outputs)]
        downward = [sum(down[a][b] for b in range(outputs)) / outputs for a in range(inputs)]
        return upward, downward

    def _merge(self, batch: int) -> None:
        half = self.config.state_size // 2
        for states in (self.h, self.c):
            for layer in states:
                for a in range(len(layer[0])):
                    for b in range(len(layer[0][0])):
                        mean = sum(layer[n][a][b][:half] for n in range(batch)) / batch
                        for n in range(batch):
                            layer[n][a][b] = torch.cat([mean, layer[n][a][b][half:]])
