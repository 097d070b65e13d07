"""Whole lifetimes of networks with dense layers in one call of C++ (`lifetimes.cpp`), for one set
of meta-parameters or, under `torch.func.vmap`, for a population of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from vsml_bench.learner import Learner
from vsml_bench.vsml.fast import library
from vsml_bench.vsml.layers import DenseLayer, LayerState
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN

MESSAGE_SIZE = library.STATE_SIZE // 2
NORM_EPSILON = 1e-5
_STEPS = (
    *("forward", "predict", "observe", "unroll"),
    *("_sweep_downwards", "_message", "_put_first", "_sub_rnn"),
)
"""Methods of `VSMLNetwork` that whole lifetimes are made of."""


def lives(learner: Learner) -> bool:
    """Whether its whole lifetimes are those that are written in C++: exactly those of
    `VSMLNetwork`, with any number of dense layers, but neither a batch nor other sizes of states
    and messages."""
    if not isinstance(learner, VSMLNetwork):
        return False
    config, usual = learner.config, VSMLConfig()
    own = _kinds(learner)
    return (
        (config.state_size, config.message_size) == (library.STATE_SIZE, MESSAGE_SIZE)
        and (config.conv, config.batch) == (usual.conv, usual.batch)
        and config.ticks <= library.MAX_TICKS
        and all(getattr(type(learner), step) is getattr(VSMLNetwork, step) for step in _STEPS)
        and all(type(layer) is DenseLayer for layer in learner.layers)
        and all(type(sub_rnn) is SubRNN and _has_usual_norms(sub_rnn) for sub_rnn in own)
    )


def _has_usual_norms(sub_rnn: SubRNN) -> bool:
    norms = (sub_rnn.forward_norm, sub_rnn.backward_norm)
    return norms == (None, None) or all(
        type(norm) is nn.LayerNorm and norm.eps == NORM_EPSILON and norm.bias is not None
        for norm in norms
    )


def unroll(
    learner: VSMLNetwork, state: VSMLState, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, VSMLState] | None:
    """`Learner.unroll` of a network that `lives`; None where these tensors are not for the code. A
    population needs no gradient. Differentiable once."""
    hidden, cell = zip(*state.layers, strict=True)
    start = _Start(*map(_side_by_side, (hidden, cell, state.feedback)))
    inputs = learner.entering(state, inputs)
    rows = inputs.flatten(2)  # [T, E, A]
    own = torch.stack([_pack(learner, kind) for kind in range(len(_kinds(learner)))])
    network = _Network(learner, state)
    tensors = (rows, labels, own, *start)
    differentiated = torch.is_grad_enabled() and any(part.requires_grad for part in (own, *start))
    if not network.fits(*tensors) or (
        differentiated and any(map(_functorch.is_batchedtensor, tensors))
    ):
        return None
    logits, *end = _Lifetimes.apply(network, differentiated, *tensors)[:5]
    return logits, network.unpack(learner, state, inputs, logits, *end)


def _side_by_side(parts: tuple[Tensor, ...]) -> Tensor:
    """The floats [E, ...] of each layer's [E, 1, ...]."""
    flat = [part.flatten(1) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat, 1)


class _Start(NamedTuple):
    """What lifetimes start from."""

    hidden: Tensor  # h of all layers [E, S]
    cell: Tensor  # c of all layers [E, S]
    above: Tensor  # messages from above into all layers [E, F]


def _kinds(learner: VSMLNetwork) -> list[SubRNN]:
    """Each has meta-parameters of its own: those of the way up, then those of the way down."""
    backward = learner.backward_sub_rnns if learner.config.backward_pass else None
    return [*learner.sub_rnns, *(backward or ())]


def _pack(learner: VSMLNetwork, kind: int) -> Tensor:
    """The meta-parameters of a kind of sub-RNN, as `SubRNN` in `messages.h` has them. Those that
    only matter to messages up, or down, are zeros where no sweep sends any: they get no
    gradient."""
    sub_rnn, own = _kinds(learner)[kind], len(learner.sub_rnns)
    only_in_first_layer = kind % own == 0 and (own > 1 or len(learner.layers) == 1)
    sends_up, sends_down = kind < own, not only_in_first_layer
    if len(_kinds(learner)) > own:
        sends_down = sends_down and not sends_up
    messages = [
        _head(sub_rnn.forward_head, sub_rnn.forward_norm, sends_up),
        _head(sub_rnn.backward_head, sub_rnn.backward_norm, sends_down),
    ]
    scale, shift, weight, bias = (torch.cat(both, -1) for both in zip(*messages, strict=True))
    return torch.cat(
        [
            sub_rnn.gates_from_hidden.flatten(),
            sub_rnn.gates_from_forward.flatten(),
            sub_rnn.gates_from_backward.flatten(),
            sub_rnn.gates_bias,
            (scale if sub_rnn.forward_norm is None else torch.diag(scale)).flatten(),
            *(shift, weight.flatten(), bias),
        ]
    )


