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
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

State: TypeAlias = Any
"""A NamedTuple (possibly nested) of tensors, each with the leading axis [lifetimes]."""
Engine: TypeAlias = Literal["bptt", "es"]
"""How meta-gradients are found: backpropagation through time, or evolution strategies."""

ANSWERING_FLOATS = 2**22
"""Numbers in the copies of states that queries are answered from side by side (16 MiB in float32):
small states answer all queries at once, large ones in chunks that stay within the caches."""


@dataclass(frozen=True)
class Shape:
    """What one lifetime's examples look like."""

    inputs: tuple[int, ...]
    """(channels, height, width) of an image, or (features,) of a vector."""
    classes: int
    """Number of labels; labels are int64 in [0, classes)."""

    @property
    def features(self) -> int:
        """D, the flattened input size."""
        return prod(self.inputs)


@dataclass(frozen=True)
class Phase:
    """One stretch of meta-training with one lifetime length and one learning-rate slope."""

    steps: int
    """Meta-updates in this phase."""
    lifetime: int
    """T, examples per lifetime. Few-shot episodes have the suite's number, whatever this says."""
    learning_rate: float
    """Adam's learning rate at the start of the phase."""
    final_learning_rate: float | None = None
    """Reached at the end of the phase along a half cosine; None keeps it constant."""
    fresh_optimizer: bool = False
    """Adam forgets its moments before this phase. A finished training of the phases before it can
    then be taken up where it ended, with the same result as all phases in one go."""
    lifetimes: int | None = None
    """E, lifetimes per meta-update in this phase; None takes the recipe's. Long lifetimes say more
    each, so that fewer are enough."""
    classes: int | None = None
    """Tasks of this phase have that many of the classes, drawn per task and named anew, which is
    easier to begin with; None keeps the split's. Few-shot episodes have the split's in any case."""


@dataclass(frozen=True)
class Recipe:
    """How a learner's meta-parameters are found. The meta-loss is the mean cross-entropy of all
    predictions of a lifetime, each made before its label was seen; under few_shot that of the
    queries."""

    phases: tuple[Phase, ...]
    lifetimes: int = 16
    """E, lifetimes per meta-update, in phases that do not say otherwise."""
    clip: float = 1.0
    """Bound on the global norm of the meta-gradient; 0 sets none."""
    size: int | None = None
    """Meta-train on images resized to size x size; None keeps the split's own size. Only for
    learners that take any input size."""
    checkpoint_every: int = 25
    """Meta-updates between two checkpoints of an unfinished training."""
    validate_every: int = 50
    """Meta-updates between two validations on held-out examples of the meta-train side."""
    validation_lifetimes: int = 16
    engine: Engine = "bptt"
    pairs: int = 1024
    """Engine "es" only: antithetic pairs of population members, evaluated in each meta-update."""
    noise_std: float = 0.05
    """Engine "es" only: sigma, how far members are from the meta-parameters, per coordinate."""
    chunk_mib: int = 1024
    """Engine "es" only: MiB that the members evaluated in one batched call may take."""
    starts_from: str = ""
    """Name of the learner whose finished meta-training, of the same side and seed, this one goes on
    from; "" begins with fresh meta-parameters."""
    source: str = ""
    """"package.module:Class", or ":Class" of the learner's own file: the `Source` (see
    meta_training/source.py) that meta-updates are taken from; "" is lifetimes of the meta-train
    side's tasks."""
    shared: str = ""
    """With `source`: the field of the configuration that the meta-parameters depend on alone.
    Variants of one class for which it is equal share one meta-training."""

    @property
    def steps(self) -> int:
        """Meta-updates in all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def members(self) -> int:
        """P, how many sets of meta-parameters live each lifetime: the population of ES, else 1."""
        return 2 * self.pairs if self.engine == "es" else 1

    @property
    def examples(self) -> int:
        """Examples in all lifetimes of all meta-updates and members together: what meta-training
        costs."""
        phases = sum(p.steps * p.lifetime * (p.lifetimes or self.lifetimes) for p in self.phases)
        return phases * self.members


@dataclass(frozen=True)
class TuningGrid:
    """Hyper-parameters of a learner without meta-parameters, and the values tried. The value with
    the best cumulative accuracy on lifetimes of the meta-train side is kept, per split side."""

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Config field -> values; all combinations are tried."""
    lifetimes: int = 8
    steps: int = 2000


@dataclass(frozen=True)
class NoConfig:
    """The configuration of a learner that has nothing to configure."""


class Learner(nn.Module, ABC):
    """Base class of all learners. Subclass it in a file of your own, give the class attributes,
    write the three abstract methods; nothing in the harness changes."""

    variants: ClassVar[Mapping[str, Any]]
    """Name on the board -> configuration (a frozen dataclass) that is passed to `__init__`."""
    family: ClassVar[str]
    """The kind of learner, e.g. "gradient descent"."""
    source: ClassVar[str]
    """The paper or book it comes from."""
    protocols: ClassVar[frozenset[str]] = frozenset({"online", "few_shot"})
    """What it can be run under: a protocol says which of these it `needs`. `adapt` below makes
    every online learner a few-shot learner."""
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
    quick_unroll: ClassVar[Mapping[str, str]] = {}
    """Type of device, "cuda" say -> "module:function", or ":function" of the same file: code that
    does there what `unroll` does, in less time. It is given (learner, state, inputs, labels) and
    returns what `unroll` does, or None where it does not apply. The harness uses it for runs that
    are long enough, and only if it agrees with `predict` and `observe`; it is no part of the
    learner's hash."""
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
        kept: list[Tensor] = []
        written: Tensor | None = None
        for t, (x_t, y_t) in enumerate(zip(inputs, labels, strict=True)):
            logits, state = self(state, x_t, y_t)
            if torch.is_grad_enabled():
                kept.append(logits)
            else:  # thousands of small tensors kept alive between large ones fragment the heap
                if written is None:
                    written = logits.new_empty(len(inputs), *logits.shape)
                written[t] = logits
        return torch.stack(kept) if written is None else written, state

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
        count, lifetimes = queries.shape[:2]
        floats = sum(part.numel() for part in pytree.tree_leaves(state))
        logits = []
        for chunk in queries.split(min(count, max(1, ANSWERING_FLOATS // max(1, floats)))):
            predicted, _ = self.predict(_copies(state, len(chunk)), chunk.flatten(0, 1))
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
