"""The VSML network (Kirsch & Schmidhuber 2021, arXiv 2012.14905) and what it does in a lifetime.

A network in which every weight is a sub-RNN. Running it forward *is* its learning algorithm: the
error of the previous example enters at the top, messages run both ways, and the sub-RNNs' states
change. There is no gradient at meta-test time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsml_bench.learner import Learner, Shape, cross_entropy_error
from vsml_bench.vsml.conv import ConvLayer
from vsml_bench.vsml.layers import DenseLayer, Layer, LayerState, Units, init_layer_state
from vsml_bench.vsml.sub_rnn import SubRNN, require_sizes

LOGIT_BOUND = 100.0


@dataclass(frozen=True)
class VSMLConfig:
    """Size and options of a VSML network; the defaults are the paper's one-layer model."""

    hidden: tuple[int, ...] = ()
    """Widths of hidden dense layers; () is one dense layer from inputs to classes."""
    state_size: int = 16
    """N, the size of h and of c of one sub-RNN."""
    message_size: int = 8
    """M, the size of a message in either direction."""
    ticks: int = 2
    """Micro-ticks per layer and sweep."""
    layer_norm: bool = False
    """LayerNorm on each sub-RNN's messages before they are averaged."""
    feed_label: bool = False
    """The label enters channel 1 of the last layer's backward message, beside the error."""
    backward_pass: bool = False
    """A second sweep, from the last layer to the first, carries the error of the same example."""
    own_backward_sub_rnn: bool = False
    """The second sweep has meta-parameters of its own."""
    layerwise: bool = False
    """One set of meta-parameters per layer instead of one for the whole network."""
    conv: tuple[int, ...] = ()
    """Channels of convolutional layers before the dense ones; inputs must be images."""
    batch: int = 1
    """Examples learned from side by side: each of `batch` copies of the state, equal at the start,
    takes every batch-th example and its share, 1/batch, of the error; after each round the first
    half of the copies' states is averaged."""


class VSMLState(NamedTuple):
    """What changes in one lifetime. The axis R is `config.batch`, the copies of the network; the
    copy at index 0 takes the next example."""

    layers: tuple[LayerState, ...]  # each [E, R, A, B, N]
    feedback: tuple[Tensor, ...]  # backward messages into each layer from above [E, R, *outputs, M]
    carried: tuple[Tensor, ...]  # for backward_pass: forward messages last seen [E, *inputs, M]
    logits: Tensor  # of the last prediction [E, K]
    turn: Tensor  # examples seen in this round, int64 [E]
    below: tuple[Tensor, ...] = ()  # what a subclass keeps between the inputs and the first layer