def _head(head: nn.Linear, norm: nn.Module | None, sent: bool) -> tuple[Tensor, ...]:
    """Of messages one way: what scales and shifts what is said, [N, M] or with LayerNorm [M], and
    [M]; and for LayerNorm what makes messages less their mean of h, [N, M] and [M]."""
    weight, bias = _used(head.weight.T, sent), _used(head.bias, sent)
    if norm is None:
        return weight, bias, torch.zeros_like(weight), torch.zeros_like(bias)
    assert isinstance(norm, nn.LayerNorm)
    centred = weight - weight.mean(1, keepdim=True), bias - bias.mean()
    return _used(norm.weight, sent), _used(norm.bias, sent), *centred


def _used(parameter: Tensor, used: bool) -> Tensor:
    return parameter if used else parameter.new_zeros(parameter.shape)


class _Network:
    """What the code needs to know of a network besides its meta-parameters."""

    def __init__(self, learner: VSMLNetwork, state: VSMLState) -> None:
        config, count = learner.config, len(learner.layers)
        self.grids = [tuple(layer.hidden.shape[2:4]) for layer in state.layers]  # (A, B)
        self.widths = [self.grids[0][0], *(outputs for _, outputs in self.grids)]
        self.ticks, self.backward_pass = config.ticks, config.backward_pass
        self.sweeps = 2 if config.backward_pass else 1
        own = len(learner.sub_rnns)
        first_down = len(_kinds(learner)) - own
        kinds = [first + layer % own for first in (0, first_down) for layer in range(count)]
        flags = map(int, (config.layer_norm, config.feed_label, config.backward_pass))
        self.numbers = torch.tensor([count, config.ticks, *flags, *self.widths, *kinds])

    def fits(
        self,
        inputs: Tensor,
        labels: Tensor,
        own: Tensor,
        hidden: Tensor,
        cell: Tensor,
        above: Tensor,
    ) -> bool:
        """Whether shapes and types are as the code takes them and there is a gradient for all that
        wants one; the code itself does not look."""
        widths, lifetimes = self.widths, inputs.shape[1]
        states = sum(a * b for a, b in self.grids) * library.STATE_SIZE
        shapes = (
            (self.grids, list(pairwise(widths))),
            (inputs.shape[2], widths[0]),
            (labels.shape, inputs.shape[:2]),
            (hidden.shape, (lifetimes, states)),
            (cell.shape, hidden.shape),
            (above.shape, (lifetimes, sum(widths[1:]) * MESSAGE_SIZE)),
        )
        numbers = [_below_vmap(part) for part in (inputs, own, hidden, cell, above)]
        return (
            all(found == right for found, right in shapes)
            and inputs.numel() > 0
            and not (torch.is_grad_enabled() and inputs.requires_grad)
            and labels.dtype == torch.int64
            and labels.device.type == "cpu"
            and not _functorch.is_functorch_wrapped_tensor(_below_vmap(labels))
            and library.reads(self.ticks, *numbers)
        )

    def unpack(
        self,
        learner: VSMLNetwork,
        state: VSMLState,
        inputs: Tensor,
        logits: Tensor,
        *end: Tensor,
    ) -> VSMLState:
        """The state after lifetimes that end so. state: that before."""
        sizes = [a * b * library.STATE_SIZE for a, b in self.grids]
        hidden, cell = (
            [
                part.view(-1, 1, *grid, library.STATE_SIZE)
                for part, grid in zip(states.split(sizes, 1), self.grids, strict=True)
            ]
            for states in end[:2]
        )
        above, below = (
            [
                part.view(-1, width, MESSAGE_SIZE)
                for part, width in zip(
                    messages.split([width * MESSAGE_SIZE for width in widths], 1),
                    widths,
                    strict=True,
                )
            ]
            for messages, widths in zip(end[2:], (self.widths[1:], self.widths[1:-1]), strict=True)
        )
        seen = pad(inputs[-1].unsqueeze(-1), (0, MESSAGE_SIZE - 1))
        return state._replace(
            layers=tuple(LayerState(*pair) for pair in zip(hidden, cell, strict=True)),
            feedback=tuple(part.unsqueeze(1) for part in above),
            carried=(seen, *below) if self.backward_pass else (),
            logits=logits[-1],
        )


