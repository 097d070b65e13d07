"""Learners that are wrong in one way each, all made from one that is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from vsml_bench.learner import Learner, NoConfig, Phase, Recipe, Shape


class Fit(NamedTuple):
    weights: Tensor  # [E, K, D]
    inputs: Tensor  # [E, D]
    logits: Tensor  # [E, K]
    more: tuple[Tensor, ...] = ()  # what a wrong learner adds, each [E, ...]


class Right(Learner):
    """Softmax regression from zero weights, trained by gradient descent at a rate of 0.1."""

    variants: ClassVar[Mapping[str, Any]] = {"right": NoConfig()}
    family = "test"
    source = "none"

    def learning_rate(self) -> float | Tensor:
        return 0.1

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> Fit:
        return Fit(
            torch.zeros(lifetimes, shape.classes, shape.features),
            torch.zeros(lifetimes, shape.features),
            torch.zeros(lifetimes, shape.classes),
        )

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        x = inputs.flatten(1)
        logits = (state.weights * x.unsqueeze(1)).sum(-1)
        return logits, state._replace(inputs=x, logits=logits)

    def observe(self, state: Fit, labels: Tensor) -> Fit:
        classes = state.logits.shape[-1]
        error = one_hot(labels, classes) - state.logits.softmax(-1)
        step = self.learning_rate() * error.unsqueeze(-1) * state.inputs.unsqueeze(1)
        return state._replace(weights=state.weights + step)


class RightRate(Right):
    """The same with a rate that is meta-trained."""

    recipe: ClassVar[Recipe | None] = Recipe((Phase(steps=1, lifetime=10, learning_rate=0.01),))

    def __init__(self, config: NoConfig) -> None:
        super().__init__(config)
        self.rate = nn.Parameter(torch.zeros(()))

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.rate.copy_(0.2 + 0.1 * torch.rand((), generator=generator))

    def learning_rate(self) -> float | Tensor:
        return self.rate


class RightNoise(Right):
    """The same from random weights."""

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> Fit:
        fresh = super().init_state(lifetimes, shape, generator)
        return fresh._replace(weights=0.1 * torch.randn(fresh.weights.shape, generator=generator))


class LeavesDtype(Right):
    """Always float32."""

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        logits, state = super().predict(state, inputs)
        return logits.float(), state


class Unrolls(Right):
    """What those have in common that go wrong in `unroll` only."""

    def unroll(self, state: Fit, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Fit]:
        logits, last = super().unroll(state, inputs, labels)
        return logits + self.added(inputs, labels, logits.shape[-1]), last

    def added(self, inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
        """[T, E, K]"""
        raise AssertionError


class KnowsItsLabel(Unrolls):
    """Too little to be seen in the loss, enough to decide the argmax between equal logits."""

    def added(self, inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
        return 1e-6 * one_hot(labels, classes)


class KnowsTheNextInput(Unrolls):
    def added(self, inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
        following = inputs.flatten(2).mean(-1).roll(-1, 0)
        following[-1] = 0.0
        return following.unsqueeze(-1) * torch.arange(classes)


class KnowsTheMean(Unrolls):
    """Standardises by statistics of the whole stream, as is usual and wrong."""

    def added(self, inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
        return inputs.mean() * torch.arange(classes)


class UnrollsAnotherAlgorithm(Unrolls):
    """Causal, but not what the loop computes."""

    def added(self, inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
        return 0.01 * inputs.flatten(2).mean(-1, keepdim=True) * torch.arange(classes)


class FastCodeDoesAnotherThing(Right):
    """Twice of what the loop computes."""

    fast_code = ":twice"


class FastCodeKnowsItsLabel(Right):
    """Too little to be no rounding."""

    fast_code = ":with_label"


@dataclass(frozen=True)
class Fast:
    """Code for whole lifetimes that changes logits [T, E, K], given labels [T, E] too."""

    learner: Learner
    change: Callable[[Tensor, Tensor], Tensor]

    def unroll(self, state: Fit, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Fit]:
        logits, last = self.learner.unroll(state, inputs, labels)
        return self.change(logits, labels), last


def twice(learner: Learner, *run: Any) -> Fast:
    return Fast(learner, lambda logits, labels: 2 * logits)


def with_label(learner: Learner, *run: Any) -> Fast:
    return Fast(learner, lambda logits, labels: logits + 1e-6 * one_hot(labels, logits.shape[-1]))


class ForgetsAtBlocks(Right):
    """Its `unroll` loses the last step of each block of 256."""

    def unroll(self, state: Fit, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Fit]:
        logits = []
        for xs, ys in zip(inputs.split(256), labels.split(256), strict=True):
            block, last = super().unroll(state, xs, ys)
            before = super().unroll(state, xs[:-1], ys[:-1])[1] if len(xs) == 256 else last
            logits.append(block)
            state = before
        return torch.cat(logits), state


class MixesLifetimes(Right):
    """Learns from the mean over lifetimes of how often each label came."""

    def observe(self, state: Fit, labels: Tensor) -> Fit:
        frequency = one_hot(labels, state.logits.shape[-1]).to(state.weights.dtype).mean(0)
        state = super().observe(state, labels)
        return state._replace(weights=state.weights + 0.1 * frequency.unsqueeze(-1))


class CountsNeighbours(Right):
    """Learns the faster the more lifetimes run beside it."""

    def observe(self, state: Fit, labels: Tensor) -> Fit:
        last = super().observe(state, labels)
        grown = state.weights + len(labels) * (last.weights - state.weights)
        return last._replace(weights=grown)


class RemembersInAnAttribute(Right):
    """Its logits get smaller with every prediction that the object ever made."""

    seen = 0

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        self.seen += 1
        logits, state = super().predict(state, inputs)
        return logits / self.seen, state


class WritesIntoItsState(Right):
    def observe(self, state: Fit, labels: Tensor) -> Fit:
        state.weights.copy_(super().observe(state, labels).weights)
        return state


class DrawsFromElsewhere(Right):
    """Its fresh weights do not come from the generator."""

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> Fit:
        fresh = super().init_state(lifetimes, shape, generator)
        return fresh._replace(weights=torch.randn(fresh.weights.shape))


class DrawsMetaParametersFromElsewhere(RightRate):
    def init_meta_parameters(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.rate.uniform_(0.1, 0.3)


class DropsOut(Right):
    """Dropout that evaluation does not switch off."""

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        return super().predict(state, nn.functional.dropout(inputs, 0.5, training=True))


class SharesNoise(Right):
    """The same random weights in all lifetimes of one call."""

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> Fit:
        fresh = super().init_state(lifetimes, shape, generator)
        noise = torch.randn(fresh.weights.shape[1:], generator=generator)
        return fresh._replace(weights=noise.expand_as(fresh.weights).clone())


class SwallowsNaN(Right):
    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        return super().predict(state, inputs.nan_to_num())


class SpreadsNaN(Right):
    """Gives all lifetimes up where one is lost."""

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        logits, state = super().predict(state, inputs)
        return logits + 0 * inputs.sum(), state


class KeepsAPlainTensor(RightRate):
    """What it draws is no parameter, so no checkpoint has it."""

    def __init__(self, config: NoConfig) -> None:
        super().__init__(config)
        self.scale = torch.ones(())

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        super().init_meta_parameters(generator)
        self.scale = 2 + torch.rand((), generator=generator)

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        return super().predict(state, self.scale * inputs)


class KeepsWhatItComputed(RightRate):
    """What follows from its meta-parameters it computes once and for all."""

    kept: Tensor | None = None

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> Fit:
        if self.kept is None:
            self.kept = self.rate.square()
        return super().init_state(lifetimes, shape, generator)

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        assert self.kept is not None
        return super().predict(state, self.kept * inputs)


class CutsTheGradient(RightRate):
    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        logits, state = super().predict(state, inputs)
        return logits.detach(), state


class LosesTheGradient(RightRate):
    """Differentiable everywhere, infinitely so at zero."""

    def observe(self, state: Fit, labels: Tensor) -> Fit:
        state = super().observe(state, labels)
        return state._replace(weights=state.weights + (0 * self.rate).sqrt())


class HasNoRecipe(RightRate):
    recipe = None


class GrowsTooFast(Right):
    """Remembers all pairs of steps."""

    def observe(self, state: Fit, labels: Tensor) -> Fit:
        state = super().observe(state, labels)
        pairs = state.more[0] if state.more else state.weights.new_zeros(len(labels), 0, 0)
        return state._replace(more=(pad(pairs, (0, 1, 0, 1)),))


class TakesOneSizeOnly(Right):
    """Says nothing of it."""

    input_kinds = frozenset({"image"})

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        return super().predict(state, inputs.reshape(len(inputs), 16))


class PrefersEarlyInputs(Right):
    invariances = frozenset({"inputs"})

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        return super().predict(state, inputs.flatten(1).cumsum(-1))


class PrefersTheFirstLabel(Right):
    invariances = frozenset({"labels"})

    def predict(self, state: Fit, inputs: Tensor) -> tuple[Tensor, Fit]:
        logits, state = super().predict(state, inputs)
        return logits + 0.3 * (torch.arange(logits.shape[-1]) == 0), state


class PrefersEarlyInputsInNoise(RightNoise, PrefersEarlyInputs):
    """With random fresh states, so that only the distribution can tell."""


class PrefersTheFirstLabelInNoise(RightNoise, PrefersTheFirstLabel):
    """With random fresh states, so that only the distribution can tell."""


class TrulyInvariantInNoise(RightNoise):
    """Not wrong: what it claims holds, in distribution."""

    invariances = frozenset({"inputs", "labels"})


class LearnsFromQueries(Right):
    """Centres the queries: each is answered with the help of the others."""

    def answer(self, state: Fit, queries: Tensor) -> Tensor:
        return super().answer(state, queries - queries.mean(0))