class VSMLNetwork(Learner):
    """Layers of sub-RNNs, conv layers first, then dense ones. Its named configurations are in
    `vsml_bench.vsml.variants`."""

    family = "VSML"
    source = "Kirsch & Schmidhuber 2021, arXiv 2012.14905"
    fast_code = "vsml_bench.vsml.fast:fast_code"

    def __init__(self, config: VSMLConfig) -> None:
        sizes = ("hidden", "state_size", "message_size", "ticks", "conv", "batch")
        require_sizes(config, *sizes)
        super().__init__(config)
        self.layers: tuple[Layer, ...] = (
            *(ConvLayer() for _ in config.conv),
            *(DenseLayer() for _ in (*config.hidden, "classes")),
        )
        count = len(self.layers) if config.layerwise else 1
        self.sub_rnns = nn.ModuleList(self.make_sub_rnn() for _ in range(count))
        self.backward_sub_rnns = (
            nn.ModuleList(self.make_sub_rnn() for _ in range(count))
            if config.own_backward_sub_rnn
            else None
        )

    def make_sub_rnn(self) -> SubRNN:
        """One set of meta-parameters."""
        config = self.config
        return SubRNN(config.state_size, config.message_size, config.layer_norm)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Truncated normal weights with std 1/sqrt(fan in), zero biases."""
        for module in self.modules():
            if isinstance(module, SubRNN):
                module.init_meta_parameters(generator)

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> VSMLState:
        """Fresh sub-RNNs; no error has been seen yet."""
        config = self.config
        copies = config.batch
        units: list[Units] = [shape.inputs]
        layers = []
        for index, width in enumerate((*config.conv, *config.hidden, shape.classes)):
            layer = self.layers[index]
            fresh = init_layer_state(
                layer, self._sub_rnn(index), lifetimes, units[-1], width, generator
            )
            layers.append(LayerState(*(p.unsqueeze(1).repeat_interleave(copies, 1) for p in fresh)))
            units.append(layer.outputs(units[-1], width))
        zeros = layers[0].hidden.new_zeros
        messages = config.message_size
        return VSMLState(
            layers=tuple(layers),
            feedback=tuple(zeros(lifetimes, copies, *outputs, messages) for outputs in units[1:]),
            carried=tuple(zeros(lifetimes, *inputs, messages) for inputs in units[:-1])
            if config.backward_pass
            else (),
            logits=zeros(lifetimes, shape.classes),
            turn=torch.zeros(lifetimes, dtype=torch.int64, device=layers[0].hidden.device),
        )

    def entering(self, state: VSMLState, inputs: Tensor) -> Tensor:
        """What enters the first layer [T, E, *units]: the inputs [T, E, *shape] themselves."""
        return inputs

    def predict(self, state: VSMLState, inputs: Tensor) -> tuple[Tensor, VSMLState]:
        """One sweep upwards: the inputs enter channel 0 of the first layer's forward messages, the
        previous error is already waiting at the top, the logits leave on channel 1."""
        layers, feedback, carried = [], [], []
        entering = self.entering(state, inputs.unsqueeze(0)).squeeze(0)
        messages = self._message(entering)  # [E, *units, M]
        for index, (layer, from_above) in enumerate(zip(state.layers, state.feedback, strict=True)):
            carried.append(messages)
            next_layer, messages, downward = self.layers[index].sweep(
                self._sub_rnn(index),
                self.config.ticks,
                LayerState(*(part[:, 0] for part in layer)),
                messages,
                from_above[:, 0],
            )
            layers.append(next_layer)
            if index > 0:
                feedback.append(downward)
        logits = LOGIT_BOUND * torch.tanh(messages[..., 1] / LOGIT_BOUND)
        feedback.append(state.feedback[-1][:, 0])
        return logits, state._replace(
            layers=self._put_first(state.layers, layers),
            feedback=self._put_first(state.feedback, feedback),
            carried=tuple(carried) if self.config.backward_pass else (),
            logits=logits,
        )

    def observe(self, state: VSMLState, labels: Tensor) -> VSMLState:
        """Puts the error dL/dlogits, L the mean over a batch, on channel 0, at the top of the
        network, where the next sweep meets it; with `backward_pass` a sweep downwards carries it at
        once."""
        error = cross_entropy_error(state.logits, labels) / self.config.batch
        error = self._message(error)  # [E, K, M]
        if self.config.feed_label:
            onehot = nn.functional.one_hot(labels, error.shape[1]).to(error.dtype)
            error = error + nn.functional.pad(
                onehot.unsqueeze(-1), (1, self.config.message_size - 2)
            )
        if self.config.backward_pass:
            state = self._sweep_downwards(state, error)
        else:
            top = self._put_first(state.feedback[-1:], [error])
            state = state._replace(feedback=state.feedback[:-1] + top)
        return self._next_copy(state) if self.config.batch > 1 else state

    def _sweep_downwards(self, state: VSMLState, error: Tensor) -> VSMLState:
        layers, feedback = [], []
        from_above = error
        for index in reversed(range(len(state.layers))):
            layer = LayerState(*(part[:, 0] for part in state.layers[index]))
            feedback.append(from_above)
            layer, _, from_above = self.layers[index].sweep(
                self._sub_rnn(index, backward=True),
                self.config.ticks,
                layer,
                state.carried[index],
                from_above,
            )
            layers.append(layer)
        feedback[0] = torch.zeros_like(error)  # the error has been delivered
        return state._replace(
            layers=self._put_first(state.layers, layers[::-1]),
            feedback=self._put_first(state.feedback, feedback[::-1]),
        )

    def _next_copy(self, state: VSMLState) -> VSMLState:
        """Moves the copy that just learned to the end of the queue; after a whole round the first
        half of h and c is averaged over the copies."""
        turn = (state.turn + 1) % self.config.batch
        half = self.config.state_size // 2

        def advance(part: Tensor) -> Tensor:
            part = part.roll(-1, dims=1)
            merged = part[..., :half].mean(1, keepdim=True).expand_as(part[..., :half])
            merged = torch.cat([merged, part[..., half:]], -1)
            return torch.where(turn.view(-1, 1, 1, 1, 1) == 0, merged, part)

        return state._replace(
            layers=tuple(LayerState(*map(advance, layer)) for layer in state.layers),
            feedback=tuple(messages.roll(-1, dims=1) for messages in state.feedback),
            turn=turn,
        )

    def _sub_rnn(self, layer: int, backward: bool = False) -> SubRNN:
        bank = self.sub_rnns
        if backward and self.backward_sub_rnns is not None:
            bank = self.backward_sub_rnns
        return bank[layer % len(bank)]  # type: ignore[return-value]

    def _message(self, channel: Tensor) -> Tensor:
        """[E, *units] -> [E, *units, M] with the values on channel 0 and zeros elsewhere."""
        return nn.functional.pad(channel.unsqueeze(-1), (0, self.config.message_size - 1))

    def _put_first(self, old: tuple[Any, ...], new: list[Any]) -> tuple[Any, ...]:
        """Writes each new value [E, ...] over copy 0 of the old one [E, R, ...]."""

        def put(before: Tensor, value: Tensor) -> Tensor:
            value = value.unsqueeze(1)
            return value if self.config.batch == 1 else torch.cat([value, before[:, 1:]], 1)

        return tuple(
            LayerState(*map(put, before, value))
            if isinstance(before, LayerState)
            else put(before, value)
            for before, value in zip(old, new, strict=True)
        )
