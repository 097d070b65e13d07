"""Learners, meta-losses and lifetimes that tests of evolution strategies share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tests.runners import on_cpu
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Learner, NoConfig, Shape, State, cross_entropy_error
from vsml_bench.meta_training.es import Population
from vsml_bench.meta_training.objective import Lifetimes, MetaLoss, Objective, meta_loss
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.seeds import generator
from vsml_bench.vsml.variants import VSML, VSMLConfig

SHAPE = Shape((1, 2, 2), 3)
STEPS, LIFETIMES = 4, 2
POPULATION = Population(pairs=7, noise_std=0.3, pairs_at_once=7)


class FastWeights(NamedTuple):
    weights: Tensor  # [E, K, D]
    inputs: Tensor  # [E, D]
    logits: Tensor  # [E, K]


class LearnedRates(Learner):
    """SGD from a learned initialisation or, with the rate alone, from noise."""

    variants: ClassVar = {}

    def __init__(self, learned_start: bool = True) -> None:
        super().__init__(NoConfig())
        self.rate = nn.Parameter(torch.tensor(0.7))
        self.start = nn.Parameter(torch.zeros(SHAPE.classes, SHAPE.features))
        self.learned_start = learned_start

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> FastWeights:
        weights = torch.randn(lifetimes, shape.classes, shape.features, generator=generator)
        if self.learned_start:
            weights = 0.1 * weights + self.start
        inputs = torch.zeros(lifetimes, shape.features)
        return FastWeights(weights, inputs, torch.zeros(lifetimes, shape.classes))

    def predict(self, state: FastWeights, inputs: Tensor) -> tuple[Tensor, FastWeights]:
        x = inputs.flatten(1)
        logits = (state.weights * x.unsqueeze(1)).sum(-1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: FastWeights, labels: Tensor) -> FastWeights:
        error = cross_entropy_error(state.logits, labels)
        step = self.rate * error.unsqueeze(-1) * state.inputs.unsqueeze(1)
        return state._replace(weights=state.weights - step)


def lifetimes_of(seed: int = 4, dtype: torch.dtype = torch.float64) -> Objective:
    """The meta-loss on some lifetimes of noise."""
    inputs = torch.randn(STEPS, LIFETIMES, *SHAPE.inputs, generator=generator(2), dtype=dtype)
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES), generator=generator(3))

    def objective(learner: Learner) -> MetaLoss:
        state = learner.init_state(LIFETIMES, SHAPE, generator(seed))
        return meta_loss(on_cpu(learner), state, Episode(inputs, labels), Online(len(labels)))

    return objective


def dealt(
    learner: Learner, pairs: int = POPULATION.pairs, dtype: torch.dtype = torch.float64
) -> Lifetimes:
    """Two lifetimes of noise for each pair; seed s has lifetime s and fresh state s."""
    drawn = generator(6)
    inputs = torch.randn(STEPS, 2 * pairs, *SHAPE.inputs, generator=drawn, dtype=dtype)
    labels = torch.randint(SHAPE.classes, (STEPS, 2 * pairs), generator=drawn)

    def sample(seeds: Sequence[int]) -> Episode:
        return Episode(inputs[:, list(seeds)], labels[:, list(seeds)])

    def fresh(learner: Learner, seeds: Sequence[int]) -> State:
        return fresh_states(learner, seeds, SHAPE, torch.device("cpu"))

    return Lifetimes(on_cpu(learner), Online(STEPS), range(2 * pairs), sample, fresh)


def vsml(**config: object) -> VSML:
    learner = VSML(VSMLConfig(state_size=4, message_size=3, **config))  # type: ignore[arg-type]
    learner.init_meta_parameters(generator(0))
    return learner
