"""What meta-updates are taken from: lifetimes of tasks, or made-up examples of an algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from vsml_bench.meta_training.objective import Objective
from vsml_bench.meta_training.schedule import Update


class Validation(NamedTuple):
    """How the meta-parameters do on what no meta-gradient sees."""

    loss: float
    accuracy: float


class Source(ABC):
    """All of its randomness comes from (seed, step), so that training can be continued exactly."""

    data_hashes: dict[str, str]
    """Dataset -> content hash of the partition that is meta-trained on."""

    carried: dict[str, Tensor]
    """What goes over from one meta-update to the next, besides meta-parameters and moments. It can
    be set, to continue from there."""

    def accelerate(self, steps: int) -> None:  # noqa: B027
        """Has the lifetimes of the meta-updates run as quickly as so many steps, backpropagated
        through, pay for."""

    @abstractmethod
    def objective(self, planned: Update, step: int, *, largest: bool = False) -> Objective:
        """The meta-loss of meta-update `step`; of its largest examples, where they may differ, if
        that is asked for."""

    @abstractmethod
    def validate(self) -> Validation:
        """Scores today's meta-parameters."""
