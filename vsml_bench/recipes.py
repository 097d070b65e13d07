"""How a learner gets ready: the recipe of its meta-training, or the grid that it is tuned on.

Plain frozen dataclasses without PyTorch, so that planning, pricing and boards need none. A
learner's file finds all of them in `vsml_bench.learner`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vsml_bench.config import STORED_IF_SAID, build, convert, replace
from vsml_bench.errors import VsmlBenchError, closest


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
        return math.prod(self.inputs)


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
    classes: int | tuple[int, ...] | None = None
    """Tasks of this phase have that many of the classes, drawn per task and named anew, which is
    easier to begin with; of several numbers, each meta-update draws one. None keeps the split's.
    Few-shot episodes have the split's in any case."""
    fixed_labels: float = field(default=0.0, metadata=STORED_IF_SAID)
    """Share of lifetimes whose labels are not permuted, as the phase begins; it falls to 0 along a
    line. In GPICL (arXiv 2212.04458) this removes the plateau."""
    sizes: tuple[int, ...] = field(default=(), metadata=STORED_IF_SAID)
    """Images of this phase are resized to one of these, which each meta-update draws; () keeps the
    recipe's `size`. In smaller images examples are more alike, so that what is learned of one
    disturbs what is known of others. Validation is at the recipe's size in any case."""


@dataclass(frozen=True)
class BPTT:
    """Meta-gradients by backpropagation through whole lifetimes."""

    name: Literal["bptt"] = "bptt"
    micro_batch: int | None = field(default=None, metadata=STORED_IF_SAID)
    """Lifetimes that are backpropagated through together; gradients of these micro-batches are
    added up in float64, in their order. None takes all lifetimes of a meta-update at once. Several
    processes share a meta-update by its micro-batches, and less memory is needed; sums are rounded
    in another way, so that a number is part of what a checkpoint is filed under."""

    def __post_init__(self) -> None:
        if self.micro_batch is not None:
            _require_positive("engine: micro_batch", self.micro_batch)


@dataclass(frozen=True)
class ES:
    """Meta-gradients by evolution strategies."""

    name: Literal["es"] = "es"
    pairs: int = 1024
    """Antithetic pairs of population members, evaluated in each meta-update."""
    own_lifetimes: bool = False
    """Each pair lives lifetimes of its own, as in the paper, from fresh states of its own: a
    meta-update then has the recipe's number of lifetimes for each pair. Otherwise all pairs live
    the same."""
    noise_std: float = 0.05
    """sigma, how far members are from the meta-parameters, per coordinate."""
    chunk_mib: int = 1024
    """MiB that the members evaluated in one batched call may take. It changes no result but the
    rounding of sums."""

    def __post_init__(self) -> None:
        for name in ("pairs", "noise_std", "chunk_mib"):
            _require_positive(f"engine: {name}", getattr(self, name))


Engine: TypeAlias = BPTT | ES
ENGINES: Mapping[str, str] = {
    "bptt": "backpropagation through time",
    "es": "evolution strategies",
}
"""Name -> what boards call it."""


