"""Learning-algorithm cloning: meta-updates from made-up examples of what one weight of a network
does under backpropagation (Kirsch & Schmidhuber 2021, arXiv 2012.14905, sections 3.2 and 4.1).

A synapse is shown inputs x and errors e that have nothing to do with any data set or network. Its
messages and the change of its stored weight w are compared with what backpropagation makes of the w
that it stores:

    forward message     tanh(x) w
    backward message    w e (1 - tanh(x)^2)
    change of w         v' = mu v - alpha tanh(x) e        (and of the stored velocity v, to v')

The loss is the sum of their mean squared errors, the changes in units of alpha. States go on from
meta-update to meta-update, for in a lifetime they go on as well; each synapse starts afresh now and
then.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from vsml_bench.acceleration import compiled, worth_compiling
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Recipe
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.objective import MetaLoss, Objective, Source, Validation
from vsml_bench.meta_training.schedule import Update
from vsml_bench.seeds import derive_seed, generator
from vsml_bench.studies.cloning.learner import Clone, Synapse, SynapseConfig

FRESH = 0.05
"""Share of the synapses that start afresh before a meta-update."""
VALIDATION_SYNAPSES, VALIDATION_STEPS = 1024, 100


class Synapses(NamedTuple):
    """States of S synapses in mid-life."""

    hidden: Tensor  # [S, N]
    cell: Tensor  # [S, N]
    rate: Tensor  # alpha [S]


Example: TypeAlias = tuple[Tensor, Tensor]
"""Of S synapses: x and e, each [S]."""


class Imitation(Source):
    """Synapses of a `Clone`; "accuracy" is the share of the mean square of the targets that the
    synapses get right, 1 for a perfect clone."""

    def __init__(
        self, job: Job, recipe: Recipe, learner: Learner, execution: Execution, root: Path | None
    ) -> None:
        assert isinstance(learner, Clone)
        if recipe.engine.name != "bptt":
            raise VsmlBenchError(
                f"recipe of '{job.learner.name}': engine: a clone imitates by gradients alone; "
                "leave it out."
            )
        self.data_hashes = {}
        self._seed, self._device = job.seed, execution.device
        self._learner = learner
        self._imitate = compiled(imitate) if worth_compiling(recipe.steps) else imitate
        self._synapses: Synapses | None = None

    def objective(self, planned: Update, step: int, *, largest: bool = False) -> Objective:
        """The loss on `planned.lifetimes` synapses, unrolled over `planned.lifetime` examples."""
        draw = generator(derive_seed(self._seed, "imitation", step))
        config, count = self._learner.synapse.config, planned.lifetimes
        fresh = self._fresh(count, draw)
        before = self._synapses
        if before is None or len(before.rate) != count:
            before = fresh
        renewed = (torch.rand(count, generator=draw) < FRESH).to(self._device)
        started = Synapses(
            *(
                torch.where(renewed.view(-1, *[1] * (new.ndim - 1)), new, old.detach())
                for new, old in zip(fresh, before, strict=True)
            )
        )
        examples = self._examples(count, planned.lifetime, draw)

        def objective(learner: Learner) -> MetaLoss:
            assert isinstance(learner, Clone)
            found, self._synapses = self._imitate(learner.synapse, started, examples, config)
            return found

        return objective

    def validate(self) -> Validation:
        """The same on synapses that have lived for a hundred examples."""
        draw = generator(derive_seed(0, "imitation", "validation"))
        count = VALIDATION_SYNAPSES
        synapses = self._fresh(count, draw)
        examples = self._examples(count, VALIDATION_STEPS, draw)
        with torch.inference_mode():
            synapse = self._learner.synapse
            found, _ = imitate(synapse, synapses, examples, synapse.config)
        return Validation(found.loss.item(), found.accuracy.item())

    @property
    def carried(self) -> dict[str, Tensor]:
        """The synapses' states."""
        return {} if self._synapses is None else self._synapses._asdict()

    @carried.setter
    def carried(self, tensors: dict[str, Tensor]) -> None:
        states = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        self._synapses = Synapses(**states) if states else None

    def _fresh(self, count: int, draw: torch.Generator) -> Synapses:
        synapse = self._learner.synapse
        cell = synapse.storing(weights(count, draw).to(self._device))
        rate = rates(count, synapse.config, draw).to(self._device)
        return Synapses(torch.zeros_like(cell), cell, rate)

    def _examples(self, count: int, steps: int, draw: torch.Generator) -> list[Example]:
        return [
            (inputs(count, draw).to(self._device), errors(count, draw).to(self._device))
            for _ in range(steps)
        ]


