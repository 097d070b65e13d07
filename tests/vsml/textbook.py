"""VSML as its equations read, one sub-RNN at a time: the slow oracle that the fast form is held to.

Written from the paper's description, with none of the fast form's code: inputs of a gate are
concatenated, every sub-RNN runs by itself, message heads are applied per sub-RNN, a convolution
visits its positions one by one, a batch is a real batch.
"""

from __future__ import annotations

from itertools import product
from math import pi, prod, sqrt
from typing import Any

import torch
from torch import Tensor


def textbook_logits(learner, state, inputs: Tensor, labels: Tensor) -> Tensor:
    """What `learner.unroll` has to give: inputs [T, E, ...], labels [T, E], logits [T, E, K]."""
    batch = learner.config.batch
    logits = []
    for e in range(inputs.shape[1]):
        seen = inputs[:, e]
        if state.below:
            weights, bias = state.below
            seen = torch.stack([rectified(x.flatten(), weights[e], bias[e]) for x in seen])
        network = TextbookNetwork(
            learner,
            [layer.hidden[e] for layer in state.layers],
            [layer.cell[e] for layer in state.layers],
            tuple(seen.shape[1:]),
        )
        steps = [
            network.step(seen[t : t + batch], labels[t : t + batch, e])
            for t in range(0, len(inputs), batch)
        ]
        logits.append(torch.cat(steps))
    return torch.stack(logits, 1)


def rectified(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Random units [F] over x [A], less the mean of max(0, z) for z normal with variance 1 + 1/4,
    which is s / sqrt(2 pi), divided by its standard deviation, s sqrt(1/2 - 1/(2 pi))."""
    s = sqrt(1.25)
    units = [max(0.0, float(weights[:, f] @ x + bias[f])) for f in range(len(bias))]
    scaled = [(u - s / sqrt(2 * pi)) / (s * sqrt(1 / 2 - 1 / (2 * pi))) for u in units]
    return torch.tensor(scaled, dtype=x.dtype)


class SubRNNWeights:
    """The meta-parameters of the sub-RNN at (a, b), shared or its own, and its equations."""

    def __init__(self, rnn, a: int, b: int) -> None:
        own = rnn.gates_bias.dim() > 1

        def at(parameter: Tensor) -> Tensor:
            return parameter[a, b] if own else parameter

        self.weight = torch.cat(
            [at(rnn.gates_from_forward), at(rnn.gates_from_backward), at(rnn.gates_from_hidden)]
        )
        self.bias = at(rnn.gates_bias)
        self.heads = [
            (at(rnn.forward_head.weight), at(rnn.forward_head.bias), rnn.forward_norm),
            (at(rnn.backward_head.weight), at(rnn.backward_head.bias), rnn.backward_norm),
        ]

    def tick(self, forward, backward, h, c):
        """Messages in, h and c before, h and c after."""
        z = torch.cat([forward, backward, h]) @ self.weight + self.bias
        i, g, f, o = z.chunk(4)
        c = torch.sigmoid(f + 5) * c + torch.sigmoid(i - 5) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def messages(self, h):
        """The messages up and down."""
        return [
            norm(weight @ h + bias) if norm is not None else weight @ h + bias
            for weight, bias, norm in self.heads
        ]


class TextbookNetwork:
    """One lifetime of a VSML network.

    learner: the fast `VSML`, only read for its configuration and meta-parameters.
    """

    def __init__(
        self, learner, hidden: list[Tensor], cell: list[Tensor], shape: tuple[int, ...]
    ) -> None:
        """hidden, cell: per layer, the initial state of each batch element [batch, A, B, N]. shape:
        of the inputs."""
        self.config = learner.config
        self.learner = learner
        self.h = [[[list(row.unbind(0)) for row in x.unbind(0)] for x in h] for h in hidden]
        self.c = [[[list(row.unbind(0)) for row in x.unbind(0)] for x in c] for c in cell]
        batch = hidden[0].shape[0]
        message = self.config.message_size
        self.images: list[tuple[int, ...]] = [
            shape
        ]  # (channels, height, width) into each conv layer
        units = []
        for channels in self.config.conv:
            _, height, width = self.images[-1]
            self.images.append((channels, (height + 1) // 2, (width + 1) // 2))
            units.append(prod(self.images[-1]))
        units += [h.shape[2] for h in hidden[len(units) :]]
        self.backward_in = [
            [[h.new_zeros(message) for _ in range(outputs)] for _ in range(batch)]
            for h, outputs in zip(hidden, units, strict=True)
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
            channels = [(error[k] - 1 if k == label else error[k]) / config.batch]
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
        if layer < len(self.config.conv):
            return self._conv_layer(h, c, self.images[layer], rnn, forward, backward)
        inputs, outputs = len(h), len(h[0])
        up: Any = [[None] * outputs for _ in range(inputs)]
        down: Any = [[None] * outputs for _ in range(inputs)]
        for a in range(inputs):
            for b in range(outputs):
                weights = SubRNNWeights(rnn, a, b)
                for _ in range(self.config.ticks):
                    h[a][b], c[a][b] = weights.tick(forward[a], backward[b], h[a][b], c[a][b])
                up[a][b], down[a][b] = weights.messages(h[a][b])
        upward = [sum(up[a][b] for a in range(inputs)) / inputs for b in range(outputs)]
        downward = [sum(down[a][b] for b in range(outputs)) / outputs for a in range(inputs)]
        return upward, downward

    def _conv_layer(self, h, c, image, rnn, forward, backward):
        """Messages are in the order (channel, row, column)."""
        channels, height, width = image
        rows, columns, outputs = (height + 1) // 2, (width + 1) // 2, len(h[0])
        positions = list(product(range(rows), range(columns)))
        grid = list(enumerate(product(range(channels), range(3), range(3))))
        at: dict[Any, Any] = {}
        for _ in range(self.config.ticks):
            for (y, x), (a, (channel, i, j)), b in product(positions, grid, range(outputs)):
                row, column = 2 * y + i - 1, 2 * x + j - 1  # the kernel's centre is at (2 y, 2 x)
                looked_at = None
                message = torch.zeros_like(forward[0])
                if 0 <= row < height and 0 <= column < width:
                    looked_at = (channel * height + row) * width + column
                    message = forward[looked_at]
                from_above = backward[(b * rows + y) * columns + x]
                new = SubRNNWeights(rnn, a, b).tick(message, from_above, h[a][b], c[a][b])
                at[y, x, a, b] = (*new, looked_at)
            for (a, _), b in product(grid, range(outputs)):
                h[a][b] = sum(at[y, x, a, b][0] for y, x in positions) / len(positions)
                c[a][b] = sum(at[y, x, a, b][1] for y, x in positions) / len(positions)
        up: list[list[Tensor]] = [[] for _ in range(outputs * rows * columns)]
        down: list[list[Tensor]] = [[] for _ in forward]
        for (y, x, a, b), (own_h, _, looked_at) in at.items():
            upward, downward = SubRNNWeights(rnn, a, b).messages(own_h)
            up[(b * rows + y) * columns + x].append(upward)
            if looked_at is not None:
                down[looked_at].append(downward)
        return tuple([torch.stack(each).mean(0) for each in side] for side in (up, down))

    def _merge(self, batch: int) -> None:
        half = self.config.state_size // 2
        for states in (self.h, self.c):
            for layer in states:
                for a in range(len(layer[0])):
                    for b in range(len(layer[0][0])):
                        mean = sum(layer[n][a][b][:half] for n in range(batch)) / batch
                        for n in range(batch):
                            layer[n][a][b] = torch.cat([mean, layer[n][a][b][half:]])
