"""Runs a learner beside true online backpropagation and measures how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast
from typing import Protocol as Interface

import torch
from torch import Tensor

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import State
from vsml_bench.protocols.protocol import Predictions
from vsml_bench.seeds import derive_seed, generator
from vsml_bench.studies.cloning.backpropagation import Weights
from vsml_bench.studies.cloning.protocol import IDLE, IDLE_EXAMPLES, WINDOWS

PERTURBATION = 0.01
"""Standard deviation of the yardstick's weights, relative to each weight."""


class Imitator(Interface):
    """What a learner offers besides the contract so that it can be compared. Moreover the label -1
    means that nothing is known, and the error 0."""

    def weights(self, state: State) -> Weights:
        """The weights that it holds."""

    def velocities(self, state: State) -> Weights:
        """Those of momentum; zeros without."""

    def starting_from(self, weights: Weights) -> State:
        """A fresh state with these weights."""

    def reference(self) -> Any:
        """The algorithm that it imitates: a learner that offers all of this."""


class Sums(NamedTuple):
    """Of a window, over all weights and examples; each [E]."""

    dot: Tensor  # of the learner's updates and the true ones
    own: Tensor  # squares of the learner's
    true: Tensor  # squares of the true ones
    off: Tensor  # squares of their difference

    def correlation(self) -> Tensor:
        """About zero, not about the mean: updates are compared, not patterns of them."""
        return self.dot / (self.own * self.true).sqrt()


def compare(runner: Runner, state: State, episode: Episode) -> Predictions:
    """Runs the lifetimes of `episode` from fresh states; the traces are those of `protocol`."""
    imitator = cast(Imitator, runner.learner)
    reference = imitator.reference()
    start = imitator.weights(state)
    true = reference.starting_from(start)
    perturbed = reference.starting_from(_perturbed(start))
    steps = len(episode.labels)
    windows: list[dict[str, Tensor]] = []
    examples: list[tuple[Sums, Tensor, Tensor]] = []
    logits = start[-1].new_empty(steps, *start[-1][:, 0].shape)
    ends = {round(steps * (k + 1) / WINDOWS) for k in range(WINDOWS)}
    for t, (x_t, y_t) in enumerate(zip(episode.inputs, episode.labels, strict=True)):
        before = imitator.weights(state)
        imitated = reference.starting_from(before)._replace(velocities=imitator.velocities(state))
        logits[t], state = runner.step(state, x_t, y_t)
        after = imitator.weights(state)
        _, imitated = reference(imitated, x_t, y_t)
        true_logits, true = reference(true, x_t, y_t)
        perturbed_logits, perturbed = reference(perturbed, x_t, y_t)
        updates = _sums(_differences(after, before), _differences(imitated.weights, before))
        true_right, perturbed_right = (
            one.argmax(-1) == y_t for one in (true_logits, perturbed_logits)
        )
        examples.append((updates, true_right, perturbed_right))
        if t + 1 in ends:
            change = _sums(_differences(after, start), _differences(true.weights, start))
            ended = {
                "change_correlation": change.correlation(),
                "largest_weight": _largest(after),
                "reference_largest_weight": _largest(true.weights),
            }
            windows.append({**_of_window(examples), **ended})
            examples = []
    traces = {name: torch.stack([one[name] for one in windows], 1) for name in windows[0]}
    traces["drift"] = torch.stack(list(_drifts(runner, state, episode)), 1)
    return Predictions(logits, episode.labels, state, traces)


def _of_window(examples: list[tuple[Sums, Tensor, Tensor]]) -> dict[str, Tensor]:
    """From sums over the updates of each example, and whether the references were right [E]."""
    sums, right, perturbed_right = zip(*examples, strict=True)
    window = Sums(*(torch.stack(parts).sum(0) for parts in zip(*sums, strict=True)))
    return {
        "reference_accuracy": torch.stack(right).float().mean(0),
        "perturbed_accuracy": torch.stack(perturbed_right).float().mean(0),
        "update_correlation": window.correlation(),
        "update_error": (window.off / window.true).sqrt(),
    }


def _perturbed(weights: Weights) -> Weights:
    """Each lifetime's weights with noise of its own."""
    noise = generator(derive_seed(0, "cloning", "perturbation"))
    return tuple(
        w * (1 + PERTURBATION * torch.randn(w.shape, generator=noise).to(w)) for w in weights
    )


def _differences(after: Weights, before: Weights) -> Iterable[Tensor]:
    return (a - b for a, b in zip(after, before, strict=True))


def _sums(own: Iterable[Tensor], true: Iterable[Tensor]) -> Sums:
    """Over all layers."""
    own, true = (torch.cat([part.flatten(1) for part in side], 1) for side in (own, true))
    return Sums(
        (own * true).sum(1), own.square().sum(1), true.square().sum(1), (own - true).square().sum(1)
    )


def _largest(weights: Weights) -> Tensor:
    """The largest absolute weight [E]."""
    return torch.stack([w.flatten(1).abs().amax(1) for w in weights]).amax(0)


def _drifts(runner: Runner, state: State, episode: Episode) -> Iterable[Tensor]:
    """[E] at each of `IDLE` points."""
    imitator = cast(Imitator, runner.learner)
    start = imitator.weights(state)
    nothing, unknown = torch.zeros_like(episode.inputs[0]), torch.full_like(episode.labels[0], -1)
    for _ in range(IDLE):
        for _ in range(IDLE_EXAMPLES // IDLE):
            _, state = runner.step(state, nothing, unknown)
        moved = _differences(imitator.weights(state), start)
        yield _largest(tuple(moved))
