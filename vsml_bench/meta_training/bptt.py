"""Meta-gradients by backpropagation through whole lifetimes: all of a meta-update at once, or a
micro-batch at a time.

A gradient of micro-batches is the mean of theirs, added up in float64 in their order, so that it
does not depend on which process has computed which.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import BPTT, Learner, Recipe
from vsml_bench.meta_training.objective import Lifetimes, MetaGradient, Objective
from vsml_bench.meta_training.peers import ALONE, Peers


def check(objective: Objective, engine: BPTT, recipe: Recipe, peers: Peers, name: str) -> None:
    """VsmlBenchError, naming the learner, where its meta-updates cannot be had in micro-batches, or
    have fewer of them than there are processes."""
    if not isinstance(objective, Lifetimes):
        raise VsmlBenchError(
            f"learner '{name}': its meta-updates come from a source without lifetimes that could "
            "be dealt out; meta-train it in one process, without micro_batch."
        )
    numbers = [phase.lifetimes or recipe.lifetimes for phase in recipe.phases]
    fewest = min(numbers) // (engine.micro_batch or 1)
    if fewest < peers.count:
        raise VsmlBenchError(
            f"learner '{name}': a meta-update has {fewest} "
            f"{'micro-batches' if engine.micro_batch else 'lifetimes'}, fewer than the "
            f"{peers.count} processes; start at most so many."
        )
    if engine.micro_batch is None:
        fitting = range(min(numbers) // peers.count, 0, -1)
        size = next(size for size in fitting if not any(number % size for number in numbers))
        raise VsmlBenchError(
            f"learner '{name}': backpropagation takes the {min(numbers)} lifetimes of a "
            "meta-update all at once, which processes cannot share; set --recipe "
            f"micro_batch={size}, which becomes part of what the checkpoint is filed under, or use "
            "one process."
        )


def meta_gradient(
    learner: Learner,
    objective: Objective,
    engine: BPTT,
    *,
    peers: Peers = ALONE,
    reseed: Callable[[int], None] = lambda index: None,
    mark: int = 0,
) -> MetaGradient:
    """Sets `.grad` of every meta-parameter that the meta-loss depends on; the others' stays None.

    reseed: called with the number of a micro-batch before it is lived, for the noise of learners
    that draw some in training. mark: see `Peers.gather`.
    """
    if engine.micro_batch is None:
        return backpropagate(learner, objective)
    assert isinstance(objective, Lifetimes)
    pieces = len(objective.seeds) // engine.micro_batch
    rows = []
    for index in peers.share(pieces):
        reseed(index)
        found = backpropagate(learner, objective.share(index, 1, pieces))
        rows.append(_row(learner, found))
    total: Tensor = sum(peers.gather(rows, pieces, mark), torch.zeros_like(rows[0]))
    parameters = list(learner.parameters())
    sizes = [1, 1, len(parameters), *(p.numel() for p in parameters)]
    loss, accuracy, depends, *gradients = (total / pieces).split(sizes)
    for parameter, used, gradient in zip(parameters, depends.tolist(), gradients, strict=True):
        parameter.grad = gradient.to(parameter).view_as(parameter) if used else None
    return MetaGradient(loss.item(), accuracy.item())


def backpropagate(learner: Learner, objective: Objective) -> MetaGradient:
    """Sets `.grad` of every meta-parameter that the meta-loss depends on; the others' stays
    None."""
    learner.zero_grad(set_to_none=True)
    outcome = objective(learner)
    outcome.loss.backward()
    return MetaGradient(outcome.loss.item(), outcome.accuracy.item())


def _row(learner: Learner, found: MetaGradient) -> Tensor:
    """Loss, accuracy, which meta-parameters have a gradient (1 or 0), and the gradients, float64
    [W]."""
    parameters = list(learner.parameters())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    used = [0.0 if p.grad is None else 1.0 for p in parameters]
    head = torch.tensor([*found, *used], dtype=torch.float64, device=parameters[0].device)
    return torch.cat([head, *(g.double().flatten() for g in gradients)])
