"""MAML as learn2learn does it: an adapter that drives `learn2learn.algorithms.MAML` itself.

It is the reference that `maml` is checked against: each lifetime is a clone of the learned
initialisation that adapts to its own loss, one lifetime after the other in a Python loop, as
everywhere in learn2learn. So it is slow, and its recipe is short.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vsml_bench.learner import Learner, Phase, Recipe, Shape

Tensors: TypeAlias = tuple[Tensor, ...]

INSTALL = (
    "`make reference` in a checkout of vsml-bench installs it, which is `pip install gym requests` "
    "and, with cython<3, setuptools<81 and wheel at hand, `CYTHON_FORCE_REGEN=1 pip install "
    "--no-deps --no-build-isolation --use-pep517 --config-settings=--global-option=build_ext "
    "learn2learn==0.2.0`"
)


@dataclass(frozen=True)
class ReferenceConfig:
    """The inner loop and the network, as in `maml` and `maml-conv`."""

    online_rate: float = 0.01
    """alpha of the step after each example of a lifetime."""
    inner_rate: float = 0.4
    """alpha of the steps on a support set."""
    inner_steps: int = 1
    """k, the steps on a support set."""
    first_order: bool = False
    """Whether the meta-gradient takes the inner gradients for constants."""
    hidden: tuple[int, ...] = ()
    """Widths of dense hidden layers."""
    filters: tuple[int, ...] = ()
    """Channels of convolutional layers before them."""


class ReferenceState(NamedTuple):
    """A network being adapted."""

    weights: Tensors  # in the order of network.parameters(), each [E, *its shape]
    inputs: Tensor  # of the example just predicted [E, *shape.inputs]


class Learn2LearnMAML(Learner):
    """The networks of `maml` and `maml-conv`, adapted by learn2learn."""

    variants: ClassVar[Mapping[str, ReferenceConfig]] = {
        "maml-learn2learn": ReferenceConfig(hidden=(64,)),
        "maml-conv-learn2learn": ReferenceConfig(filters=(32,) * 4),
    }
    family = "gradient-based meta-learning"
    source = (
        "Arnold, Mahajan, Datta, Bunner & Zarkias 2020, arXiv 2008.12284; Finn, Abbeel & Levine "
        "2017, arXiv 1703.03400"
    )
    protocols = frozenset({"online", "few_shot"})
    requires: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("learn2learn", "gym", "requests"), INSTALL
    )
    recipe = Recipe(phases=(Phase(100, 50, 1e-3),), lifetimes=8)
    fixed_shape = Shape((1, 28, 28), 62)

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__(config)
        self.network = _network(config, self.fixed_shape)

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Weights and biases uniform in +-1/sqrt(fan in), as in PyTorch."""
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()

    def init_state(
        self, lifetimes: int, shape: Shape, generator: torch.Generator
    ) -> ReferenceState:
        """The learned initialisation in every lifetime; draws nothing."""
        device = generator.device
        theta = (p.to(device) for p in self.network.parameters())
        weights = tuple(p.expand(lifetimes, *p.shape) for p in theta)
        return ReferenceState(weights, weights[0].new_zeros(lifetimes, *shape.inputs))

    def predict(self, state: ReferenceState, inputs: Tensor) -> tuple[Tensor, ReferenceState]:
        """Each lifetime's clone on its own example."""
        maml = self._maml(alpha=0.0)
        clones = (_clone(maml, weights) for weights in zip(*state.weights, strict=True))
        logits = [clone(x.unsqueeze(0)) for clone, x in zip(clones, inputs, strict=True)]
        return torch.cat(logits), state._replace(inputs=inputs)

    def observe(self, state: ReferenceState, labels: Tensor) -> ReferenceState:
        """One `adapt` on the example just predicted."""
        examples = (state.inputs.unsqueeze(1), labels.unsqueeze(1))
        return state._replace(
            weights=self._adapt_all(state.weights, *examples, self.config.online_rate, steps=1)
        )

    def adapt(self, state: ReferenceState, inputs: Tensor, labels: Tensor) -> ReferenceState:
        """Each lifetime's clone adapts k times to its whole support set."""
        rate, steps = self.config.inner_rate, self.config.inner_steps
        examples = (inputs.transpose(0, 1), labels.T)
        return state._replace(weights=self._adapt_all(state.weights, *examples, rate, steps))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: `torch.compile` cannot trace the autograd calls inside learn2learn."""

    def _adapt_all(
        self, weights: Tensors, inputs: Tensor, labels: Tensor, alpha: float, steps: int
    ) -> Tensors:
        """One lifetime after the other. inputs [E, S, *shape.inputs], labels int64 [E, S]."""
        recording = torch.is_grad_enabled()
        adapted: list[Tensors] = []
        # learn2learn adapts by autograd, which a harness that only evaluates has switched off
        with torch.inference_mode(False), torch.enable_grad():
            if not recording:
                weights = tuple(w.detach().clone().requires_grad_() for w in weights)
                inputs, labels = inputs.clone(), labels.clone()
            maml = self._maml(alpha, first_order=self.config.first_order or not recording)
            for x, y, *own in zip(inputs, labels, *weights, strict=True):
                clone = _clone(maml, own)
                for _ in range(steps):
                    clone.adapt(cross_entropy(clone(x), y))
                adapted.append(tuple(clone.parameters()))
            stacked = tuple(torch.stack(parts) for parts in zip(*adapted, strict=True))
        return stacked if recording else tuple(part.detach() for part in stacked)

    def _maml(self, alpha: float, first_order: bool = False) -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # gym, which it imports, prints its own end
            from learn2learn.algorithms import MAML
        return MAML(self.network, alpha, first_order)


def _clone(maml: Any, weights: Any) -> Any:
    """A clone with the weights of one lifetime, put where learn2learn's `update_module` puts
    adapted ones: plain tensors in the place of parameters."""
    clone = maml.clone()
    names = [name for name, _ in clone.module.named_parameters()]
    for name, weight in zip(names, weights, strict=True):
        path, _, own = name.rpartition(".")
        clone.module.get_submodule(path)._parameters[own] = weight
    return clone


def _network(config: ReferenceConfig, shape: Shape) -> nn.Module:
    """The same layers, with the same names of parameters, as those of `maml` and `maml-conv`."""
    layers: list[nn.Module] = []
    channels, height, width = shape.inputs
    for filters in config.filters:
        convolution = nn.Conv2d(channels, filters, 3, stride=2, padding=1)
        layers += [convolution, nn.GroupNorm(1, filters), nn.ReLU()]
        channels = filters
        height, width = -(-height // 2), -(-width // 2)
    layers.append(nn.Flatten())
    features = channels * height * width
    for hidden in config.hidden:
        layers += [nn.Linear(features, hidden), nn.ReLU()]
        features = hidden
    return nn.Sequential(*layers, nn.Linear(features, shape.classes))
