"""A convolutional VSML layer: one grid of sub-RNNs that every position of an image runs through.

The sub-RNNs sit where a convolution has its weights: at kernel row i, kernel column j, input
channel c and output channel k. Their state belongs to the kernel and is shared over space, as a
convolution's weights are. With a = (c, i, j), A = 9 C inputs and B = K outputs it is the state of a
dense grid, h and c [E, A, B, N].

One micro-tick. Output position p = (y, x) looks at the 3 x 3 input positions q(p, i, j) =
(2 y + i, 2 x + j) - padding; m_a is the forward message of channel c at q(p, i, j), m_b the
backward message of channel k at p. Every position runs the tick of `SubRNN` from the shared state
with its own messages, and what comes out is averaged over the P output positions:

    h_p[a, b], c_p[a, b] = tick(m_a(p), m_b(p), h[a, b], c[a, b])
    h[a, b] <- mean_p h_p[a, b],   c[a, b] <- mean_p c_p[a, b]

After the last tick the heads read each position's own h_p, before the average:

    upward[k, p]   = mean_a head_forward(h_p[a, k])
    downward[c, q] = mean over all (p, i, j) with q(p, i, j) = q, and over k, of
                     head_backward(h_p[(c, i, j), k])

An output is half the input's size, rounded up, and the kernel's centre is at (2 y, 2 x): padding is
one row and column before the image and, where its size is odd, one behind it; the kernel reaches no
further where it is even. Padded positions send zeros and count in upward's mean, as in a
zero-padded convolution; what is sent down to them is dropped, and downward's mean is over the uses
an input position really has: 1, 2 or 4 in the interior, and no more than there are at an edge.
Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905; sizes, padding, noise of fresh states and the
average over positions are those of the authors' research code. Messages down are not: there they
are divided by 9 everywhere, and a mask that is meant for the edges lets them through in one
quadrant of the image alone, a fault that shows where conv layers are stacked.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import fold, pad, unfold

from vsml_bench.vsml.layers import DenseLayer, LayerState, Units
from vsml_bench.vsml.sub_rnn import SubRNN

KERNEL = 3
STRIDE = 2


class ConvLayer:
    """A 3 x 3 kernel, stride 2, padding 1. Takes images, inputs (channels, height, width)."""

    def __init__(self, grid: DenseLayer | None = None) -> None:
        """grid: what runs the ticks of all positions."""
        self.grid = grid or DenseLayer()

    def fan_in(self, inputs: Units) -> int:
        """Kernel positions times input channels. ValueError where the inputs are no image."""
        if len(inputs) != 3:
            raise ValueError(
                "a convolutional VSML layer takes images (channels, height, width), found inputs "
                f"of shape {inputs}; use a VSML without conv layers."
            )
        return inputs[0] * KERNEL**2

    def fresh_fan_in(self, inputs: Units) -> int:
        """3, the kernel's side, whatever the channels: the choice of the research code."""
        return KERNEL

    def outputs(self, inputs: Units, width: int) -> Units:
        """`width` channels at half the size, rounded up."""
        return (width, *(_output_size(size) for size in inputs[1:]))

    def sweep(
        self,
        sub_rnn: SubRNN,
        ticks: int,
        state: LayerState,
        forward_messages: Tensor,
        backward_messages: Tensor,
    ) -> tuple[LayerState, Tensor, Tensor]:
        """See `Layer.sweep`; forward_messages [E, C, H, W, M], backward_messages [E, B, H', W', M].

        A position's tick is that of a dense grid, so that positions stand beside the lifetimes on
        the leading axis: [E P, ...].
        """
        lifetimes = len(forward_messages)
        arriving = _gather(forward_messages)  # [E, P, A, M]
        positions = arriving.shape[1]
        arriving = arriving.flatten(0, 1)
        from_above = backward_messages.flatten(2, 3).transpose(1, 2).flatten(0, 1)  # [E P, B, M]
        for _ in range(ticks):
            spread = LayerState(*(part.repeat_interleave(positions, 0) for part in state))
            spread, upward, downward = self.grid.sweep(sub_rnn, 1, spread, arriving, from_above)
            state = LayerState(*(p.unflatten(0, (lifetimes, positions)).mean(1) for p in spread))
        rising = upward.unflatten(0, (lifetimes, positions)).transpose(1, 2)  # [E, B, P, M]
        falling = downward.unflatten(0, (lifetimes, positions))  # [E, P, A, M]
        return (
            state,
            rising.reshape(backward_messages.shape),
            _scatter_mean(falling, forward_messages.shape),
        )


def _output_size(size: int) -> int:
    return -(-size // STRIDE)


def _padding(size: int) -> tuple[int, int]:
    """Zeros before and behind an axis of `size` inputs, as far as the kernel looks at them."""
    before = KERNEL // 2
    return before, (_output_size(size) - 1) * STRIDE + KERNEL - size - before


def _gather(messages: Tensor) -> Tensor:
    """What each output position looks at: [E, C, H, W, M] to [E, P, A, M], a = (c, i, j)."""
    channels, height, width, size = messages.shape[1:]
    planes = messages.movedim(-1, 2).flatten(1, 2)  # [E, C M, H, W]
    planes = pad(planes, (*_padding(width), *_padding(height)))
    columns = unfold(planes, KERNEL, stride=STRIDE)  # [E, C M 9, P]
    looks: Tensor = columns.unflatten(1, (channels, size, KERNEL**2))  # [E, C, M, 9, P]
    return looks.permute(0, 4, 1, 3, 2).flatten(2, 3)


def _scatter_mean(messages: Tensor, shape: torch.Size) -> Tensor:
    """Back to the positions looked at, [E, P, A, M] to `shape` [E, C, H, W, M]: the mean over all
    looks at a position."""
    _, channels, height, width, size = shape
    columns = messages.unflatten(2, (channels, KERNEL**2))  # [E, P, C, 9, M]
    columns = columns.permute(0, 2, 4, 3, 1).flatten(1, 3)  # [E, C M 9, P]
    looks = columns.new_ones(1, KERNEL**2, columns.shape[-1])
    mean = _fold(columns, height, width) / _fold(looks, height, width)  # [E, C M, H, W]
    return mean.reshape(-1, channels, size, height, width).movedim(2, -1)


def _fold(columns: Tensor, height: int, width: int) -> Tensor:
    """Sums columns [E, X 9, P] over the image positions they stand for, [E, X, H, W]."""
    (top, bottom), (left, right) = _padding(height), _padding(width)
    padded = fold(columns, (top + height + bottom, left + width + right), KERNEL, stride=STRIDE)
    return padded[..., top : top + height, left : left + width]
