"""What the speed table compares: each case done by vsml-bench, and by what its users would run
otherwise. Both sides get the same data and meta-parameters, and all cores.

A side is a function that prepares everything and returns the run to be timed, so that neither data
nor compilation is. Random examples will do: nothing here depends on what they show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.gpicl import GPICL, GPICLConfig, GPICLState
from baselines.maml import ConvConfig, ConvMAML, MAMLConfig, ModelAgnostic
from benchmarks.textbook import textbook_unroll
from vsml_bench import paths
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.evaluation.planning import CellPlan, job_of, plan_suite
from vsml_bench.evaluation.work import WorkOrder, entry_of, run_cell
from vsml_bench.execution import decide
from vsml_bench.learner import Learner, Recipe, Shape
from vsml_bench.meta_training import bptt, es
from vsml_bench.meta_training.artifact import find_artifact, ready
from vsml_bench.meta_training.objective import MetaLoss, meta_loss
from vsml_bench.protocols.evaluation import fresh_states, lifetime_seeds
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import stepwise_loss
from vsml_bench.registry import find_learner, find_suite
from vsml_bench.vsml.learner import VSML

Run: TypeAlias = Callable[[], Any]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    reference: str
    """What vsml-bench is compared with."""
    unit: str
    """What is counted, per second."""
    count: int
    """Of these, in one run."""
    goal: float | None
    """How many times as fast as the reference it should be."""
    flops: float | None
    """Floating-point operations of one run that no implementation can do without; None where the
    bound is the reference itself."""
    sides: Callable[[], tuple[Callable[[], Run], Callable[[], Run]]]
    """Ours and the reference."""
    threads: int | None = None
    """None is one per core."""


def random_episode(steps: int, lifetimes: int, shape: Shape) -> Episode:
    """Normal inputs [T, E, *shape.inputs], uniform labels [T, E]."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(steps, lifetimes, *shape.inputs, generator=generator)
    return Episode(inputs, torch.randint(shape.classes, (steps, lifetimes), generator=generator))


def without_gradients(run: Run) -> Run:
    """The run in inference mode, as evaluations are."""

    def inferred() -> Any:
        with torch.inference_mode():
            return run()

    return inferred


# --- VSML -----------------------------------------------------------------------------------------

_GATES = 16 * 64  # multiply-adds of h W in one sub-RNN and micro-tick
_EXPONENTIALS = 5 * 16  # of four gates and tanh(c'), each a polynomial of degree 5
_REST = 7 * 16  # products in the LSTM's update, all of them multiplied out
_TICKS = 2
_FORWARD = 2 * _TICKS * (_GATES + 5 * _EXPONENTIALS + _REST)
_BACKWARD = 2 * _TICKS * (2 * _GATES + 20 * 16)  # dL/dh and dL/dW; what else is per gate


def vsml_forward(inputs: int, lifetimes: int, steps: int, goal: float | None) -> Case:
    """Lifetimes of a network with one dense layer, ten classes."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = _vsml(), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))
        return (
            lambda: without_gradients(
                lambda: learner.unroll(state, episode.inputs, episode.labels)
            ),
            lambda: without_gradients(
                lambda: textbook_unroll(learner, state, episode.inputs, episode.labels)
            ),
        )

    return Case(
        f"VSML forward, {inputs} x 10, {lifetimes} lifetimes",
        "textbook form in eager PyTorch",
        "examples",
        lifetimes * steps,
        goal,
        lifetimes * steps * inputs * 10 * _FORWARD,
        sides,
    )


def vsml_meta_gradient(inputs: int, lifetimes: int, steps: int, goal: float | None) -> Case:
    """Backpropagation through whole lifetimes, as in a meta-update."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = _vsml(), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))

        def reference() -> None:
            learner.zero_grad(set_to_none=True)
            logits, _ = textbook_unroll(learner, state, episode.inputs, episode.labels)
            stepwise_loss(logits, episode.labels).mean().backward()

        objective = _objective(episode, Online(steps), lambda: state)
        return lambda: lambda: bptt.meta_gradient(learner, objective), lambda: reference

    flops = lifetimes * steps * inputs * 10 * (2 * _FORWARD + _BACKWARD)  # the way back starts anew
    return Case(
        f"VSML meta-gradient, {inputs} x 10, {lifetimes} lifetimes x {steps} examples",
        "textbook form in eager PyTorch",
        "examples",
        lifetimes * steps,
        goal,
        flops,
        sides,
    )


