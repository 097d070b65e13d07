"""Runs a learner as quickly as its number of steps pays for: `accelerate` gives the runner that
protocols are given in its place.

Three things make it quick: code that the learner names (`Learner.fast_code`), which goes before the
others; `torch.compile` of a step; and on a GPU, where no gradients are asked for, a CUDA graph of a
step. None of them changes what a learner computes, beyond the order of its sums, and none changes
the learner. Where one is not possible, or gives something else, the step runs as it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from vsml_bench.acceleration.compiled_libraries import discard_header, discard_torn
from vsml_bench.acceleration.fast_code import CheckedCode, named_code
from vsml_bench.acceleration.recording import RECORD_AFTER, RecordedStep
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, State, Step, answer_by_predict, unroll_by_steps

__all__ = ["COMPILE_AFTER", "RECORD_AFTER", "Runner", "accelerate", "compiled", "worth_compiling"]

COMPILE_AFTER = 1_000
"""Calls with one set of shapes below which the eager path is quicker than compiling first."""


def accelerate(learner: Learner, execution: Execution, steps: int = 0) -> Runner:
    """A runner of the learner, which is on the execution's device, that is as quick as `steps`
    steps with examples of one shape pay for. With 0 nothing is compiled or recorded, and what needs
    no preparation is used all the same.

    The learner may be trained while it is run, and be part of a `torch.func.functional_call`: the
    runner holds none of its meta-parameters.
    """
    step: Step = learner.forward
    if worth_compiling(steps) and compiles_named_tuples():
        step = compiled(learner.forward)
    recorded = None
    if execution.device.type == "cuda" and steps >= RECORD_AFTER:
        recorded = RecordedStep(learner.forward, compiled=worth_compiling(steps))
    return Runner(learner, step, recorded, named_code(learner, execution, steps))


@dataclass(frozen=True)
class Runner:
    """A learner's methods, as `Learner` describes them, in less time; differentiable where the
    learner is."""

    learner: Learner
    forward: Step
    """The learner's own, perhaps compiled."""
    recorded: RecordedStep | None
    """The same for runs without gradients."""
    fast: CheckedCode | None

    def step(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """One step of a lifetime, predict then observe."""
        found = self._attempt("predict", state, inputs)
        if found is not None:
            logits, state = found
            return logits, self.observe(state, labels)
        if self.recorded is not None and not torch.is_grad_enabled():
            return self.recorded(state, inputs, labels)
        return self.forward(state, inputs, labels)

    def predict(self, state: State, inputs: Tensor) -> tuple[Tensor, State]:
        """See `Learner.predict`."""
        found = self._attempt("predict", state, inputs)
        return self.learner.predict(state, inputs) if found is None else found

    def observe(self, state: State, labels: Tensor) -> State:
        """See `Learner.observe`."""
        found = self._attempt("observe", state, labels)
        return self.learner.observe(state, labels) if found is None else found

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.unroll`."""
        found: tuple[Tensor, State] | None = self._attempt("unroll", state, inputs, labels)
        if found is not None:
            return found
        if type(self.learner).unroll is not Learner.unroll:
            return self.learner.unroll(state, inputs, labels)
        return unroll_by_steps(self.step, state, inputs, labels)

    def adapt(self, state: State, inputs: Tensor, labels: Tensor) -> State:
        """See `Learner.adapt`."""
        if type(self.learner).adapt is not Learner.adapt:
            return self.learner.adapt(state, inputs, labels)
        return self.unroll(state, inputs, labels)[1]

    def answer(self, state: State, queries: Tensor) -> Tensor:
        """See `Learner.answer`."""
        if type(self.learner).answer is not Learner.answer:
            return self.learner.answer(state, queries)
        return answer_by_predict(self.predict, state, queries)

    def _attempt(self, name: str, state: State, *examples: Tensor) -> Any:
        """What the learner's fast code makes of it; None where there is none to be used."""
        return None if self.fast is None else self.fast.attempt(name, state, *examples)


def worth_compiling(calls: int) -> bool:
    """Whether so many calls of a compiled function pay for its compilation."""
    return calls >= COMPILE_AFTER


Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function compiled by `torch.compile` for each shape of its tensors; as it is written
    where its first call shows that this machine cannot, for want of a C++ compiler, say."""
    discard_torn()
    quick = torch.compile(function, dynamic=False)
    chosen: list[Callable[..., Any]] = []

    @wraps(function)
    def call(*arguments: Any) -> Any:
        if chosen:
            return chosen[0](*arguments)
        try:
            result = quick(*arguments)
        except VsmlBenchError:  # the function's own
            raise
        except Exception as error:  # Dynamo and Inductor have kinds of their own
            discard_header(error)
            logging.getLogger(__name__).warning("running uncompiled: %s", error)
            result = function(*arguments)
            chosen.append(function)
        else:
            chosen.append(quick)
        return result

    return cast(Function, call)


class _Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@lru_cache(maxsize=1)
def compiles_named_tuples() -> bool:
    """Whether this PyTorch returns a NamedTuple, as states are, from compiled code unharmed: 2.11
    returns an empty one where `_replace` made it. Takes a moment, once per process."""

    @torch.compile(backend="eager", dynamic=False)
    def replaced(pair: _Pair) -> _Pair:
        return pair._replace(first=pair.first + 1)

    try:
        return len(replaced(_Pair(torch.zeros(1), torch.zeros(1)))) == 2
    except Exception:  # whatever Dynamo does not know
        return False
