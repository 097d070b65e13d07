"""The other learners against what one would run instead of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.gpicl import GPICL, GPICLConfig, GPICLState
from baselines.maml import ConvConfig, ConvMAML, MAMLConfig, ModelAgnostic
from benchmarks.case import Case, Run, objective_of, random_episode, runner_of, without_gradients
from vsml_bench.acceleration import COMPILE_AFTER
from vsml_bench.learner import Shape
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.registry import find_learner


@dataclass(frozen=True)
class DenseConfig(MAMLConfig):
    """A network of dense layers with these widths, inputs and classes included."""

    widths: tuple[int, ...] = (64, 32, 5)


class DenseMAML(ModelAgnostic):
    """MAML on a network of any size."""

    variants: ClassVar[Mapping[str, MAMLConfig]] = {"dense-maml": DenseConfig()}

    def __init__(self, config: DenseConfig) -> None:
        super().__init__(config)
        self.fixed_shape = Shape(config.widths[:1], config.widths[-1])

    def make_network(self) -> nn.Module:
        """ReLU between the layers."""
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(self.config.widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def maml_meta_step(widths: tuple[int, ...] | None, goal: float | None) -> Case:
    """The meta-gradient of 32 tasks, 5-way 1-shot with 15 queries a class; widths: of a dense
    network, None for the four convolutions of `maml-conv`."""
    tasks, protocol = 32, FewShot(5, 1, 15)

    def learner() -> ModelAgnostic:
        made = ConvMAML(ConvConfig()) if widths is None else DenseMAML(DenseConfig(widths=widths))
        made.init_meta_parameters(torch.Generator().manual_seed(0))
        return made

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        maml = learner()
        shape = maml.fixed_shape
        assert shape is not None
        episode = random_episode(protocol.examples, tasks, Shape(shape.inputs, 5))

        def ours() -> Run:
            objective = objective_of(
                runner_of(maml),
                episode,
                protocol,
                lambda: maml.init_state(tasks, shape, torch.Generator().manual_seed(0)),
            )
            return lambda: backpropagate(maml, objective)

        def reference() -> Run:
            from learn2learn.algorithms import MAML

            theirs = MAML(maml.network, maml.config.inner_rate)
            support = protocol.learning_steps

            def step() -> None:
                maml.zero_grad(set_to_none=True)
                total = torch.zeros(())
                for task in range(tasks):
                    inputs, labels = episode.inputs[:, task], episode.labels[:, task]
                    clone = theirs.clone()
                    clone.adapt(cross_entropy(clone(inputs[:support]), labels[:support]))
                    total = total + cross_entropy(clone(inputs[support:]), labels[support:])
                (total / tasks).backward()

            return step

        return ours, reference

    name = "4-conv" if widths is None else "-".join(map(str, widths))
    forward = _multiply_adds(learner()) * 2
    # backwards is twice forwards; the gradient of the support's gradient twice that once more
    examples = 3 * protocol.examples + 6 * protocol.learning_steps
    return Case(
        f"MAML meta-step, {tasks} tasks 5-way 1-shot, {name} net",
        "learn2learn",
        "tasks",
        tasks,
        goal,
        tasks * forward * examples,
        sides,
    )


def _multiply_adds(learner: ModelAgnostic) -> int:
    """Of one example's way through the network."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(output.numel() * int(module.weight[0].numel()))  # type: ignore[index]

    layers = [m for m in learner.network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    assert learner.fixed_shape is not None
    learner.network(torch.zeros(1, *learner.fixed_shape.inputs))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def sgd_online(name: str, lifetimes: int, steps: int, goal: float | None) -> Case:
    """Online gradient descent on 28 x 28 inputs, ten classes."""
    shape = Shape((784,), 10)
    hidden = find_learner(name).config.hidden

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = find_learner(name).create(), random_episode(steps, lifetimes, shape)

        def ours() -> Run:
            runner = runner_of(learner, COMPILE_AFTER)
            state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))
            return without_gradients(lambda: runner.unroll(state, episode.inputs, episode.labels))

        def reference() -> None:
            for lifetime in range(lifetimes):
                layers: list[nn.Module] = []
                width = shape.features
                for units in hidden:
                    layers += [nn.Linear(width, units), nn.Tanh()]
                    width = units
                network = nn.Sequential(*layers, nn.Linear(width, shape.classes))
                optimizer = torch.optim.SGD(network.parameters(), learner.config.learning_rate)
                for x, y in zip(
                    episode.inputs[:, lifetime], episode.labels[:, lifetime], strict=True
                ):
                    optimizer.zero_grad()
                    cross_entropy(network(x), y).backward()
                    optimizer.step()

        return ours, lambda: reference

    sizes = [shape.features, *hidden, shape.classes]
    weights = sum(a * b for a, b in pairwise(sizes))
    # forwards, the gradient's product with the rate, and the way down through all but one layer
    products = 2 * weights + weights - sizes[0] * sizes[1]
    return Case(
        f"SGD online ({name}), {lifetimes} lifetimes",
        "a loop over torch.optim.SGD",
        "examples",
        lifetimes * steps,
        goal,
        lifetimes * steps * 2 * products,
        sides,
    )


def gpicl_lifetime(steps: int, goal: float | None) -> Case:
    """One lifetime of the Transformer."""
    learner = GPICL(GPICLConfig())
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    shape = learner.fixed_shape

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        episode = random_episode(steps, 1, shape)
        fresh: GPICLState = learner.init_state(1, shape, torch.Generator().manual_seed(0))

        def reference() -> list[Tensor]:
            """Every prediction reads all examples before it anew."""
            return [
                learner.unroll(fresh, episode.inputs[: t + 1], episode.labels[: t + 1])[0][-1]
                for t in range(steps)
            ]

        return (
            lambda: without_gradients(
                lambda: learner.unroll(fresh, episode.inputs, episode.labels)
            ),
            lambda: without_gradients(reference),
        )

    width, layers = learner.config.width, learner.config.layers
    matrices = 4 * width**2 + 2 * learner.config.widening * width**2
    token = layers * matrices + width * (shape.features + shape.classes)
    attention = layers * 2 * width * steps / 2  # scores and sums over half the lifetime on average
    return Case(
        f"GPICL, a lifetime of {steps} examples",
        "recomputing the prefix each step",
        "examples",
        steps,
        goal,
        steps * 2 * (token + attention),
        sides,
    )
