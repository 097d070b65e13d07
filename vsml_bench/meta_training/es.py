"""Meta-gradients by evolution strategies, in the form that VSML was meta-trained with (Kirsch &
Schmidhuber 2021; the method is Salimans et al. 2017, arXiv 1703.03864, without rank shaping).

With theta the meta-parameters, L the meta-loss on the lifetimes of one meta-update and
eps_1 .. eps_n drawn from N(0, I), the estimate from these n antithetic pairs is

    g = 1/n  sum_i  eps_i (L(theta + sigma eps_i) - L(theta - sigma eps_i)) / (2 sigma),

which is unbiased for the gradient of E[L(theta + sigma eps)], a smoothed L. All members of the
population live the same lifetimes from the same fresh states, so that a difference of losses is due
to the meta-parameters alone.

The population is evaluated by `torch.func.vmap` over its axis P, a chunk at a time. Nothing is
backpropagated, so no step of a lifetime is kept but its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import ES, Learner
from vsml_bench.meta_training.objective import MetaGradient, MetaLoss, Objective

STATES_PER_MEMBER = 10
"""What a member takes in the midst of a step, in sizes of its state: the state before the step and
after it, and activations, such as VSML's gates [A, B, 4N] where h and c are [A, B, 2N]. A rule of
thumb on the safe side, no bound."""


@dataclass(frozen=True)
class Population:
    """How a meta-update samples around the meta-parameters."""

    pairs: int
    """n, antithetic pairs; the population has P = 2n members."""
    noise_std: float
    """sigma."""
    pairs_at_once: int
    """Pairs evaluated in one batched call."""


def prepare(learner: Learner, objective: Objective, engine: ES, name: str) -> Population:
    """Tries one pair on a meta-update's lifetimes and settles how many pairs go into one call.

    A member is reckoned at `STATES_PER_MEMBER` times its state at the end of the lifetimes, its
    logits and its parameters; as many pairs as fit into the engine's `chunk_mib` go together, at
    least one. Raises VsmlBenchError, naming the learner, where it cannot be evaluated as a
    population.
    """
    parameters = dict(learner.named_parameters())
    pair = {key: p.detach().expand(2, *p.shape) for key, p in parameters.items()}
    try:
        found = _evaluate(learner, objective, pair, lambda outcome: outcome)
    except VsmlBenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VsmlBenchError(
            f"learner '{name}' cannot be meta-trained by evolution strategies, since a population "
            f'of it cannot be evaluated in one batched call ({reason}); use engine = "bptt".'
        ) from error
    size = _bytes(found.logits) + 2 * _bytes(parameters) + STATES_PER_MEMBER * _bytes(found.state)
    fitting = engine.chunk_mib * 2**20 // size
    return Population(engine.pairs, engine.noise_std, min(engine.pairs, max(1, fitting)))


def meta_gradient(
    learner: Learner, objective: Objective, population: Population, seed: int
) -> MetaGradient:
    """Sets `.grad` of every meta-parameter to the estimate g. The loss returned is the population's
    mean. seed: of the noise; the chunking changes nothing but the rounding of sums."""
    learner.zero_grad(set_to_none=True)
    sigma, pairs = population.noise_std, population.pairs
    parameters = {key: p.detach() for key, p in learner.named_parameters()}
    gradients = {key: torch.zeros_like(p) for key, p in parameters.items()}
    loss = accuracy = 0.0
    for noise in draw_noise(parameters, population, seed):
        members = {
            key: torch.cat([p + sigma * noise[key], p - sigma * noise[key]])  # [P, ...]
            for key, p in parameters.items()
        }
        losses, accuracies = _evaluate(learner, objective, members, lambda found: found[:2])
        above, below = losses.chunk(2)  # L(theta + sigma eps), L(theta - sigma eps), [P/2] each
        slopes = (above - below) / (2 * sigma)
        for key, eps in noise.items():
            gradients[key] += torch.tensordot(slopes.to(eps.dtype), eps, dims=1) / pairs
        loss += losses.sum().item() / (2 * pairs)
        accuracy += accuracies.sum().item() / (2 * pairs)
    for key, parameter in learner.named_parameters():
        parameter.grad = gradients[key]
    return MetaGradient(loss, accuracy)


def draw_noise(
    parameters: dict[str, Tensor], population: Population, seed: int
) -> Iterator[dict[str, Tensor]]:
    """The pairs' eps, a chunk at a time: a tensor [pairs in the chunk, ...] like each parameter.

    A pair's noise depends on the seed and the pair's place only: on no chunk and no device.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    sizes = [p.numel() for p in parameters.values()]
    for start in range(0, population.pairs, population.pairs_at_once):
        count = min(population.pairs_at_once, population.pairs - start)
        rows = torch.from_numpy(generator.standard_normal((count, sum(sizes)), np.float32))
        parts = zip(parameters.items(), rows.split(sizes, dim=1), strict=True)
        yield {key: part.reshape(count, *p.shape).to(p) for (key, p), part in parts}


class _Bound(nn.Module):
    """A learner with an objective, as the module whose parameters `functional_call` replaces."""

    def __init__(self, learner: Learner, objective: Objective) -> None:
        super().__init__()
        self.learner, self.objective = learner, objective

    def forward(self) -> MetaLoss:
        return self.objective(self.learner)


def _evaluate(
    learner: Learner,
    objective: Objective,
    members: dict[str, Tensor],
    of_interest: Callable[[MetaLoss], Any],
) -> Any:
    """What is of interest in the members' outcomes, every tensor with the leading axis P.

    members: parameter name -> [P, ...]. None of them requires a gradient, so none is recorded.
    """
    bound = _Bound(learner, objective)

    def outcome(parameters: dict[str, Tensor]) -> Any:
        named = {f"learner.{key}": tensor for key, tensor in parameters.items()}
        return of_interest(functional_call(bound, named, ()))

    with torch.compiler.set_stance("force_eager"):  # a compiled step knows nothing of the axis P
        return vmap(outcome, randomness="same")(members)


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in pytree.tree_leaves(tensors))
