"""A learner under test: its shapes, the form of what its methods return, small streams, and runs
that cannot influence one another unless the learner itself sees to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.acceleration import COMPILE_AFTER, Runner, accelerate
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution, without_gradients
from vsml_bench.learner import Learner, Shape, State, unroll_by_steps
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.seeds import generator

CPU = torch.device("cpu")
STEPS, LIFETIMES = 8, 3
FORM_STEPS = 2
"""Steps that `exercise` takes."""
SHAPES = (Shape((1, 4, 4), 5), Shape((6,), 2))
"""An image and a vector, neither with a size that equals another by chance."""
NUDGE = 0.05
"""Added noise that wakes meta-parameters whose fresh values hide the rest (a readout that starts at
zero); the width that evolution strategies use, so learners have to bear it."""


class Stream(NamedTuple):
    """Examples of some lifetimes."""

    inputs: Tensor  # [T, E, *shape.inputs]
    labels: Tensor  # int64 [T, E]


Way: TypeAlias = Callable[[Learner, State, Stream], tuple[Tensor, State]]
"""A way to run lifetimes: (learner, fresh state, stream) to logits [T, E, K] and the last state."""


def unrolled(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
    """The learner's own `unroll`."""
    return learner.unroll(state, *stream)


def looped(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
    """Predict, then observe, one step after the other."""
    return unroll_by_steps(partial(Learner.forward, learner), state, *stream)


def in_training(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
    """The learner's own `unroll`, as in meta-training."""
    learner.train()
    try:
        return learner.unroll(state, *stream)
    finally:
        learner.eval()


def accelerated(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
    """As the harness runs long lifetimes on a CPU, but for the compiler, which takes too long."""
    with torch.compiler.set_stance("force_eager"):
        return runner_of(learner).unroll(state, *stream)


def runner_of(learner: Learner) -> Runner:
    """For long lifetimes on a CPU."""
    return accelerate(learner, Execution(CPU, 1), COMPILE_AFTER)


def adapted(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
    """All examples but the last are a support set, the last is a query: logits [1, E, K]."""
    state = learner.adapt(state, stream.inputs[:-1], stream.labels[:-1])
    logits, state = learner.predict(state, stream.inputs[-1])
    return logits.unsqueeze(0), state


class Subject:
    """The learner of a registry entry, as the checks see it."""

    def __init__(self, entry: LearnerEntry) -> None:
        self.entry = entry
        learner = entry.create(seed=0)
        self.shape: Shape = usual_shapes(learner)[0]
        """What most checks run it on."""
        self.meta_parameters = sum(p.numel() for p in learner.parameters())

    @property
    def overrides_unroll(self) -> bool:
        """Whether whole lifetimes run through code of its own."""
        cls = self.entry.cls
        return cls.unroll is not Learner.unroll or cls.forward is not Learner.forward

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways to run its lifetimes that are not the same code."""
        loop = (looped,) * self.overrides_unroll
        fast = (accelerated,) * bool(self.entry.cls.fast_code)
        return (unrolled, *loop, *fast, *(in_training,) * self.is_trained)

    @property
    def is_trained(self) -> bool:
        """Whether it is meta-trained, in PyTorch's training mode."""
        return self.entry.cls.recipe is not None

    def learner(self) -> Learner:
        """A fresh instance, always with the same, nudged meta-parameters, in the default dtype."""
        with quiet_randomness():
            learner = self.entry.create(seed=0).eval()
        noise = generator(4)
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(
                    NUDGE * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
                )
        return learner

    def stream(
        self, steps: int = STEPS, lifetimes: int = LIFETIMES, shape: Shape | None = None
    ) -> Stream:
        """Gaussian classes, each lifetime with class centres of its own, in the default dtype."""
        shape, source = shape or self.shape, generator(2)
        centres = torch.randn(lifetimes, shape.classes, *shape.inputs, generator=source)
        labels = torch.randint(shape.classes, (steps, lifetimes), generator=source)
        inputs = centres[torch.arange(lifetimes), labels]
        return Stream(inputs + torch.randn(inputs.shape, generator=source), labels)

    def run(
        self,
        stream: Stream,
        way: Way = unrolled,
        *,
        learner: Learner | None = None,
        seeds: Sequence[int] | None = None,
        shape: Shape | None = None,
    ) -> tuple[Tensor, State]:
        """Logits [T, E, K] and the last state of lifetimes that start afresh, as the harness runs
        them: without gradients, one seed per lifetime.

        learner: a fresh instance where it is left out.
        """
        learner = learner or self.learner()
        seeds = range(stream.labels.shape[1]) if seeds is None else seeds
        with without_gradients(), quiet_randomness():
            state = fresh_states(learner, seeds, shape or self.shape, CPU)
            return way(learner, state, stream)

    def draws_its_state(self) -> bool:
        """Whether fresh states differ from seed to seed."""
        learner = self.learner()
        with without_gradients(), quiet_randomness():
            one, other = (fresh_states(learner, [seed], self.shape, CPU) for seed in (1, 2))
        return not same_state(one, other)


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 as the default dtype, for comparisons of things that may differ in rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def quiet_randomness(seed: int = 0) -> Iterator[None]:
    """PyTorch's global generator from the same seed each time, put back afterwards: a learner that
    draws from it is the business of one check and shall not disturb the others. Only the CPU's:
    `torch.manual_seed` goes through all devices, which takes longer than a check."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def largest_move(before: Tensor, after: Tensor) -> float:
    """Largest absolute difference, infinite where only one of the two is a number."""
    same = (before == after) | (before.isnan() & after.isnan())
    moves = (before - after).abs().masked_fill(same, 0.0).nan_to_num(nan=torch.inf)
    return float(moves.max()) if moves.numel() else 0.0


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference in units of 1 + the largest expected size."""
    return largest_move(found, expected) / (1.0 + float(expected.abs().max()))


def same_state(one: State, other: State) -> bool:
    """Whether all tensors are equal, bit for bit."""
    leaves, others = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(leaves) == len(others) and all(
        torch.equal(a, b) for a, b in zip(leaves, others, strict=True)
    )


def usual_shapes(learner: Learner) -> tuple[Shape, ...]:
    """Small shapes that the learner says it takes: its fixed one, or one of each kind."""
    if learner.fixed_shape is not None:
        return (learner.fixed_shape,)
    return tuple(shape for shape in SHAPES if kind(shape) in learner.input_kinds)


def listed_shape(learner: Learner) -> Shape:
    """The shape at which a state's size is stated: the paper's images, or what comes closest."""
    if learner.fixed_shape is not None:
        return learner.fixed_shape
    return Shape((1, 28, 28) if "image" in learner.input_kinds else (784,), 10)


def kind(shape: Shape) -> str:
    """ "image" or "vector", as in `Learner.input_kinds`."""
    return "image" if len(shape.inputs) == 3 else "vector"


def exercise(learner: Learner, shape: Shape, where: str) -> None:
    """Calls every method of the contract on made-up data of the default dtype.

    where: what to call the learner in errors. VsmlBenchError, naming the method, where shapes,
    dtypes or the state are not as the contract says, or where a method fails.
    """
    inputs = torch.randn(FORM_STEPS, LIFETIMES, *shape.inputs, generator=generator(1))
    labels = torch.randint(shape.classes, (FORM_STEPS, LIFETIMES), generator=generator(2))
    one_step, all_steps = (LIFETIMES, shape.classes), (FORM_STEPS, LIFETIMES, shape.classes)
    method = "init_state"

    def logits_of(logits: object, expected: tuple[int, ...]) -> None:
        _require_logits(logits, expected, inputs.dtype, f"{where}: {method}()")

    def state_of(state: State) -> State:
        _require_state(state, f"{where}: {method}()")
        return state

    try:
        with torch.no_grad():
            fresh = state = state_of(learner.init_state(LIFETIMES, shape, generator(3)))
            for x_t, y_t in zip(inputs, labels, strict=True):
                method = "predict"
                logits, state = learner.predict(state, x_t)
                logits_of(logits, one_step)
                method = "observe"
                state = state_of(learner.observe(state, y_t))
            method = "unroll"
            logits, state = learner.unroll(fresh, inputs, labels)
            logits_of(logits, all_steps)
            state_of(state)
            method = "adapt"
            state = state_of(learner.adapt(fresh, inputs, labels))
            method = "answer"
            logits_of(learner.answer(state, inputs), all_steps)
    except VsmlBenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise VsmlBenchError(
            f"{where}: {method}() fails on inputs {shape.inputs} with {shape.classes} classes: "
            f"{type(error).__name__}: {reason}"
        ) from error


def _require_logits(
    logits: object, expected: tuple[int, ...], dtype: torch.dtype, where: str
) -> None:
    if not isinstance(logits, Tensor):
        raise VsmlBenchError(
            f"{where} must return logits as a tensor, not {type(logits).__name__}."
        )
    if tuple(logits.shape) != expected or logits.dtype != dtype:
        raise VsmlBenchError(
            f"{where} must return logits of {dtype} and shape {list(expected)}, found "
            f"{logits.dtype} of shape {list(logits.shape)}."
        )


def _require_state(state: object, where: str) -> None:
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor) or leaf.shape[:1] != (LIFETIMES,):
            found = f"shape {list(leaf.shape)}" if isinstance(leaf, Tensor) else repr(leaf)
            raise VsmlBenchError(
                f"{where} must return a state of tensors whose leading axis is the "
                f"{LIFETIMES} lifetimes asked for, found {found}."
            )