def vsml_evolution(inputs: int, population: int, steps: int, goal: float | None) -> Case:
    """One step of evolution strategies, a lifetime for each member."""
    shape = Shape((inputs,), 10)
    pairs = population // 2

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = _vsml(), random_episode(steps, 1, shape)
        objective = _objective(
            episode, Online(steps), lambda: fresh_states(learner, [0], shape, CPU)
        )
        recipe = Recipe(phases=(), engine="es", pairs=pairs)

        def reference() -> None:
            """The same members, one after the other."""
            own = {name: p.detach().clone() for name, p in learner.named_parameters()}
            gradient = {name: torch.zeros_like(p) for name, p in own.items()}
            one_by_one = es.Population(pairs, recipe.noise_std, pairs_at_once=1)
            for noise in es.draw_noise(own, one_by_one, seed=0):
                losses = []
                for sign in (1, -1):
                    for name, p in learner.named_parameters():
                        p.copy_(own[name] + sign * recipe.noise_std * noise[name][0])
                    state = fresh_states(learner, [0], shape, CPU)
                    logits, _ = textbook_unroll(learner, state, episode.inputs, episode.labels)
                    losses.append(stepwise_loss(logits, episode.labels).mean())
                slope = (losses[0] - losses[1]) / (2 * recipe.noise_std)
                for name, eps in noise.items():
                    gradient[name] += slope * eps[0] / pairs
            for name, p in learner.named_parameters():
                p.copy_(own[name])
                p.grad = gradient[name]

        def ours() -> Run:
            prepared = es.prepare(learner, objective, recipe, "vsml")
            return lambda: es.meta_gradient(learner, objective, prepared, seed=0)

        return ours, lambda: torch.no_grad()(reference)

    return Case(
        f"ES step, population {population}, {inputs} x 10, {steps} examples",
        "the members one by one through the textbook form",
        "examples",
        population * steps,
        goal,
        population * steps * inputs * 10 * _FORWARD,
        sides,
    )


def _vsml() -> VSML:
    learner = find_learner("vsml").create(seed=0)
    assert isinstance(learner, VSML)
    return learner


def _objective(
    episode: Episode, protocol: Online | FewShot, state: Callable[[], Any]
) -> Callable[[Learner], MetaLoss]:
    return lambda learner: meta_loss(learner, state(), episode, protocol)


# --- the other learners ---------------------------------------------------------------------------


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
            objective = _objective(
                episode,
                protocol,
                lambda: maml.init_state(tasks, shape, torch.Generator().manual_seed(0)),
            )
            return lambda: bptt.meta_gradient(maml, objective)

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
            learner.compile(dynamic=False)
            state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))
            return without_gradients(lambda: learner.unroll(state, episode.inputs, episode.labels))

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


# --- the harness ----------------------------------------------------------------------------------


def runner_overhead(lifetimes: int, goal: float | None) -> Case:
    """A cell of the desk suite, from its plan to its record, against the `unroll` in it."""
    steps = find_suite("desk").steps

    def plan() -> CellPlan:
        desk = find_suite("desk")
        planned = plan_suite(desk, splits=["mnist5k-held-out"], learners=["vsml"], seeds=[0])
        return dataclasses.replace(planned[0], lifetimes=lifetimes)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        folders = (paths.results() / "checkpoints",)

        def ours() -> Run:
            order = WorkOrder(plan(), folders, None, "cpu", 1, "", ("", False))
            return lambda: run_cell(order)

        def reference() -> Run:
            planned = plan()
            job = job_of(planned, entry_of(planned))
            train = EpisodeSampler(planned.split.meta_train)
            made = ready(job, find_artifact(job, folders), train.content_hashes).learner
            sampler, protocol = EpisodeSampler(planned.split.meta_test), Online(steps)
            seeds = lifetime_seeds(lifetimes, "speed")
            episode = protocol.sample(sampler, seeds)
            state = fresh_states(made, seeds, sampler.shape, CPU)
            return without_gradients(lambda: made.unroll(state, episode.inputs, episode.labels))

        return ours, reference

    return Case(
        f"the runner, a cell of {lifetimes} lifetimes x {steps}",
        "the bare unroll it calls",
        "examples",
        lifetimes * steps,
        goal,
        None,
        sides,
        threads=1,
    )


CASES: tuple[Case, ...] = (
    vsml_forward(784, lifetimes=8, steps=40, goal=16),
    vsml_forward(64, lifetimes=16, steps=200, goal=12),
    vsml_meta_gradient(64, lifetimes=16, steps=100, goal=10),
    vsml_evolution(64, population=64, steps=100, goal=16),
    maml_meta_step((64, 32, 5), goal=4),
    maml_meta_step((784, 256, 64, 5), goal=1.5),
    maml_meta_step(None, goal=1.0),
    sgd_online("sgd-linear", lifetimes=32, steps=200, goal=15),
    gpicl_lifetime(2000, goal=20),
    runner_overhead(lifetimes=8, goal=1 / 1.03),
)


def start(case: Case, side: int) -> Run:
    """Prepares one side, 0 ours, 1 the reference, in a process of its own."""
    if side == 0:  # which settles how PyTorch allocates; the reference takes it as it comes
        decide("cpu", case.threads)
    elif case.threads is not None:
        torch.set_num_threads(case.threads)
    return case.sides()[side]()
