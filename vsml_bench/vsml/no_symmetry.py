"""The ablation of VSML's sharing: every sub-RNN has meta-parameters of its own.

The equations are those of `SubRNN`, with W_a, W_b, W_h, the biases and the heads indexed by (a, b).
Nothing is shared, so nothing is symmetric: a permutation of inputs or classes is another problem,
the network has the one size that its meta-parameters were made for, and there are A K times as many
of them. (The ablation in arXiv 2212.04458 is another one: it keeps the sharing and hides it between
learned linear maps.)

At 28 x 28 x 10 that would be 18.7 million meta-parameters, each used once per example. To be
trainable at desk size the fixed 28 x 28 image is averaged over `pool` x `pool` squares before the
network sees it, with 4: 7 x 7 inputs, 490 sub-RNNs, 1.17 million meta-parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsml_bench.learner import Shape
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN

IMAGE = (1, 28, 28)


@dataclass(frozen=True)
class NoSymmetryConfig(VSMLConfig):
    """One dense layer without sharing; the options of `VSMLConfig` that concern further layers must
    stay at their defaults."""

    pool: int = 4
    """Side of the squares over which the image is averaged; it must divide 28."""
    classes: int = 10
    """K, the number of classes that there are meta-parameters for."""


class UnsharedSubRNNs(SubRNN):
    """A grid of sub-RNNs with meta-parameters of their own, [A, B, ...] for each of `SubRNN`'s."""

    def __init__(self, inputs: int, outputs: int, state_size: int, message_size: int) -> None:
        super().__init__(state_size, message_size)
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                own = torch.empty(inputs, outputs, *parameter.shape)
                setattr(module, name, nn.Parameter(own))

    def incoming_grid(self, forward_messages: Tensor, backward_messages: Tensor) -> Tensor:
        """The messages' shares of the gates, [E, A, B, 4N]."""
        from_inputs = torch.einsum("eam,abmg->eabg", forward_messages, self.gates_from_forward)
        from_outputs = torch.einsum("ebm,abmg->eabg", backward_messages, self.gates_from_backward)
        return from_inputs + from_outputs + self.gates_bias

    def recurrent(self, hidden: Tensor) -> Tensor:
        """W_h h of every sub-RNN, [E, A, B, N] to [E, A, B, 4N]."""
        return torch.einsum("eabn,abng->eabg", hidden, self.gates_from_hidden)

    def outgoing(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Messages up [E, B, M], a mean over inputs, and down [E, A, M], a mean over outputs."""
        means = []
        for head, axis in ((self.forward_head, 1), (self.backward_head, 2)):
            messages = torch.einsum("eabn,abmn->eabm", hidden, head.weight) + head.bias
            means.append(messages.mean(axis))
        return means[0], means[1]


class NoSymmetryNetwork(VSMLNetwork):
    """One dense layer without sharing. Its named configuration is in `vsml_bench.vsml.variants`."""

    config: NoSymmetryConfig

    def __init__(self, config: NoSymmetryConfig) -> None:
        super().__init__(config)
        self.fixed_shape = Shape(IMAGE, config.classes)

    def make_sub_rnn(self) -> SubRNN:
        """All of the layer's meta-parameters."""
        config = self.config
        return UnsharedSubRNNs(
            (IMAGE[1] // config.pool) ** 2, config.classes, config.state_size, config.message_size
        )

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> VSMLState:
        """As in `VSMLNetwork`, for the averaged image."""
        side = IMAGE[1] // self.config.pool
        return super().init_state(lifetimes, Shape((1, side, side), shape.classes), generator)

    def predict(self, state: VSMLState, inputs: Tensor) -> tuple[Tensor, VSMLState]:
        """As in `VSMLNetwork`, from the averaged image."""
        return super().predict(state, nn.functional.avg_pool2d(inputs, self.config.pool))
