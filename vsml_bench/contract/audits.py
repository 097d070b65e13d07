"""Audits: something is changed, and what must not depend on it must not move by a single bit.

They run in float32, the precision of the benchmark, so that they see the code that scores. They
compare a computation with itself on other values, so that rounding is no excuse; a tolerance would
be enough room for a leak, since the argmax of nearly equal logits turns on their last bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.contract import Finding, failed, passed
from vsml_bench.contract.subject import (
    CPU,
    LIFETIMES,
    STEPS,
    Stream,
    Subject,
    Way,
    adapted,
    double_precision,
    in_training,
    largest_move,
    looped,
    quiet_randomness,
    relative_error,
    same_state,
    unrolled,
)
from vsml_bench.execution import without_gradients
from vsml_bench.learner import Learner, State
from vsml_bench.seeds import generator, seed_globally

ROUNDING = 1e-8
"""Relative error in float64 below which two orders of summation count as the same computation."""


def label_leak(subject: Subject) -> Finding:
    """Changes all labels from step t on; no logit at or before t may move. Every t, and every way
    to run a lifetime."""

    def change(stream: Stream, t: int) -> Stream:
        labels = stream.labels.clone()
        labels[t:] = (labels[t:] + 1) % subject.shape.classes
        return stream._replace(labels=labels)

    return _leak(subject, change, "labels from t on", "label")


def future_leak(subject: Subject) -> Finding:
    """Changes all inputs after step t; no logit at or before t may move."""

    def change(stream: Stream, t: int) -> Stream:
        inputs = stream.inputs.clone()
        inputs[t + 1 :] = 7 - 2 * inputs[t + 1 :]
        return stream._replace(inputs=inputs)

    return _leak(subject, change, "inputs after t", "input")


def _leak(
    subject: Subject, change: Callable[[Stream, int], Stream], what: str, noun: str
) -> Finding:
    stream = subject.stream()
    moved, listens = 0.0, False
    for way in subject.ways:
        before, _ = subject.run(stream, way)
        for t in range(STEPS):
            after, _ = subject.run(change(stream, t), way)
            moved = max(moved, largest_move(before[: t + 1], after[: t + 1]))
            listens = listens or not torch.equal(before, after)
    if moved:
        return failed(
            f"changing the {what} moves logits at or before t by up to {moved:.3g}; a prediction "
            "may depend only on what came before it.",
            moved,
        )
    deaf = "" if listens else f"; no {noun} moves any logit at all"
    return passed(
        f"changing the {what} moves no logit at or before t, at any of {STEPS} steps{deaf}.", moved
    )


def independence(subject: Subject) -> Finding:
    """Changes one lifetime of three, whose neighbours may not move; then runs each alone, which may
    change nothing but rounding."""
    stream = subject.stream()
    changed = Stream(stream.inputs.clone(), stream.labels.clone())
    changed.inputs[:, 1] = 5 * torch.randn(stream.inputs[:, 1].shape, generator=generator(9))
    changed.labels[:, 1] = (stream.labels[:, 1] + 1) % subject.shape.classes
    ways: tuple[Way, ...] = (*subject.ways, adapted)
    moved = max(
        largest_move(
            subject.run(stream, way)[0][:, [0, 2]], subject.run(changed, way)[0][:, [0, 2]]
        )
        for way in ways
    )
    if moved:
        return failed(
            f"changing one lifetime moves logits of another by up to {moved:.3g}; keep the leading "
            "axis apart in every operation.",
            moved,
        )
    error = 0.0
    with double_precision():
        stream = subject.stream()
        for way in (way for way in ways if way is not in_training):  # where noise may be for all
            together, _ = subject.run(stream, way)
            for e in range(LIFETIMES):
                own = Stream(stream.inputs[:, e : e + 1], stream.labels[:, e : e + 1])
                alone, _ = subject.run(own, way, seeds=[e])
                error = max(error, relative_error(together[:, e : e + 1], alone))
    if error > ROUNDING:
        return failed(
            f"a lifetime alone and in company differ by {error:.3g}; its outcome must not depend "
            "on how many run beside it.",
            error,
        )
    return passed("changing one lifetime moves no other, and each alone gives the same.", error)


def hidden_state(subject: Subject) -> Finding:
    """Runs the same lifetimes twice on one instance, others in between; then looks whether a method
    writes into the state it is given."""
    stream = subject.stream()
    other = Stream(3 - stream.inputs, (stream.labels + 1) % subject.shape.classes)
    for way in (unrolled, looped, adapted):
        learner = subject.learner()
        first, _ = subject.run(stream, way, learner=learner)
        subject.run(other, way, learner=learner)
        again, _ = subject.run(stream, way, learner=learner)
        moved = largest_move(first, again)
        if moved:
            return failed(
                f"the same lifetimes, run a second time on one instance, differ by up to "
                f"{moved:.3g}; what a lifetime changes belongs into the state that is returned, "
                "not into an attribute.",
                moved,
            )
    written = _methods_that_write(subject, stream)
    if written:
        return failed(f"{', '.join(written)} writes into the state it is given; return a new one.")
    return passed(
        "a second run on one instance repeats the first, and given states stay as they were."
    )


def _methods_that_write(subject: Subject, stream: Stream) -> list[str]:
    learner = subject.learner()
    steps: dict[str, Callable[[State], object]] = {
        "predict()": lambda state: learner.predict(state, stream.inputs[0]),
        "observe()": lambda state: learner.observe(state, stream.labels[0]),
        "unroll()": lambda state: learner.unroll(state, *stream),
        "adapt()": lambda state: learner.adapt(state, *stream),
    }
    _, seen = subject.run(stream, looped, learner=learner)
    written = []
    with without_gradients(), quiet_randomness():
        _, predicted = learner.predict(pytree.tree_map(torch.clone, seen), stream.inputs[0])
        for name, step in steps.items():
            given = pytree.tree_map(torch.clone, predicted if name == "observe()" else seen)
            copy = pytree.tree_map(torch.clone, given)
            step(given)
            if not same_state(given, copy):
                written.append(name)
    return written


def determinism(subject: Subject) -> Finding:
    """Everything twice from the same seeds, while PyTorch's global generator stands elsewhere."""

    def everything(elsewhere: int) -> tuple[Learner, State, Tensor]:
        with quiet_randomness(elsewhere):
            learner = subject.entry.create(seed=0).eval()
            with without_gradients():
                state = learner.init_state(LIFETIMES, subject.shape, generator(1))
                given = pytree.tree_map(torch.clone, state)
                logits, _ = learner.unroll(given, *subject.stream())
        return learner, state, logits

    (one, one_state, one_logits), (other, other_state, other_logits) = map(everything, (5, 6))
    if not same_state(dict(one.state_dict()), dict(other.state_dict())):
        return failed("init_meta_parameters() draws from elsewhere than its generator.")
    if not same_state(one_state, other_state):
        return failed("init_state() draws from elsewhere than its generator.")
    moved = largest_move(one_logits, other_logits)
    if moved:
        return failed(f"the same lifetimes differ by up to {moved:.3g} from run to run.", moved)
    if subject.is_trained:
        moved = largest_move(_trained(subject), _trained(subject))
        if moved:
            return failed(
                f"in training mode the same lifetimes differ by up to {moved:.3g}; draw noise from "
                "PyTorch's global generator, which is seeded for each meta-update.",
                moved,
            )
    first, second = (pytree.tree_map(lambda part, e=e: part[e : e + 1], one_state) for e in (0, 1))
    if same_state(first, second) == subject.draws_its_state():
        return failed(
            "init_state() gives lifetimes of one call the same random numbers; draw them for each."
        )
    return passed("the same seeds give the same meta-parameters, states and logits, bit for bit.")


