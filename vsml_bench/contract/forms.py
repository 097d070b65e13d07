"""The form of what a learner's methods return: shapes, dtypes, the leading axis of its state."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Learner, Shape
from vsml_bench.seeds import generator

LIFETIMES, STEPS = 3, 2
SHAPES = (Shape((1, 4, 4), 5), Shape((6,), 2))
"""An image and a vector, neither with a size that equals another by chance."""


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
    inputs = torch.randn(STEPS, LIFETIMES, *shape.inputs, generator=generator(1))
    labels = torch.randint(shape.classes, (STEPS, LIFETIMES), generator=generator(2))
    one_step, all_steps = (LIFETIMES, shape.classes), (STEPS, LIFETIMES, shape.classes)
    method = "init_state"
    try:
        with torch.no_grad():
            fresh = learner.init_state(LIFETIMES, shape, generator(3))
            _require_state(fresh, where, method)
            state = fresh
            for x_t, y_t in zip(inputs, labels, strict=True):
                method = "predict"
                logits, state = learner.predict(state, x_t)
                _require_logits(logits, one_step, inputs.dtype, f"{where}: {method}()")
                method = "observe"
                state = learner.observe(state, y_t)
                _require_state(state, where, method)
            method = "unroll"
            logits, state = learner.unroll(fresh, inputs, labels)
            _require_logits(logits, all_steps, inputs.dtype, f"{where}: {method}()")
            _require_state(state, where, method)
            method = "adapt"
            state = learner.adapt(fresh, inputs, labels)
            _require_state(state, where, method)
            method = "answer"
            logits = learner.answer(state, inputs)
            _require_logits(logits, all_steps, inputs.dtype, f"{where}: {method}()")
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


def _require_state(state: object, where: str, method: str) -> None:
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor) or leaf.shape[:1] != (LIFETIMES,):
            found = f"shape {list(leaf.shape)}" if isinstance(leaf, Tensor) else repr(leaf)
            raise VsmlBenchError(
                f"{where}: {method}() must return a state of tensors whose leading axis is the "
                f"{LIFETIMES} lifetimes asked for, found {found}."
            )
