"""What the kernels for whole lifetimes on GPUs read and write."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from vsml_bench.vsml.layers import LayerState
from vsml_bench.vsml.network import VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN


class MetaParameters(NamedTuple):
    """All that matters in a network with one layer: of its messages, input and error are on channel
    0, and the logit is channel 1 of the forward message."""

    from_input: Tensor  # [4N]
    bias: Tensor  # [4N]
    from_error: Tensor  # [4N]
    weight: Tensor  # [N, 4N]
    head: Tensor  # [N]
    head_bias: Tensor  # []


class Boundary(NamedTuple):
    """What lifetimes start from and end with."""

    hidden: Tensor  # h [E, A, B, N]
    cell: Tensor  # c [E, A, B, N]
    error: Tensor  # dL/dlogits of the last example, which the next one meets [E, B]


class Packed(NamedTuple):
    """Lifetimes to be run."""

    ticks: int
    inputs: Tensor  # [T, E, A]
    labels: Tensor  # int64 [T, E]
    own: MetaParameters
    start: Boundary

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What has gradients: all of the meta-parameters and of the start."""
        return (*self.own, *self.start)

    @property
    def differentiated(self) -> bool:
        """Whether a gradient of an operand may be asked for."""
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self.operands)

    @property
    def fits(self) -> bool:
        """Whether shapes and types are as above and there is a gradient for all that wants one; the
        code itself does not look."""
        numbers = (self.inputs, *self.operands)
        lifetimes, size, outputs, states = self.start.hidden.shape
        shapes = (
            (self.start.cell.shape, self.start.hidden.shape),
            (self.start.error.shape, (lifetimes, outputs)),
            (self.inputs.shape[1:], (lifetimes, size)),
            (self.labels.shape, self.inputs.shape[:2]),
            (self.own.weight.shape, (states, 4 * states)),
        )
        return (
            all(found == right for found, right in shapes)
            and self.inputs.numel() > 0
            and not (torch.is_grad_enabled() and self.inputs.requires_grad)
            and self.labels.dtype == torch.int64
            and all(tensor.dtype == torch.float32 for tensor in numbers)
            and all(tensor.device == self.inputs.device for tensor in (*numbers, self.labels))
        )


def pack(learner: VSMLNetwork, state: VSMLState, inputs: Tensor, labels: Tensor) -> Packed:
    """Of a network with one dense layer; arguments as those of `unroll`."""
    sub_rnn, layer = learner.sub_rnns[0], state.layers[0]
    assert isinstance(sub_rnn, SubRNN)
    own = MetaParameters(
        sub_rnn.gates_from_forward[0],
        sub_rnn.gates_bias,
        sub_rnn.gates_from_backward[0],
        sub_rnn.gates_from_hidden,
        sub_rnn.forward_head.weight[1],
        sub_rnn.forward_head.bias[1],
    )
    start = Boundary(layer.hidden[:, 0], layer.cell[:, 0], state.feedback[0][:, 0, :, 0])
    entering = learner.entering(state, inputs).flatten(2)
    return Packed(learner.config.ticks, entering, labels, own, start)


def unpack(state: VSMLState, logits: Tensor, end: Boundary) -> VSMLState:
    """The state after lifetimes with these logits [T, E, B]. state: that before."""
    messages = pad(end.error.unsqueeze(-1), (0, state.feedback[0].shape[-1] - 1))
    return state._replace(
        layers=(LayerState(end.hidden.unsqueeze(1), end.cell.unsqueeze(1)),),
        feedback=(messages.unsqueeze(1),),
        logits=logits[-1],
    )
