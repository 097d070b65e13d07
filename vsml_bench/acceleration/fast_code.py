"""Code that a learner names for its steps (`Learner.fast_code`), where it does what they do."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.func import functional_call
from torch.utils import _pytree as pytree

from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, State, unroll_by_steps

CHECKED_STEPS = 2
"""The second is the first that follows another."""


ROUNDING = {False: 1e-3, True: 0.1}
"""How far it may be off, relative to what changes, without and with mixed precision."""


def named_code(learner: Learner, execution: Execution, steps: int) -> CheckedCode | None:
    """The code that the learner names for so many steps there; None where it has none for them."""
    if not learner.fast_code:
        return None
    try:
        code = _named(learner)(learner, execution, steps)
    except Exception as error:  # it is a stranger's
        _warn(learner, error)
        return None
    return None if code is None else CheckedCode(learner, code)


def _named(learner: Learner) -> Callable[[Learner, Execution, int], Any]:
    """The function "module:function", or ":function" of the file that names it."""
    module, _, name = learner.fast_code.partition(":")
    if not module:
        owner = next(cls for cls in type(learner).__mro__ if "fast_code" in vars(cls))
        module = owner.__module__
    found: Callable[[Learner, Execution, int], Any]
    found = getattr(importlib.import_module(module), name)
    return found


def _warn(learner: Learner, reason: object) -> None:
    first_line = str(reason).strip().partition("\n")[0]
    name = type(learner).__name__
    logging.getLogger(__name__).warning("%s runs without its fast code: %s", name, first_line)


class CheckedCode:
    """Code for `unroll`, `predict` and `observe` that is used where it applies and, for the first
    steps with each set of shapes, gives what the written steps give, in the precision that it runs
    in, and the same gradients where they are asked for.

    Under `torch.func.vmap` all members of the population go through the code, and the first of them
    through the written steps.
    """

    def __init__(self, learner: Learner, code: Any) -> None:
        self._learner, self._code = learner, code
        self._agreed: dict[Any, bool] = {}

    @property
    def in_use(self) -> bool:
        """Whether it has run, and has agreed each time."""
        return bool(self._agreed) and all(self._agreed.values())

    @property
    def refused(self) -> bool:
        """Whether it has failed, or has given something else."""
        return not all(self._agreed.values())

    def attempt(self, name: str, state: State, *examples: Tensor) -> Any:
        """What the code's method makes of it; None where it does not apply, fails, or does
        something else. examples: with a leading axis of steps for `unroll`."""
        run = getattr(self._code, name, None)
        if run is None:
            return None
        key = self._key(name, state, examples)
        if not self._agreed.get(key, True):
            return None
        try:
            if key not in self._agreed:
                first = examples
                if name == "unroll":
                    first = tuple(part[:CHECKED_STEPS] for part in examples)
                agrees = self._agrees(name, run, state, first)
                if agrees is None:
                    return None
                if name != "unroll" or len(examples[0]) >= CHECKED_STEPS or not agrees:
                    self._agreed[key] = agrees
                if not agrees:
                    _warn(self._learner, "it gives something else")
                    return None
            return run(state, *examples)
        except VsmlBenchError:  # a time limit's, say
            raise
        except Exception as error:  # compilers and drivers have kinds of their own
            self._agreed[key] = False
            _warn(self._learner, error)
            return None

    def _key(self, name: str, state: State, examples: tuple[Tensor, ...]) -> Any:
        """What may change which way the code goes."""
        leaves, structure = pytree.tree_flatten(state)
        alike = [part[:0] for part in examples] if name == "unroll" else examples
        tensors = (*leaves, *alike)
        shapes = tuple((part.shape, part.dtype, part.device) for part in tensors)
        differentiated: Any = torch.is_grad_enabled()
        if differentiated:
            tensors = (*tensors, *self._learner.parameters())
            differentiated = tuple(part.requires_grad for part in tensors)
        mixed = torch.is_autocast_enabled(examples[0].device.type)
        return name, structure, shapes, differentiated, mixed, self._populous(state, examples)

    def _populous(self, state: State, examples: tuple[Tensor, ...]) -> bool:
        """Whether there are several of anything, by `torch.func.vmap`."""
        tensors = (*self._learner.parameters(), *pytree.tree_leaves(state), *examples)
        return any(map(_functorch.is_batchedtensor, tensors))

    def _agrees(
        self, name: str, run: Callable[..., Any], state: State, examples: tuple[Tensor, ...]
    ) -> bool | None:
        """None where the code does not apply."""
        state, examples = pytree.tree_map(_apart, (state, examples))
        found = run(state, *examples)
        if found is None:
            return None
        if not self._populous(state, examples):
            right = self._written(name, state, *examples)
            return self._same(name, right, found, state, examples)
        found, state, examples = pytree.tree_map(_first_member, (found, state, examples))
        own = {key: _first_member(p) for key, p in self._learner.named_parameters()}
        right = call_with(self._learner, own, self._written, name, state, *examples)
        return self._same(name, right, found, state, examples)

    def _written(self, name: str, state: State, *examples: Tensor) -> Any:
        """The same by the learner's own `predict` and `observe`."""
        if name != "unroll":
            return getattr(self._learner, name)(state, *examples)
        return unroll_by_steps(partial(Learner.forward, self._learner), state, *examples)

    def _same(
        self, name: str, right: Any, found: Any, before: State, examples: tuple[Tensor, ...]
    ) -> bool:
        """Whether logits, states and gradients agree. before: the state that both began with."""
        if not agree(_by_lifetime(name, right), _by_lifetime(name, found), before):
            return False
        wanted = [p for p in (*self._learner.parameters(), *examples) if p.requires_grad]
        if not torch.is_grad_enabled() or not wanted:
            return True
        pairs = zip(_gradients(right, wanted), _gradients(found, wanted), strict=True)
        return all(
            (own is None) == (other is None)
            and (own is None or close(own[None], other[None], torch.zeros_like(own)[None]))  # type: ignore[index]
            for own, other in pairs
        )


