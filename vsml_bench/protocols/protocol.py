"""What a protocol is: how lifetimes are sampled, and which of their predictions are scored.

Plans and boards are made from protocols as well, so this module and those of protocols import torch
only where something is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

from vsml_bench.config import build
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.plugins import installed, is_place, load, reference_to
from vsml_bench.sides import TaskDistribution
from vsml_bench.studies import studies
from vsml_bench.suites import Suite

if TYPE_CHECKING:
    from torch import Tensor

    from vsml_bench.acceleration import Runner
    from vsml_bench.data.episodes import Episode, EpisodeSampler
    from vsml_bench.learner import State

Self = TypeVar("Self", bound="Protocol")
Metric: TypeAlias = Literal["cumulative_accuracy", "accuracy"]
Fit: TypeAlias = Literal["fit", "fit_classes"]
Validation: TypeAlias = Literal["validation", "validation_classes"]

NUMBERS = ("steps", "shots", "queries")
"""Fields of a suite that a protocol has as fields of its own, or refuses."""


class Predictions(NamedTuple):
    """The scored predictions of a batch of lifetimes."""

    logits: Tensor  # [T, E, K]; T scored predictions in each lifetime
    labels: Tensor  # true ones of the examples predicted, int64 [T, E]
    state: State  # at the end of what is learned
    traces: Mapping[str, Tensor] = {}
    """What a study measures beside correctness and loss: name -> float [E, ...]. The names and the
    shapes after E are the same in all batches; NaN where there is nothing to measure."""


class Protocol(ABC):
    """The same object samples and runs lifetimes in meta-training, validation, tuning and
    meta-testing. A protocol is a frozen dataclass; its fields are its numbers."""

    name: ClassVar[str]
    """What suites and cells call it."""
    version: ClassVar[int] = 1
    """Raised when what it computes changes."""
    metric: ClassVar[Metric] = "cumulative_accuracy"
    """What a board's means are: accuracy over all steps of a stream, or over all queries."""
    stream: ClassVar[bool] = True
    """Whether predictions follow one another. Learners are meta-trained for a stream on online
    lifetimes as long as their recipe says, otherwise under this protocol itself."""
    needs: ClassVar[str] = "online"
    """What a learner must list among its `protocols` to be run under this one."""
    fit: ClassVar[Fit] = "fit"
    """The part of the meta-train side that meta-gradients see."""
    validation: ClassVar[Validation] = "validation"
    """The part that they do not see."""

    @classmethod
    def of(cls: type[Self], suite: Suite, side: TaskDistribution, where: str) -> Self:
        """The protocol with a suite's numbers, on one side of a split.

        where: what to call the side in errors. VsmlBenchError for numbers that are missing, or that
        the protocol does not know.
        """
        return cls.filled(suite)

    @classmethod
    def filled(cls: type[Self], suite: Suite, **numbers: Any) -> Self:
        """The protocol with its fields from `numbers`, else from the suite's fields of the same
        names (`NUMBERS`), else from the suite's `options`."""
        own = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in NUMBERS:
            value = getattr(suite, name)
            if name not in own:
                if value != getattr(Suite, name):
                    raise VsmlBenchError(
                        f"suite '{suite.name}': {name}: the protocol '{cls.name}' has none; leave "
                        "it out."
                    )
            elif value is None or value < 1:
                found = "none" if value is None else value
                raise VsmlBenchError(
                    f"suite '{suite.name}': {name}: {cls.name} needs at least 1, found {found}."
                )
            else:
                numbers.setdefault(name, value)
        optional = [name for name in own if name not in numbers]
        for name in suite.options:
            if name not in optional:
                raise VsmlBenchError(
                    f"suite '{suite.name}': options: the protocol '{cls.name}' has no '{name}'; "
                    f"{closest(name, optional)}"
                )
        return build(cls, {**numbers, **suite.options}, f"suite '{suite.name}': options")

    def fitted(self, sampler: EpisodeSampler) -> Protocol:
        """The protocol as far as the sampler's data reach."""
        return self

    @property
    @abstractmethod
    def predictions(self) -> int:
        """T, scored predictions of a lifetime."""

    @property
    @abstractmethod
    def learning_steps(self) -> int:
        """Examples of a lifetime that are learned from."""

    @property
    def examples(self) -> int:
        """All examples of a lifetime; those of a stream are predicted and learned from."""
        return self.predictions if self.stream else self.learning_steps + self.predictions

    @abstractmethod
    def check(self, sampler: EpisodeSampler) -> None:
        """VsmlBenchError where the sampler's data do not allow this protocol."""

    @abstractmethod
    def sample(self, sampler: EpisodeSampler, seeds: Sequence[int]) -> Episode:
        """One lifetime per seed."""

    @abstractmethod
    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        """Runs the lifetimes of `episode`, [T, E, ...], from fresh states, differentiably."""

    @abstractmethod
    def warm_up(self, runner: Runner, state: State, episode: Episode) -> None:
        """Runs as little as has the learner's code compiled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A class from a file is in no module that another process could import.
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return _again, (reference_to(type(self)), numbers)


def _again(reference: str, numbers: Mapping[str, Any]) -> Any:
    return load(reference, "protocol")(**numbers)


def stepwise_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of each prediction; logits [T, E, K], labels [T, E], returns [T, E]."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


ENTRY_POINT_GROUP = "vsml_bench.protocols"
_SHIPPED = {
    "online": "vsml_bench.protocols.online:Online",
    "few_shot": "vsml_bench.protocols.few_shot:FewShot",
}


def protocol_places() -> dict[str, str]:
    """Name -> "package.module:ClassName" of all that are found without being pointed at: shipped
    ones, those of studies, and entry points. VsmlBenchError where two have the same name."""
    places = dict(_SHIPPED)
    of_studies = {name: study.protocol for name, study in studies().items() if study.protocol}
    for found in (of_studies, installed(ENTRY_POINT_GROUP)):
        for name, place in found.items():
            if places.setdefault(name, place) != place:
                raise VsmlBenchError(
                    f"two protocols are called '{name}': {places[name]} and {place}."
                )
    return places


def find_protocol(reference: str) -> type[Protocol]:
    """The protocol of that name, or at `path/to/file.py:ClassName` or `package.module:ClassName`.

    Raises VsmlBenchError where there is none, or where it lacks what a protocol must have.
    """
    place = reference
    if not is_place(reference):
        places = protocol_places()
        if reference not in places:
            raise VsmlBenchError(f"unknown protocol '{reference}'; {closest(reference, places)}")
        place = places[reference]
    cls = _checked(load(place, "protocol"), reference)
    if place != reference and cls.name != reference:
        raise VsmlBenchError(
            f"protocol '{reference}' calls itself '{cls.name}'; give both the same name."
        )
    return cls


def protocol_of(suite: Suite) -> type[Protocol]:
    """The suite's protocol; errors name the suite."""
    try:
        return find_protocol(suite.protocol)
    except VsmlBenchError as error:
        raise VsmlBenchError(f"suite '{suite.name}': {error}") from error


def _checked(found: object, reference: str) -> type[Protocol]:
    """VsmlBenchError where it is no protocol, or lacks what one must have."""
    if not (isinstance(found, type) and issubclass(found, Protocol)):
        raise VsmlBenchError(
            f"protocol '{reference}' is {found!r}; it must be a subclass of "
            "vsml_bench.protocols.protocol.Protocol."
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if not getattr(found, "name", ""):
        missing.append("name")
    if not hasattr(found, "__dataclass_fields__"):
        missing.append("@dataclass(frozen=True)")
    if missing:
        raise VsmlBenchError(
            f"protocol '{reference}': class {found.__name__} lacks {', '.join(missing)}; see "
            "vsml_bench/protocols/protocol.py."
        )
    return found
