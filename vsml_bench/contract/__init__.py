"""Does a learner keep the contract? One function per promise of `vsml_bench/learner.py`, and what
these find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one check says of one learner."""

    check: str
    """Its name in `suite.CHECKS`, which `run_check` fills in."""
    outcome: Literal["passed", "failed", "skipped"]
    reason: str
    """One sentence."""
    measured: float | None = None
    """The figure that decided, where there is one; None where it is not finite."""


@dataclass(frozen=True)
class ContractReport:
    """All checks of one learner, in the order in which they ran."""

    learner: str
    origin: str
    results: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """What a learner's author has to do something about."""
        return tuple(result for result in self.results if result.outcome == "failed")


def passed(reason: str, measured: float | None = None) -> Finding:
    """The promise is kept."""
    return Finding("", "passed", reason, _finite(measured))


def failed(reason: str, measured: float | None = None) -> Finding:
    """The promise is broken; the reason says what would be right."""
    return Finding("", "failed", reason, _finite(measured))


def skipped(reason: str) -> Finding:
    """There is nothing to check."""
    return Finding("", "skipped", reason)


def _finite(measured: float | None) -> float | None:
    return measured if measured is not None and math.isfinite(measured) else None
