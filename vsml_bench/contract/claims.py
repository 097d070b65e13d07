"""What a learner says of itself, measured: invariances, any size, the size of its state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils import _pytree as pytree

from vsml_bench.contract import Finding, failed, passed, skipped
from vsml_bench.contract.audits import ROUNDING
from vsml_bench.contract.subject import (
    CPU,
    LIFETIMES,
    STEPS,
    Stream,
    Subject,
    double_precision,
    kind,
    listed_shape,
    relative_error,
)
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import without_gradients
from vsml_bench.learner import Shape, State
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.seeds import generator

OTHER_SHAPES = (Shape((3, 5, 7), 2), Shape((13,), 9), Shape((1,), 3))
"""Sizes and class counts that are none of the usual ones, one of them the smallest there is."""
GROWTH = 8
"""How many times longer a lifetime gets, to see whether the state grows faster than it."""
MOST_LIFETIMES, MOST_FLOATS = 256, 200_000
"""Bounds on what a statistical comparison runs at once: lifetimes, and numbers in their states."""
FALSE_ALARM = 1e-3
"""Probability that a true claim of invariance is rejected, over all statistics together. Seeds are
fixed, so that the verdict on a learner is the same each time."""


def any_size(subject: Subject) -> Finding:
    """Runs the same meta-parameters on other input sizes and class counts, unless it has one fixed
    shape."""
    if subject.learner().fixed_shape is not None:
        return skipped("it has one fixed shape; inputs are padded to it.")
    taken = [s for s in OTHER_SHAPES if kind(s) in subject.entry.cls.input_kinds]
    for shape in taken:
        what = f"inputs {shape.inputs} with {shape.classes} classes"
        try:
            logits, _ = subject.run(subject.stream(shape=shape), shape=shape)
        except VsmlBenchError:
            raise
        except Exception as error:
            return failed(
                f"on {what} it fails ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
                "; take any size, or declare fixed_shape."
            )
        if tuple(logits.shape) != (STEPS, LIFETIMES, shape.classes):
            return failed(f"on {what} it gives logits of shape {list(logits.shape)}.")
        if not logits.isfinite().all():
            return failed(f"on {what} it gives logits that are not finite.")
    return passed(f"it runs on {len(taken)} more sizes with the same meta-parameters.")


class StateSize(NamedTuple):
    """Numbers in the state of one lifetime."""

    floats: int
    """After one example."""
    growth: int
    """How many more after the next; 0 for a state of constant size."""


def measure_state(entry: LearnerEntry, shape: Shape | None = None) -> StateSize:
    """Runs two steps on zeros, in float64, for which no code has to be compiled first.

    shape: by default what sizes are listed for, 28x28 pixels and 10 classes or the learner's own.
    """
    sizes = []
    with double_precision(), without_gradients():
        learner = entry.create(seed=0).eval()
        shape = shape or listed_shape(learner)
        inputs, labels = torch.zeros(1, 1, *shape.inputs), torch.zeros(1, 1, dtype=torch.int64)
        state = fresh_states(learner, [0], shape, CPU)
        for _ in range(2):
            _, state = learner.unroll(state, inputs, labels)
            sizes.append(_floats(state))
    return StateSize(sizes[0], sizes[1] - sizes[0])


def state_size(subject: Subject) -> Finding:
    """The state keeps its leading axis, and has a constant size or grows no faster than the
    lifetime (memories do; buffers that double may be twice as large as needed)."""
    sizes = {}
    for steps in (STEPS, 2 * STEPS, GROWTH * STEPS):
        _, state = subject.run(subject.stream(steps))
        for leaf in pytree.tree_leaves(state):
            if leaf.shape[:1] != (LIFETIMES,):
                return failed(
                    f"after {steps} steps a tensor of the state has shape {list(leaf.shape)}; its "
                    f"leading axis has to be the {LIFETIMES} lifetimes."
                )
        sizes[steps] = _floats(state) // LIFETIMES
    first, second, last = sizes.values()
    said = ", ".join(f"{floats} floats after {steps} steps" for steps, floats in sizes.items())
    if last > 2 * GROWTH * first:
        return failed(f"the state grows faster than the lifetime: {said}.", last)
    if first == second == last:
        return passed(f"constant: {first} floats a lifetime.", first)
    return passed(f"it grows with the lifetime: {said}.", first)


def _floats(state: State) -> int:
    return sum(leaf.numel() for leaf in pytree.tree_leaves(state))


def input_invariance(subject: Subject) -> Finding:
    """Shuffles the inputs of all examples in the same way."""
    order = torch.randperm(subject.shape.features, generator=generator(6))

    def shuffle(stream: Stream) -> Stream:
        flat = stream.inputs.flatten(2)[..., order]
        return stream._replace(inputs=flat.view_as(stream.inputs))

    return _invariance(subject, "inputs", shuffle, lambda logits: logits)


def label_invariance(subject: Subject) -> Finding:
    """Renames the labels; the logits are compared under their old names."""
    names = torch.arange(subject.shape.classes).roll(1)

    def rename(stream: Stream) -> Stream:
        return stream._replace(labels=names[stream.labels])

    return _invariance(subject, "labels", rename, lambda logits: logits[..., names])


def _invariance(
    subject: Subject,
    claim: str,
    change: Callable[[Stream], Stream],
    undo: Callable[[Tensor], Tensor],
) -> Finding:
    """Where fresh states are all alike the logits must be the same. Where they are random the same
    holds of their distribution only, since nobody outside can permute a state: then lifetimes on
    the two versions of a stream, with fresh states of their own, are compared."""
    if claim not in subject.entry.cls.invariances:
        return skipped("it does not claim it.")
    if subject.draws_its_state():
        return _same_distribution(subject, change, undo)
    with double_precision():
        stream = _uneven_stream(subject, LIFETIMES)
        logits, _ = subject.run(stream)
        error = relative_error(undo(subject.run(change(stream))[0]), logits)
    if error > ROUNDING:
        return failed(
            f"logits differ by {error:.3g} (relative); drop the claim, or treat all {claim} alike.",
            error,
        )
    return passed("the logits are the same.", error)


def _same_distribution(
    subject: Subject, change: Callable[[Stream], Stream], undo: Callable[[Tensor], Tensor]
) -> Finding:
    floats = measure_state(subject.entry, subject.shape).floats
    lifetimes = max(16, min(MOST_LIFETIMES, MOST_FLOATS // max(1, floats)))
    stream = _uneven_stream(subject, lifetimes)
    logits, _ = subject.run(stream, seeds=range(lifetimes))
    changed, _ = subject.run(change(stream), seeds=range(lifetimes, 2 * lifetimes))
    differences = _features(undo(changed), stream.labels) - _features(logits, stream.labels)
    largest = _largest_t(differences.double().numpy())
    from scipy import stats  # it takes a second, and cards are read without it

    bound = float(stats.t.isf(FALSE_ALARM / (2 * differences.shape[1]), lifetimes - 1))
    said = f"{lifetimes} lifetimes, {differences.shape[1]} statistics: largest |t| {largest:.3g}"
    if largest > bound:
        return failed(f"{said}, above the bound {bound:.3g}; the outcome depends on it.", largest)
    return passed(f"{said}, within the bound {bound:.3g}.", largest)


def _features(logits: Tensor, labels: Tensor) -> Tensor:
    """What is compared: every logit, and the loss and the spread of the logits of every step.
    logits [T, E, K], labels [T, E]; returns [E, T (K + 2)]."""
    loss = cross_entropy(logits.movedim(-1, 1), labels, reduction="none").unsqueeze(-1)  # [T, E, 1]
    spread = logits.var(-1, keepdim=True)
    return torch.cat([logits, loss, spread], -1).transpose(0, 1).flatten(1)


def _largest_t(differences: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """Largest |mean| in standard errors, over columns of differences [E, F]."""
    mean = np.abs(differences.mean(0))
    error = differences.std(0, ddof=1) / math.sqrt(len(differences))
    # columns that never vary are equal up to rounding, or else infinitely far apart
    ratio = np.divide(mean, error, out=np.where(mean < ROUNDING, 0.0, np.inf), where=error > 0)
    return float(np.where(mean < ROUNDING, 0.0, ratio).max())


def _uneven_stream(subject: Subject, lifetimes: int) -> Stream:
    """Lifetimes in which neither inputs nor labels are alike, so that a learner which treats them
    differently is seen to do so: a ramp over the inputs, classes that differ only in the first half
    of them, and each label half as frequent as the one before (down to 1/32)."""
    shape, source = subject.shape, generator(8)
    frequency = torch.tensor([2.0 ** -min(k, 5) for k in range(shape.classes)])
    labels = torch.multinomial(
        frequency, STEPS * lifetimes, replacement=True, generator=source
    ).view(STEPS, lifetimes)
    ramp = torch.linspace(-1.0, 2.0, shape.features)
    centres = torch.randn(lifetimes, shape.classes, shape.features, generator=source)
    centres[..., (shape.features + 1) // 2 :] = 0.0
    inputs = ramp + centres[torch.arange(lifetimes), labels]
    inputs = inputs + 0.3 * torch.randn(inputs.shape, generator=source)
    return Stream(inputs.view(STEPS, lifetimes, *shape.inputs), labels)