def _below_vmap(tensor: Tensor) -> Tensor:
    if _functorch.is_batchedtensor(tensor):
        return _functorch.get_unwrapped(tensor)
    return tensor


class _Lifetimes(torch.autograd.Function):
    """The lifetimes, their gradient, and what `torch.func.vmap` makes of them. Tensors are inputs
    [T, E, A], labels [T, E], meta-parameters [kinds, floats] and the fields of `_Start`."""

    @staticmethod
    def forward(network: _Network, with_tape: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The logits, the end, and the tape that the gradient needs."""
        results = _live(network, with_tape, *(tensor.unsqueeze(0) for tensor in tensors))
        return (*(result.squeeze(0) for result in results[:5]), *results[5:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        network, with_tape, rows, _, own, *_ = inputs
        if not with_tape:
            return
        ctx.network = network
        ctx.mark_non_differentiable(*output[5:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows, own, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, own, logits, *saved = ctx.saved_tensors
        end, tape = saved[:4], saved[4:]
        steps, lifetimes, _ = rows.shape
        into_logits, *into_end = (
            torch.zeros_like(like) if gradient is None else gradient.contiguous()
            for gradient, like in zip(gradients[:5], (logits, *end), strict=True)
        )
        into_start = [gradient.clone() for gradient in into_end]  # changed in place
        into_each = own.new_empty(lifetimes, *own.shape)
        library.call(
            "vsml_lifetimes_backward",
            *(torch.get_num_threads(), steps, lifetimes, ctx.network.numbers),
            *(rows.contiguous(), own.contiguous(), logits, *tape),
            *(into_logits, *into_start, into_each),
        )
        return (None,) * 4 + (into_each.sum(0), *into_start[:3])

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        network: _Network,
        with_tape: bool,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Members with meta-parameters, and perhaps examples and a start, of their own."""
        assert not with_tape
        with_axis = [
            tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims[2:], strict=True)
        ]
        with_axis[2] = with_axis[2].expand(info.batch_size, *with_axis[2].shape[1:])
        results = _live(network, False, *with_axis)
        return tuple(results), (0,) * len(results)


def _live(
    network: _Network, with_tape: bool, inputs: Tensor, labels: Tensor, own: Tensor, *start: Tensor
) -> list[Tensor]:
    """Logits [P, T, E, B] and the end [P, E, ...] of P members, as `lifetimes.cpp` describes it.
    inputs [P, T, E, A], labels [P, T, E], own [P, kinds, floats]; examples and a start may be
    [1, ...], for all of them. with_tape, only where P is 1: also the tape."""
    examples = max(len(inputs), len(labels))
    inputs = inputs.expand(examples, *inputs.shape[1:])
    labels = labels.expand(examples, *labels.shape[1:])
    shared = max(map(len, start[:2]))
    hidden, cell = (part.expand(shared, *part.shape[1:]) for part in start[:2])
    start = (hidden, cell, start[2])
    members, steps, lifetimes = len(own), inputs.shape[1], inputs.shape[2]
    below = sum(network.widths[1:-1]) * MESSAGE_SIZE
    empty = inputs.new_empty
    logits = empty(members, steps, lifetimes, network.widths[-1])
    end = [empty(members, lifetimes, size) for size in (*(s.shape[-1] for s in start), below)]
    tape = []
    if with_tape:
        tape = [empty(steps * network.sweeps, lifetimes, s.shape[-1]) for s in start]
        tape.append(empty(steps, lifetimes, below))
    library.call(
        "vsml_lifetimes",
        *(torch.get_num_threads(), members, steps, lifetimes),
        *(examples, shared, len(start[2]), network.numbers),
        *(inputs.contiguous(), labels.contiguous(), own.contiguous()),
        *(part.contiguous() for part in start),
        *(logits, *end, *(tape or (None, None, None, None))),
    )
    return [logits, *end, *tape]
