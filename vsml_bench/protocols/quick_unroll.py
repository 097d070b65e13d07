"""Whole lifetimes by code that a learner names for a kind of device (`Learner.quick_unroll`)."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, State
from vsml_bench.protocols.agreement import agree, close


@contextmanager
def quick_unroll(learner: Learner, execution: Execution, steps: int) -> Iterator[None]:
    """Within it, the learner's `unroll` is as in `use_quick_unroll`."""
    before = learner.__dict__.get("unroll")
    use_quick_unroll(learner, execution, steps)
    try:
        yield
    finally:
        learner.__dict__.pop("unroll", None)
        if before is not None:
            learner.unroll = before  # type: ignore[method-assign]


def use_quick_unroll(learner: Learner, execution: Execution, steps: int) -> None:
    """Has the learner's `unroll` try the code that it names for this device, if `steps` pay for
    what may have to be compiled."""
    reference = learner.quick_unroll.get(execution.device.type)
    if reference is not None and execution.worth_compiling(steps):
        module, _, name = reference.partition(":")
        run = getattr(importlib.import_module(module), name)
        learner.unroll = QuickUnroll(learner, run)  # type: ignore[method-assign]


class QuickUnroll:
    """An `unroll` by other code where that applies and, for the first two steps with each set of
    shapes, does what the written steps do."""

    def __init__(
        self,
        learner: Learner,
        run: Callable[[Any, State, Tensor, Tensor], tuple[Tensor, State] | None],
    ) -> None:
        self._learner, self._run = learner, run
        self._agreed: dict[Any, bool] = {}

    @property
    def in_use(self) -> bool:
        """Whether it has run, and has agreed each time."""
        return bool(self._agreed) and all(self._agreed.values())

    def __call__(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.unroll`."""
        mixed = torch.is_autocast_enabled(inputs.device.type)
        key = (inputs.shape[1:], labels.device, torch.is_grad_enabled(), mixed)
        if self._agreed.get(key, True):
            found = self._attempt(key, state, inputs, labels)
            if found is not None:
                return found
        return type(self._learner).unroll(self._learner, state, inputs, labels)

    def _attempt(
        self, key: Any, state: State, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, State] | None:
        """None where the code does not apply, fails, or does something else."""
        try:
            found = self._run(self._learner, state, inputs, labels)
            if found is None or key in self._agreed:
                return found
            self._agreed[key] = self._agrees(state, inputs[:2], labels[:2])
            reason = "it gives something else"
        except Exception as error:  # compilers and drivers have kinds of their own
            self._agreed[key] = False
            reason = str(error).strip().partition("\n")[0]
        if self._agreed[key]:
            return found
        name = type(self._learner).__name__
        logging.getLogger(__name__).warning("%s runs without its quick unroll: %s", name, reason)
        return None

    def _agrees(self, state: State, inputs: Tensor, labels: Tensor) -> bool:
        found = self._run(self._learner, state, inputs, labels)
        assert found is not None
        now, logits = state, []
        for x_t, y_t in zip(inputs, labels, strict=True):
            predicted, now = self._learner.predict(now, x_t)
            now = self._learner.observe(now, y_t)
            logits.append(predicted)
        right = (torch.stack(logits, 1), now)
        if not agree(right, (found[0].transpose(0, 1), found[1]), state):
            return False
        parameters = [p for p in self._learner.parameters() if p.requires_grad]
        if not torch.is_grad_enabled() or not parameters:
            return True
        gradients = (
            torch.autograd.grad(of.square().sum(), parameters, allow_unused=True)
            for of in (right[0], found[0])
        )
        return all(
            (own is None) == (other is None)
            and (own is None or close(own[None], other[None], torch.zeros_like(own)[None]))
            for own, other in zip(*gradients, strict=True)
        )
