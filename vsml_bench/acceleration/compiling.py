"""Functions compiled by `torch.compile`, where that pays and works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch

from vsml_bench.errors import VsmlBenchError

COMPILE_AFTER = 1_000
"""Calls with one set of shapes below which the eager path is quicker than compiling first."""


def worth_compiling(calls: int) -> bool:
    """Whether so many calls of a compiled function pay for its compilation."""
    return calls >= COMPILE_AFTER


Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function compiled by `torch.compile` for each shape of its tensors; as it is written
    where its first call shows that this machine cannot, for want of a C++ compiler, say."""
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