class _Call(nn.Module):
    """A call, as the module whose parameters `functional_call` replaces."""

    def __init__(self, learner: Learner, call: Callable[..., Any]) -> None:
        super().__init__()
        self.learner, self.call = learner, call

    def forward(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def call_with(
    learner: Learner, parameters: Mapping[str, Tensor], call: Callable[..., Any], *arguments: Any
) -> Any:
    """What `call` returns while the learner has these parameters, by name, in place of its own."""
    named = {f"learner.{name}": parameter for name, parameter in parameters.items()}
    return functional_call(_Call(learner, call), named, arguments)


def _apart(tensor: Tensor) -> Tensor:
    """A copy, which the code may spoil, without what the tensor was computed from, whose gradients
    are no business of a check."""
    alone = tensor.detach().clone()
    return alone.requires_grad_() if tensor.requires_grad and torch.is_grad_enabled() else alone


def _first_member(tensor: Tensor) -> Tensor:
    """Of a population, as `torch.func.vmap` keeps it; the tensor itself where all share it."""
    while _functorch.is_batchedtensor(tensor):
        axis = _functorch.maybe_get_bdim(tensor)
        tensor = _functorch.get_unwrapped(tensor).select(axis, 0)
    return tensor


def _by_lifetime(name: str, result: Any) -> tuple[Tensor, State]:
    """Logits and state, every tensor with the leading axis [lifetimes]; `observe` has no logits."""
    if name == "observe":
        return torch.zeros(0), result
    logits, state = result
    return (logits.transpose(0, 1) if name == "unroll" else logits), state


def _gradients(result: Any, wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Of the sum of squares of all that was computed."""
    leaves = [leaf for leaf in pytree.tree_leaves(result) if leaf.requires_grad]
    if not leaves:
        return (None,) * len(wanted)
    total = torch.stack([leaf.square().sum() for leaf in leaves]).sum()
    return torch.autograd.grad(total, wanted, allow_unused=True)


def agree(right: tuple[Tensor, State], found: tuple[Tensor, State], before: State) -> bool:
    """Whether logits [lifetimes, ...] agree, and what became of the state `before`, in every
    lifetime."""
    (logits, after), (found_logits, found_after) = right, found
    states = zip(*map(pytree.tree_leaves, (after, found_after, before)), strict=True)
    return close(logits, found_logits, torch.zeros_like(logits)) and all(
        close(own, own_found, old) for own, own_found, old in states
    )


def close(right: Tensor, found: Tensor, before: Tensor) -> bool:
    """Whether they differ, in every part along the first axis, by what rounding does to the change
    from `before` on and to the values themselves."""
    if not right.is_floating_point():
        return right.equal(found)
    off, change, size = (
        part.flatten(1).norm(dim=1) if part.ndim > 1 else part.abs()
        for part in (found - right, right - before, right)
    )
    rounding = ROUNDING[torch.is_autocast_enabled(right.device.type)]
    return bool((off <= rounding * change + 1e-6 * (1 + size)).all())
