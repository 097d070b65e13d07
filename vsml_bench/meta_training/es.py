"""Meta-gradients by evolution strategies, in the form that VSML was meta-trained with (Kirsch &
Schmidhuber 2021; the method is Salimans et al. 2017, arXiv 1703.03864, without rank shaping).

With theta the meta-parameters, L the meta-loss on the lifetimes of one meta-update and
eps_1 .. eps_n drawn from N(0, I), the estimate from these n antithetic pairs is

    g = 1/n  sum_i  eps_i (L(theta + sigma eps_i) - L(theta - sigma eps_i)) / (2 sigma),

which is unbiased for the gradient of E[L(theta + sigma eps)], a smoothed L. Both halves of a pair
live the same lifetimes from the same fresh states, so that a difference of losses is due to the
meta-parameters alone. Pairs share their lifetimes, or each has lifetimes of its own, L_i, as in the
paper: then g averages over as many more tasks, and is unbiased for the mean of all tasks.

The population is evaluated by `torch.func.vmap` over its axis P, a chunk at a time. Nothing is
backpropagated, so no step of a lifetime is kept but its logits. Several processes share the chunks:
each draws all noise, evaluates its own chunks, gets all losses, and forms the whole of g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from vsml_bench.data.episodes import Episode
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import ES, Learner, State
from vsml_bench.meta_training.objective import (
    Lifetimes,
    MetaGradient,
    MetaLoss,
    Objective,
    meta_loss,
)
from vsml_bench.meta_training.peers import ALONE, Peers

SUMMED = 64
"""Pairs whose contributions to g are added up in one sum: a fixed number, so that g does not depend
on how many are evaluated together."""
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
    own_lifetimes: bool = False
    """Whether the objective's lifetimes are dealt out to the pairs."""
    states_differ: bool = True
    """Whether fresh states may depend on the meta-parameters, and so differ in a pair's halves."""

    @property
    def chunks(self) -> int:
        """Batched calls that evaluate all pairs."""
        return -(-self.pairs // self.pairs_at_once)


def prepare(
    learner: Learner, objective: Objective, engine: ES, name: str, peers: Peers = ALONE
) -> Population:
    """Tries one pair on a meta-update's lifetimes and settles how many pairs go into one call.

    A member is reckoned at `STATES_PER_MEMBER` times its state at the end of the lifetimes, its
    logits and its parameters; as many pairs as fit into the engine's `chunk_mib` go together, at
    least one. Raises VsmlBenchError, naming the learner, where it cannot be evaluated as a
    population, and where there are more processes than chunks.
    """
    if engine.own_lifetimes and not isinstance(objective, Lifetimes):
        raise VsmlBenchError(
            f"learner '{name}': own_lifetimes: its meta-updates come from a source without "
            "lifetimes that could be dealt out to the pairs; leave it out."
        )
    one = Population(engine.pairs, engine.noise_std, 1, engine.own_lifetimes)
    parameters = dict(learner.named_parameters())
    pair = {key: p.detach().expand(2, *p.shape) for key, p in parameters.items()}
    try:
        if engine.own_lifetimes and isinstance(objective, Lifetimes):
            own = objective.share(0, 1, engine.pairs)
            one = replace(one, states_differ=_states_differ(learner, own, pair))
        found = _evaluate(learner, objective, one, 0, pair, lambda outcome: outcome)
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
    population = replace(one, pairs_at_once=min(engine.pairs, max(1, fitting)))
    _check_chunks(population, size, name, peers)
    return population


def _check_chunks(population: Population, size: int, name: str, peers: Peers) -> None:
    """VsmlBenchError where a process would have nothing to do. size: of a pair, bytes."""
    if population.chunks >= peers.count:
        return
    pairs, chunks = population.pairs, population.chunks
    fitting = pairs // peers.count * size // 2**20
    remedy = f"set --recipe chunk_mib={fitting}, or start" if fitting else "start"
    raise VsmlBenchError(
        f"learner '{name}': a meta-update has {pairs} pairs in {chunks} chunks, fewer than the "
        f"{peers.count} processes; {remedy} at most so many."
    )


def meta_gradient(
    learner: Learner,
    objective: Objective,
    population: Population,
    seed: int,
    *,
    peers: Peers = ALONE,
    reseed: Callable[[], None] = lambda: None,
    mark: int = 0,
) -> MetaGradient:
    """Sets `.grad` of every meta-parameter to the estimate g. The loss returned is the population's
    mean. However many pairs are evaluated at once, the sums are the same.

    seed: of the noise. reseed: called before each chunk, so that learners that draw noise of their
    own in training draw the same in all of them. mark: see `Peers.gather`.
    """
    learner.zero_grad(set_to_none=True)
    sigma, pairs, at_once = population.noise_std, population.pairs, population.pairs_at_once
    parameters = {key: p.detach() for key, p in learner.named_parameters()}
    own = peers.share(population.chunks)
    outcomes = []
    for index, noise in enumerate(draw_noise(parameters, pairs, at_once, seed)):
        if index not in own:
            continue
        reseed()
        members = {
            key: torch.cat([p + sigma * noise[key], p - sigma * noise[key]])  # [P, ...]
            for key, p in parameters.items()
        }
        found = _evaluate(
            learner, objective, population, index * at_once, members, lambda outcome: outcome[:2]
        )
        outcome = torch.stack(found).unflatten(1, (2, -1))  # [loss or accuracy, half, pairs]
        outcomes.append(nn.functional.pad(outcome, (0, at_once - outcome.shape[-1])).flatten())
    rows = peers.gather(outcomes, population.chunks, mark).to(outcomes[0])
    in_order = rows.unflatten(1, (2, 2, at_once)).movedim(0, 2).flatten(2)
    losses, accuracies = in_order[..., :pairs].contiguous()  # [2, n] each
    above, below = losses  # L(theta + sigma eps), L(theta - sigma eps)
    slopes = (above - below) / (2 * sigma)
    gradients = {key: torch.zeros_like(p) for key, p in parameters.items()}
    drawn_again = draw_noise(parameters, pairs, SUMMED, seed)
    for some, noise in zip(slopes.split(SUMMED), drawn_again, strict=True):
        for key, eps in noise.items():
            gradients[key] += torch.tensordot(some.to(eps.dtype), eps, dims=1) / pairs
    for key, parameter in learner.named_parameters():
        parameter.grad = gradients[key]
    return MetaGradient(losses.mean().item(), accuracies.mean().item())


def draw_noise(
    parameters: dict[str, Tensor], pairs: int, at_once: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """The pairs' eps, so many at once: a tensor [pairs of them, ...] like each parameter.

    A pair's noise depends on the seed and the pair's place only, and on no device.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    sizes = [p.numel() for p in parameters.values()]
    for start in range(0, pairs, at_once):
        count = min(at_once, pairs - start)
        rows = torch.from_numpy(generator.standard_normal((count, sum(sizes)), np.float32))
        parts = zip(parameters.items(), rows.split(sizes, dim=1), strict=True)
        yield {key: part.reshape(count, *p.shape).to(p) for (key, p), part in parts}


def _evaluate(
    learner: Learner,
    objective: Objective,
    population: Population,
    first: int,
    members: dict[str, Tensor],
    of_interest: Callable[[MetaLoss], Any],
) -> Any:
    """What is of interest in the members' outcomes, every tensor with the leading axis P.

    first: number of the first pair of these. members: parameter name -> [P, ...], first one half of
    every pair, then the other. None of them requires a gradient, so none is recorded.
    """
    if not population.own_lifetimes:
        return _each(learner, members, lambda given: of_interest(objective(given)))
    assert isinstance(objective, Lifetimes)
    pairs = len(next(iter(members.values()))) // 2
    lives = objective.share(first, pairs, population.pairs)

    def of_both_halves(part: Tensor, axis: int = 0) -> Tensor:
        """From the lifetimes of all pairs on one axis to [P, ..., E, ...]."""
        by_pair: Tensor = part.unflatten(axis, (pairs, -1)).movedim(axis, 0)
        return by_pair.repeat(2, *[1] * part.ndim)

    if population.states_differ:
        states = []
        for index in range(pairs):
            halves = {key: tensor[index::pairs] for key, tensor in members.items()}
            of_pair = lives.share(index, 1, pairs)
            states.append(_each(learner, halves, of_pair.fresh_states))  # [2, E, ...]
        state = pytree.tree_map(lambda *own: torch.stack(own, 1).flatten(0, 1), *states)
    else:
        state = pytree.tree_map(of_both_halves, lives.fresh_states(learner))
    episode = lives.episode
    parts = (episode.inputs, episode.labels, episode.targets)  # [T, n E, ...]
    examples = [of_both_halves(part, 1) for part in parts if part is not None]

    def live(given: Learner, state: State, *examples: Tensor) -> Any:
        return of_interest(meta_loss(lives.runner, state, Episode(*examples), lives.protocol))

    return _each(learner, members, live, state, *examples)


def _states_differ(learner: Learner, lives: Lifetimes, members: dict[str, Tensor]) -> bool:
    """Whether what the lifetimes start from is computed from the members' meta-parameters."""
    batched: list[bool] = []

    def look(given: Learner) -> Tensor:
        leaves = pytree.tree_leaves(lives.fresh_states(given))
        batched.extend(map(_functorch.is_batchedtensor, leaves))
        return torch.zeros(())

    _each(learner, members, look)
    return any(batched)


class _Bound(nn.Module):
    """A learner with what is done to it, as the module whose parameters `functional_call`
    replaces."""

    def __init__(self, learner: Learner, call: Callable[..., Any]) -> None:
        super().__init__()
        self.learner, self.call = learner, call

    def forward(self, *own: Any) -> Any:
        return self.call(self.learner, *own)


def _each(learner: Learner, members: dict[str, Tensor], call: Callable[..., Any], *own: Any) -> Any:
    """`call(learner, *own)` for each member with what is its own, by one batched call. own: tensors
    [P, ...]."""
    bound = _Bound(learner, call)

    def of_member(parameters: dict[str, Tensor], *own: Any) -> Any:
        named = {f"learner.{key}": tensor for key, tensor in parameters.items()}
        return functional_call(bound, named, own)

    with torch.compiler.set_stance("force_eager"):  # a compiled step knows nothing of the axis P
        return vmap(of_member, randomness="same")(members, *own)


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in pytree.tree_leaves(tensors))
