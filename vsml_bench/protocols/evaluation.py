"""Runs a learner on pinned lifetimes under any protocol: batches, padding, clocks and scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree

from vsml_bench.acceleration import accelerate
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.data.transforms import pad_inputs
from vsml_bench.execution import Execution, synchronize, without_gradients
from vsml_bench.learner import Learner, Shape, State
from vsml_bench.protocols.protocol import Protocol, stepwise_loss
from vsml_bench.seeds import derive_seed, generator

LIFETIMES_AT_ONCE = 8
"""Lifetimes in one batch on a CPU: as many as keep VSML's state within the last-level cache. It is
fixed because the batch size may change the last bit of a matrix product."""


@dataclass(frozen=True)
class Evaluation:
    """Raw outcomes of lifetimes and what they took."""

    correct: npt.NDArray[np.bool_]  # [lifetimes, T]
    loss: npt.NDArray[np.float32]  # cross-entropy in nats [lifetimes, T]
    seconds: float
    """Learning and predicting, without making the data and without the first, compiling call."""
    compile_seconds: float
    state_floats: int
    """Numbers in one lifetime's state, at its end: a memory grows."""
    traces: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """What the protocol measures besides, each [lifetimes, ...]."""
    refused: bool = False
    """Whether the learner's fast code failed or gave something else than the written steps, which
    then ran in its place."""


def learner_shape(learner: Learner, shape: Shape) -> Shape:
    """The shape a learner is run with: its fixed one where it has one, else the task's."""
    return learner.fixed_shape or shape


def fresh_states(
    learner: Learner, seeds: Sequence[int], shape: Shape, device: torch.device
) -> State:
    """One state per seed; a lifetime's state depends on its own seed only, however lifetimes are
    batched, and is the same on every device."""
    states = [learner.init_state(1, shape, generator(seed)) for seed in seeds]
    joined = pytree.tree_map(lambda *parts: torch.cat(parts), *states)
    return pytree.tree_map(lambda part: part.to(device), joined)


def padded(episode: Episode, shape: Shape, to_shape: Shape, device: torch.device) -> Episode:
    """The episode, of examples of `shape`, for a learner that is run with `to_shape`."""
    inputs = pad_inputs(episode.inputs, shape.inputs, to_shape.inputs)
    targets = None if episode.targets is None else episode.targets.to(device)
    return Episode(inputs.to(device), episode.labels.to(device), targets)


def evaluate(
    learner: Learner,
    sampler: EpisodeSampler,
    seeds: Sequence[int],
    protocol: Protocol,
    execution: Execution,
    learner_seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> Evaluation:
    """Runs one lifetime per seed and scores the protocol's predictions.

    seeds: lifetimes, pinned by whoever calls. learner_seed: enters the learner's own randomness
    (its fresh states). report: called with the share of the lifetimes that is done.
    """
    batch = LIFETIMES_AT_ONCE if execution.device.type == "cpu" else len(seeds)
    learner = learner.to(execution.device).eval()
    shape = learner_shape(learner, sampler.shape)
    correct, loss = [], []
    traces: dict[str, list[npt.NDArray[np.float32]]] = {}
    seconds = compile_seconds = 0.0
    state_floats = 0
    steps = protocol.learning_steps * -(-len(seeds) // batch)
    runner = accelerate(learner, execution, steps)
    with without_gradients(), execution.autocast():
        for start in range(0, len(seeds), batch):
            chosen = seeds[start : start + batch]
            sampled = protocol.sample(sampler, chosen)
            episode = padded(sampled, sampler.shape, shape, execution.device)
            inner = [derive_seed(learner_seed, "inner", seed) for seed in chosen]
            state = fresh_states(learner, inner, shape, execution.device)
            if start == 0:
                began = time.perf_counter()
                protocol.warm_up(runner, state, episode)
                synchronize(execution.device)
                compile_seconds = time.perf_counter() - began
            began = time.perf_counter()
            logits, labels, state, measured = protocol.run(runner, state, episode)
            synchronize(execution.device)
            seconds += time.perf_counter() - began
            correct.append((logits.argmax(-1) == labels).T.cpu().numpy())
            loss.append(stepwise_loss(logits, labels).T.float().cpu().numpy())
            for name, trace in measured.items():
                traces.setdefault(name, []).append(trace.float().cpu().numpy())
            state_floats = sum(p.numel() for p in pytree.tree_leaves(state)) // len(chosen)
            report((start + len(chosen)) / len(seeds))
    return Evaluation(
        np.concatenate(correct),
        np.concatenate(loss),
        seconds,
        compile_seconds,
        state_floats,
        {name: np.concatenate(parts) for name, parts in traces.items()},
        refused=runner.fast is not None and runner.fast.refused,
    )