@dataclass(frozen=True)
class Recipe:
    """How a learner's meta-parameters are found. The meta-loss is the mean cross-entropy of all
    predictions of a lifetime, each made before its label was seen; under few_shot that of the
    queries. VsmlBenchError for numbers with which no training is possible."""

    phases: tuple[Phase, ...]
    lifetimes: int = 16
    """E, lifetimes per meta-update, in phases that do not say otherwise; of evolution strategies
    with own lifetimes, those of each pair."""
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
    engine: Engine = BPTT()
    starts_from: str = ""
    """Name of the learner whose finished meta-training, on the same side with the same seed, this
    one goes on from; "" begins with fresh meta-parameters."""
    source: str = ""
    """"package.module:Class", or ":Class" of the learner's own file: the `Source` (see
    meta_training/objective.py) that meta-updates are taken from; "" is lifetimes of the meta-train
    side's tasks."""
    shared: str = ""
    """With `source`: the field of the configuration that the meta-parameters depend on alone.
    Variants of one class for which it is equal share one meta-training."""

    def __post_init__(self) -> None:
        if not self.phases:
            raise VsmlBenchError("phases: expected at least one, found none.")
        for name in ("lifetimes", "checkpoint_every", "validate_every", "validation_lifetimes"):
            _require_positive(name, getattr(self, name))
        for index, phase in enumerate(self.phases):
            for name in ("steps", "lifetime", "learning_rate", "lifetimes", "classes"):
                value = getattr(phase, name)
                if value == ():
                    raise VsmlBenchError(f"phases[{index}].{name}: expected a number, found [].")
                for number in value if isinstance(value, tuple) else (value,):
                    if number is not None:
                        _require_positive(f"phases[{index}].{name}", number)
            for size in phase.sizes:
                _require_positive(f"phases[{index}].sizes", size)
            if not 0 <= phase.fixed_labels <= 1:
                raise VsmlBenchError(
                    f"phases[{index}].fixed_labels: expected a share of lifetimes from 0 to 1, "
                    f"found {phase.fixed_labels}."
                )
        micro_batch = self.engine.micro_batch if isinstance(self.engine, BPTT) else None
        for lifetimes in (phase.lifetimes or self.lifetimes for phase in self.phases):
            if micro_batch is not None and lifetimes % micro_batch:
                raise VsmlBenchError(
                    f"engine: micro_batch: expected a divisor of the {lifetimes} lifetimes of a "
                    f"meta-update, found {micro_batch}."
                )
        for name in ("fixed_labels", "sizes"):
            if self.source and any(getattr(phase, name) for phase in self.phases):
                raise VsmlBenchError(f"{name}: has no effect with `source`; leave it out.")
        if self.shared and not self.source:
            raise VsmlBenchError("shared: has no effect without `source`; leave it out.")
        if not (self.clip >= 0 and math.isfinite(self.clip)):
            raise VsmlBenchError(
                f"clip: expected a bound of more than 0, or 0 for none, found {self.clip}."
            )

    @property
    def steps(self) -> int:
        """Meta-updates in all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def examples(self) -> int:
        """Examples in all lifetimes of all meta-updates and members of a population together: what
        meta-training costs."""
        members = 2 * self.engine.pairs if isinstance(self.engine, ES) else 1
        return members * sum(
            p.steps * p.lifetime * (p.lifetimes or self.lifetimes) for p in self.phases
        )

    def scaled(self, scale: float) -> Recipe:
        """The same with fewer meta-updates, pairs of a population and lifetimes of validation, at
        least one of each."""
        engine = self.engine
        if isinstance(engine, ES):
            engine = dataclasses.replace(engine, pairs=_part(engine.pairs, scale))
        return dataclasses.replace(
            self,
            phases=tuple(dataclasses.replace(p, steps=_part(p.steps, scale)) for p in self.phases),
            engine=engine,
            validation_lifetimes=_part(self.validation_lifetimes, scale),
        )

    def of_episodes(self, examples: int) -> Recipe:
        """The same with few-shot episodes of so many examples for lifetimes."""
        phases = (dataclasses.replace(p, lifetime=examples, classes=None) for p in self.phases)
        return dataclasses.replace(self, phases=tuple(phases))

    def changed(self, values: Mapping[str, Any], where: str) -> Recipe:
        """The recipe with some fields overridden. The engine may be given by its name. A field of
        the engine's stands for itself: `pairs = 64`.

        where: what to call the source of `values` in the VsmlBenchError that a field gets which is
        unknown, does not fit or would have no effect.
        """
        kinds = (BPTT, ES)
        own = {f.name: kind.name for kind in kinds for f in dataclasses.fields(kind)}
        del own["name"]
        known = {*own, *(f.name for f in dataclasses.fields(self))}
        for key in values:
            if key not in known:
                raise VsmlBenchError(f"{where}: unknown key '{key}'; {closest(key, known)}")
        engine = values.get("engine", self.engine)
        if isinstance(engine, str):
            engine = {"name": engine}
        of_engine = sorted(set(values) & set(own))
        if of_engine:
            name = engine["name"] if isinstance(engine, Mapping) else engine.name
            for key in of_engine:
                if name != own[key]:
                    raise VsmlBenchError(
                        f'{where}: {key}: has no effect with engine = "{name}"; leave it out, or '
                        f'set engine = "{own[key]}".'
                    )
            given = engine if isinstance(engine, Mapping) else dataclasses.asdict(engine)
            engine = {**given, **{key: values[key] for key in of_engine}}
        rest = {key: value for key, value in values.items() if key not in own}
        try:
            return replace(self, {**rest, "engine": _engine(engine, where)}, where)
        except VsmlBenchError as error:
            text = str(error)
            raise VsmlBenchError(text if text.startswith(where) else f"{where}: {text}") from None


@dataclass(frozen=True)
class TuningGrid:
    """Hyper-parameters of a learner without meta-parameters, and the values tried. The value with
    the best cumulative accuracy on lifetimes of the meta-train side is kept, per split side."""

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Config field -> values; all combinations are tried."""
    lifetimes: int = 8
    steps: int = 2000

    def scaled(self, scale: float) -> TuningGrid:
        """The same values, tried on less."""
        lifetimes, steps = _part(self.lifetimes, scale), _part(self.steps, scale)
        return dataclasses.replace(self, lifetimes=lifetimes, steps=steps)


@dataclass(frozen=True)
class NoConfig:
    """The configuration of a learner that has nothing to configure."""


WITHOUT_EFFECT = frozenset(
    {"checkpoint_every", "validate_every", "validation_lifetimes", "chunk_mib"}
)
"""Fields of a recipe and of its engine that change no meta-parameter."""


def _part(number: int, scale: float) -> int:
    return max(1, round(number * scale))


def _engine(given: Any, where: str) -> Engine:
    if isinstance(given, BPTT | ES):
        return given
    kinds: dict[str, type[BPTT] | type[ES]] = {"bptt": BPTT, "es": ES}
    name = given.get("name", "bptt") if isinstance(given, Mapping) else given
    convert(Literal["bptt", "es"], name, f"{where}: engine")
    found: Engine = build(kinds[name], given, f"{where}: engine")
    return found


def _require_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise VsmlBenchError(f"{name}: expected more than 0, found {value}.")
