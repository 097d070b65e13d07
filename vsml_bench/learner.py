"""The contract that every learner keeps, from SGD to VSML. Read this file before writing one.

A learner is a `torch.nn.Module` whose parameters are its **meta-parameters** V_M (an empty set is
fine: SGD has none). Whatever changes within one lifetime is its **state** V_L: a NamedTuple of
tensors that the learner returns and gets back, never an attribute. One lifetime is

    state = learner.init_state(lifetimes, shape, generator)
    for x_t, y_t in stream:
        logits, state = learner.predict(state, x_t)     # y_t is not known here
        state = learner.observe(state, y_t)

and is run for many lifetimes at once: the leading axis of every tensor is `lifetimes`, and no
lifetime may influence another.

Axis letters used in the whole project:
    T steps of a lifetime    E lifetimes (episodes)     P members of an ES population
    A inputs of a layer      B outputs of a layer       N state size of one sub-RNN
    M message size           K classes                  D flattened input size
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vsml_bench.recipes import BPTT, ES, NoConfig, Phase, Recipe, Shape, TuningGrid

__all__ = [
    "BPTT",
    "ES",
    "Learner",
    "NoConfig",
    "Phase",
    "Recipe",
    "Shape",
    "State",
    "TuningGrid",
    "cross_entropy_error",
]

State: TypeAlias = Any
"""A NamedTuple (possibly nested) of tensors, each with the leading axis [lifetimes]."""
Step: TypeAlias = Callable[[State, Tensor, Tensor], tuple[Tensor, State]]
"""`Learner.forward`, or what does the same: (state, inputs, labels) -> (logits, state)."""

ANSWERING_FLOATS = 2**22
"""Numbers in the copies of states that queries are answered from side by side (16 MiB in float32):
small states answer all queries at once, large ones in chunks that stay within the caches."""


class Learner(nn.Module, ABC):
    """Base class of all learners. Subclass it in a file of your own, give the class attributes,
    write the three abstract methods; nothing in the harness changes."""

    version: ClassVar[int] = 1
    """Raised by hand whenever what the learner computes changes, so that results of the earlier
    code are stale. Of learners that are not vsml-bench's own the bytes of their files count too."""
    variants: ClassVar[Mapping[str, Any]]
    """Name on the board -> configuration (a frozen dataclass) that is passed to `__init__`."""
    family: ClassVar[str]
    """The kind of learner, e.g. "gradient descent"."""
    source: ClassVar[str]
    """The paper or book it comes from."""
    protocols: ClassVar[frozenset[str]] = frozenset({"online", "few_shot"})
    """What it can be run under; `adapt` below makes every online learner a few-shot learner."""
    input_kinds: ClassVar[frozenset[str]] = frozenset({"image", "vector"})
    invariances: ClassVar[frozenset[str]] = frozenset()
    """What it claims to ignore: "inputs" (their order), "labels" (their naming), or both."""
    recipe: ClassVar[Recipe | None] = None
    """How it is meta-trained; None for a learner without meta-parameters."""
    tuning: ClassVar[TuningGrid | None] = None
    """What is tuned on the meta-train side instead; None where there is nothing to tune."""
    requires: ClassVar[Mapping[str, str]] = {}
    """Packages that vsml-bench itself does not need -> how to install them. Import them where they
    are used, not at the top of the file: its cells are then `unavailable` without them."""
    external_data: ClassVar[str] = ""
    """What the author says that the code, or numbers in it, learned from besides the meta-train
    side: "ImageNet-1k, through the weights of ResNet-18", say, or "none". "" says nothing. It is no
    part of the learner's identity; boards show it as a note."""
    fast_code: ClassVar[str] = ""
    """Other code that does what this class writes, in less time: "module:function", or ":function"
    of the same file. The function is called with (learner, execution, steps), where the harness
    is about to run so many steps on the execution's device in its precision, and returns None, or
    an object with any of the methods `unroll`, `predict` and `observe`, which take and return what
    the learner's do, or return None where they do not apply to what they are given. It must read
    the meta-parameters anew at each call. The harness uses what agrees, on the first two steps with
    each set of shapes, with `predict` and `observe` as they are written."""
    fixed_shape: Shape | None = None
    """Set it where inputs and classes have one fixed size: the harness then pads inputs with zeros
    and labels simply never use the classes beyond the task's. None: any shape."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def init_meta_parameters(self, generator: torch.Generator) -> None:
        """Draws fresh meta-parameters, in place, from `generator` alone. Learners that have any
        override it."""
        if next(self.parameters(), None) is not None:
            raise TypeError(
                f"{type(self).__name__} has meta-parameters but no init_meta_parameters(generator)"
            )

    @abstractmethod
    def init_state(self, lifetimes: int, shape: Shape, generator: torch.Generator) -> State:
        """A fresh state for each lifetime, on the generator's device, in the meta-parameters'
        dtype (the default dtype where there are none).

        All randomness comes from `generator`; a lifetime's randomness must differ from its
        neighbour's.
        """

    @abstractmethod
    def predict(self, state: State, inputs: Tensor) -> tuple[Tensor, State]:
        """Predicts the labels of one example per lifetime.

        inputs: float [lifetimes, *shape.inputs]. Returns logits [lifetimes, shape.classes] and the
        state that `observe` continues from.
        """

    @abstractmethod
    def observe(self, state: State, labels: Tensor) -> State:
        """Learns from the labels, int64 [lifetimes], of the examples just predicted."""

    def forward(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """One step of a lifetime, predict then observe. `compile()` compiles exactly this."""
        logits, state = self.predict(state, inputs)
        return logits, self.observe(state, labels)

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """Runs T steps. inputs [T, lifetimes, *shape.inputs], labels int64 [T, lifetimes]; returns
        logits [T, lifetimes, classes] and the last state. May be overridden for speed: logits at t
        must not depend on labels from t on nor on inputs after t.
        """
        return unroll_by_steps(self, state, inputs, labels)

    def adapt(self, state: State, inputs: Tensor, labels: Tensor) -> State:
        """Learns a support set before queries are predicted (few-shot protocol).

        inputs [S, lifetimes, *shape.inputs], labels int64 [S, lifetimes], in no particular order.
        The default sees them one by one, as in a lifetime; learners that take a support set as a
        whole override it.
        """
        return self.unroll(state, inputs, labels)[1]

    def answer(self, state: State, queries: Tensor) -> Tensor:
        """Predicts queries from the state after the support set (few-shot protocol).

        queries [T, lifetimes, *shape.inputs]; returns logits [T, lifetimes, classes]. Nothing is
        learned from a query, and none knows of another. The default predicts from as many copies of
        the state as stay within the caches; learners that can answer many queries from one state
        override it.
        """
        return answer_by_predict(self.predict, state, queries)


def unroll_by_steps(
    step: Step, state: State, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, State]:
    """`Learner.unroll`, one step after the other."""
    kept: list[Tensor] = []
    written: Tensor | None = None
    for t, (x_t, y_t) in enumerate(zip(inputs, labels, strict=True)):
        logits, state = step(state, x_t, y_t)
        if torch.is_grad_enabled():
            kept.append(logits)
        else:  # thousands of small tensors kept alive between large ones fragment the heap
            if written is None:
                written = logits.new_empty(len(inputs), *logits.shape)
            written[t] = logits
    return torch.stack(kept) if written is None else written, state


def answer_by_predict(
    predict: Callable[[State, Tensor], tuple[Tensor, State]], state: State, queries: Tensor
) -> Tensor:
    """`Learner.answer`, from copies of the state."""
    count, lifetimes = queries.shape[:2]
    floats = sum(part.numel() for part in pytree.tree_leaves(state))
    logits = []
    for chunk in queries.split(min(count, max(1, ANSWERING_FLOATS // max(1, floats)))):
        predicted, _ = predict(_copies(state, len(chunk)), chunk.flatten(0, 1))
        logits.append(predicted.unflatten(0, (len(chunk), lifetimes)))
    return torch.cat(logits)


def _copies(state: State, count: int) -> State:
    """Every part [E, ...] as [count E, ...]: each lifetime's state for each of `count` queries."""
    return pytree.tree_map(lambda part: part.expand(count, *part.shape).flatten(0, 1), state)


def cross_entropy_error(logits: Tensor, labels: Tensor) -> Tensor:
    """dL/dlogits of the cross-entropy, softmax(logits) - onehot(labels).

    logits [lifetimes, K], labels int64 [lifetimes]; returns [lifetimes, K].
    """
    onehot = nn.functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(-1) - onehot
