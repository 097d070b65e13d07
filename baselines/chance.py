"""The two floors that never look at an input: a blind guess, and the most frequent label so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vsml_bench.learner import Learner, NoConfig, Shape

MULTIPLIER = 48_271
MODULUS = 2**31 - 1
PREFERENCE = 1e-3
"""Logit of the guess over the others: enough to decide the argmax, too little to matter for the
cross-entropy, which stays within this much of ln K."""


class ChanceState(NamedTuple):
    """One random stream per lifetime."""

    stream: Tensor  # int64 [E], in [1, MODULUS)
    logits: Tensor  # of the last prediction [E, K]


class Chance(Learner):
    """Guesses every label uniformly at random, a guess of its own for each lifetime and step.

    Equal logits would be no guess: their argmax is class 0, whose frequency is not chance. The
    stream is Lehmer's generator s <- 48271 s mod (2^31 - 1), in exact integers, so that the guesses
    are the same on every device; the guess is floor(K s / (2^31 - 1)).
    """

    variants: ClassVar[Mapping[str, NoConfig]] = {"chance": NoConfig()}
    family = "blind"
    source = "Park & Miller 1988, CACM 31(10); multiplier as revised by them in 1993"
    invariances = frozenset({"inputs"})

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> ChanceState:
        """A random start of each lifetime's stream."""
        device = generator.device
        start = torch.randint(1, MODULUS, (lifetimes,), generator=generator, device=device)
        return ChanceState(start, torch.zeros(lifetimes, shape.classes, device=device))

    def predict(self, state: ChanceState, inputs: Tensor) -> tuple[Tensor, ChanceState]:
        """Nearly equal logits, largest at the guess."""
        classes = state.logits.shape[-1]
        stream = state.stream * MULTIPLIER % MODULUS  # below 2^47: cannot overflow
        guess = stream * classes // MODULUS
        logits = PREFERENCE * one_hot(guess, classes).to(state.logits.dtype)
        return logits, ChanceState(stream, logits)

    def observe(self, state: ChanceState, labels: Tensor) -> ChanceState:
        """Learns nothing."""
        return state


class MajorityState(NamedTuple):
    """What has been counted."""

    counts: Tensor  # examples of each class seen so far [E, K]


class Majority(Learner):
    """Predicts the most frequent label seen so far; its logits are by Laplace's rule of succession

    log p_k = log (n_k + 1) / (n + K).
    """

    variants: ClassVar[Mapping[str, NoConfig]] = {"majority": NoConfig()}
    family = "blind"
    source = "Laplace 1814, Essai philosophique sur les probabilites (rule of succession)"
    invariances = frozenset({"inputs", "labels"})

    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> MajorityState:
        """Nothing counted; draws nothing."""
        return MajorityState(torch.zeros(lifetimes, shape.classes, device=generator.device))

    def predict(self, state: MajorityState, inputs: Tensor) -> tuple[Tensor, MajorityState]:
        """The log-probabilities, whatever the inputs."""
        return torch.log_softmax((state.counts + 1).log(), -1), state

    def observe(self, state: MajorityState, labels: Tensor) -> MajorityState:
        """Counts the labels."""
        return MajorityState(state.counts + one_hot(labels, state.counts.shape[-1]))
