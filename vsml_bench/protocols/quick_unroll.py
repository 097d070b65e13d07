"""Whole lifetimes by code that a learner names for a kind of device (`Learner.quick_unroll`)."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, State
from vsml_bench.protocols.agreement import agree, close

Run: TypeAlias = Callable[[Any, State, Tensor, Tensor], "tuple[Tensor, State] | None"]


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
    if reference is None or not execution.worth_compiling(steps):
        return
    try:
        run = _named(learner, reference)
    except (ImportError, AttributeError) as error:
        _warn(learner, error)
    else:
        learner.unroll = QuickUnroll(learner, run)  # type: ignore[method-assign]


def _named(learner: Learner, reference: str) -> Run:
    """The function "module:function", or ":function" of the file that names it."""
    module, _, name = reference.partition(":")
    if not module:
        owner = next(cls for cls in type(learner).__mro__ if "quick_unroll" in vars(cls))
        module = owner.__module__
    found: Run = getattr(sys.modules.get(module) or importlib.import_module(module), name)
    return found


def _warn(learner: Learner, reason: object) -> None:
    first_line = str(reason).strip().partition("\n")[0]
    name = type(learner).__name__
    logging.getLogger(__name__).warning("%s runs without its quick unroll: %s", name, first_line)


class QuickUnroll:
    """An `unroll` by other code where that applies and, for the first two steps with each set of
    shapes, does what the written steps do."""

    def __init__(self, learner: Learner, run: Run) -> None:
        self._learner, self._run = learner, run
        self._agreed: dict[Any, bool] = {}

    @property
    def in_use(self) -> bool:
        """Whether it has run, and has agreed each time."""
        return bool(self._agreed) and all(self._agreed.values())

    def __call__(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.unroll`."""
        found = self._attempt(state, inputs, labels)
        if found is not None:
            return found
        return type(self._learner).unroll(self._learner, state, inputs, labels)

    def _attempt(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State] | None:
        """None where the code does not apply, fails, or does something else."""
        leaves, structure = pytree.tree_flatten(state)
        shapes = tuple(
            (leaf.shape, leaf.dtype, leaf.device) for leaf in (*leaves, inputs[:0], labels[:0])
        )
        mixed = torch.is_autocast_enabled(inputs.device.type)
        key = (structure, shapes, torch.is_grad_enabled(), mixed)
        if not self._agreed.get(key, True):
            return None
        try:
            if key not in self._agreed:
                agrees = self._agrees(state, inputs[:2], labels[:2])
                if agrees is None:
                    return None
                if len(inputs) > 1 or not agrees:
                    self._agreed[key] = agrees
                if not agrees:
                    _warn(self._learner, "it gives something else")
                    return None
            return self._run(self._learner, state, inputs, labels)
        except Exception as error:  # compilers and drivers have kinds of their own
            self._agreed[key] = False
            _warn(self._learner, error)
            return None

    def _agrees(self, state: State, inputs: Tensor, labels: Tensor) -> bool | None:
        """None where the code does not apply."""
        found = self._run(self._learner, state, inputs, labels)
        if found is None:
            return None
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