def imitate(
    synapse: Synapse, synapses: Synapses, examples: list[Example], config: SynapseConfig
) -> tuple[MetaLoss, Synapses]:
    """Runs the synapses through examples and compares; also their last states."""
    hidden, cell, rate = synapses
    squares: list[Tensor] = []  # [errors, targets] of each example
    for x, e in examples:
        weight, velocity = synapse.weight(cell).detach(), synapse.velocity(cell).detach()
        active = torch.tanh(x)
        hidden, cell = synapse.run_phase(synapse.incoming(0, x, rate), hidden, cell)
        upward = hidden @ synapse.heads.weight[0] + synapse.heads.bias[0]
        hidden, cell = synapse.run_phase(synapse.incoming(1, e, rate), hidden, cell)
        downward = hidden @ synapse.heads.weight[1] + synapse.heads.bias[1]
        change = -active * e
        if config.momentum:
            change = config.momentum * velocity / rate + change
        pairs = [
            (upward, active * weight),
            (downward, weight * e * (1 - active**2)),
            ((synapse.weight(cell) - weight) / rate, change),
        ]
        if config.momentum:
            pairs.append((synapse.velocity(cell) / rate, change))
        missed = torch.stack([(found - target).square().mean() for found, target in pairs])
        wanted = torch.stack([target.square().mean() for _, target in pairs])
        squares.append(torch.stack([missed.sum(), wanted.sum()]))
    missed, wanted = torch.stack(squares).mean(0)
    explained = (1 - missed / wanted).detach()
    return MetaLoss(missed, explained), Synapses(hidden.detach(), cell.detach(), rate)


def inputs(count: int, draw: torch.Generator) -> Tensor:
    """Inputs x [S]: 15 % zero, 15 % U(-6, 6), 10 % U(-20, 20), 40 % N(0, 1), 20 % U(-1, 3)."""
    return _mixture(
        count,
        draw,
        (0.15, lambda: torch.zeros(count)),
        (0.15, lambda: _uniform(count, -6, 6, draw)),
        (0.10, lambda: _uniform(count, -20, 20, draw)),
        (0.40, lambda: torch.randn(count, generator=draw)),
        (0.20, lambda: _uniform(count, -1, 3, draw)),
    )


def weights(count: int, draw: torch.Generator) -> Tensor:
    """Stored w [S] of a fresh synapse: 70 % N(0, 0.4^2), 30 % U(-2.5, 2.5)."""
    return _mixture(
        count,
        draw,
        (0.70, lambda: 0.4 * torch.randn(count, generator=draw)),
        (0.30, lambda: _uniform(count, -2.5, 2.5, draw)),
    )


def errors(count: int, draw: torch.Generator) -> Tensor:
    """Errors e [S]: 8 % zero, 34 % of absolute value U(0, 1), 8 % U(0, 3), 50 % 10^U(-3, 0), of
    either sign: errors become small as a network learns, and large where many of them meet."""
    sign = torch.randint(0, 2, (count,), generator=draw) * 2.0 - 1
    size = _mixture(
        count,
        draw,
        (0.08, lambda: torch.zeros(count)),
        (0.34, lambda: _uniform(count, 0, 1, draw)),
        (0.08, lambda: _uniform(count, 0, 3, draw)),
        (0.50, lambda: 10 ** _uniform(count, -3, 0, draw)),
    )
    return sign * size


def rates(count: int, config: SynapseConfig, draw: torch.Generator) -> Tensor:
    """Rates alpha [S], for life, log-uniform over the range that is imitated."""
    span = log(config.rate_range)
    return config.rate * torch.exp(_uniform(count, -span, span, draw))


def _uniform(count: int, low: float, high: float, draw: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=draw)


def _mixture(
    count: int, draw: torch.Generator, *parts: tuple[float, Callable[[], Tensor]]
) -> Tensor:
    """Each of `count` numbers from one of the (share, sample) parts."""
    chosen = torch.rand(count, generator=draw)
    mixed, below = torch.zeros(count), 0.0
    for share, sample in parts:
        drawn = sample()
        mixed = torch.where((chosen >= below) & (chosen < below + share), drawn, mixed)
        below += share
    return mixed
