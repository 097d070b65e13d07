"""Whether a quicker way to run a learner gives what its written steps give, up to rounding."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.learner import State

ROUNDING = {False: 1e-3, True: 0.1}
"""How far it may be off, relative to what changes, without and with mixed precision."""
Outcome: TypeAlias = tuple[Tensor, State]
"""Logits and the state after them, each [lifetimes, ...]."""


def agree(right: Outcome, found: Outcome, before: State) -> bool:
    """Whether logits agree, and what became of the state `before`, in every lifetime."""
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
