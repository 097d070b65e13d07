"""What a check of the contract finds, and what all checks of one learner add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What one check says of one learner."""

    outcome: Outcome
    reason: str
    """One sentence."""
    measured: float | None = None
    """The figure that decided, where there is one; None where it is not finite."""


@dataclass(frozen=True)
class CheckResult:
    """A finding with the name of its check."""

    check: str
    outcome: Outcome
    reason: str
    measured: float | None = None


@dataclass(frozen=True)
class ContractReport:
    """All checks of one learner, in the order in which they ran."""

    learner: str
    origin: str
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The results that a learner's author has to do something about."""
        return tuple(result for result in self.results if result.outcome == "failed")


def passed(reason: str, measured: float | None = None) -> Finding:
    """The promise is kept."""
    return Finding("passed", reason, _finite(measured))


def failed(reason: str, measured: float | None = None) -> Finding:
    """The promise is broken; the reason says what would be right."""
    return Finding("failed", reason, _finite(measured))


def skipped(reason: str) -> Finding:
    """There is nothing to check."""
    return Finding("skipped", reason)


def _finite(measured: float | None) -> float | None:
    return measured if measured is not None and math.isfinite(measured) else None