def _trained(subject: Subject) -> Tensor:
    """Logits in training mode, with global generators as the harness seeds them."""
    with quiet_randomness():
        learner = subject.learner()
        with without_gradients():
            state = learner.init_state(LIFETIMES, subject.shape, generator(1))
            seed_globally(7, CPU)
            return in_training(learner, state, subject.stream())[0]


def not_a_number(subject: Subject) -> Finding:
    """Puts NaN where inputs of one example were. That has to end in an error, or in logits that are
    no numbers somewhere in that lifetime, which the harness reports as diverged. Only a learner
    whose logits no other value moves either may stay finite, and no other lifetime may move."""
    stream = subject.stream()
    reported = set()
    for name, where in (("one input", slice(0, 1)), ("a whole example", slice(None))):

        def wounded(value: float, where: slice = where) -> Stream:
            inputs = stream.inputs.clone()
            inputs[2, 1].view(-1)[where] = value
            return stream._replace(inputs=inputs)

        for way in subject.ways:
            before, _ = subject.run(stream, way)
            listens = any(
                not torch.equal(before, subject.run(wounded(value), way)[0])
                for value in (-30.0, 30.0)
            )
            try:
                after, _ = subject.run(wounded(torch.nan), way)
            except Exception as error:
                reported.add(f"raises {type(error).__name__}")
                continue
            if not torch.equal(before[:, [0, 2]], after[:, [0, 2]]):
                return failed(f"NaN in {name} of one lifetime moves another lifetime.")
            if after.isfinite().all():
                if listens:
                    return failed(
                        f"{name} that is NaN leaves all logits finite: let NaN pass through, so "
                        "that the harness can report it."
                    )
                reported.add("is blind to inputs")
            else:
                reported.add("gives logits that are no numbers")
    return passed(
        f"NaN in one lifetime: it {' or '.join(sorted(reported))}; no other lifetime moves."
    )
