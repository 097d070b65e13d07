"""Online lifetimes."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import LEARNERS, PROFILE, LifetimeBenchmark


class Online(LifetimeBenchmark):
    """Every example is predicted, then learned from. A learner of one size has its own inputs."""

    params: ClassVar[list[Any]] = [LEARNERS, [64, 784] if PROFILE != "fast" else [64]]
    steps = 100

    def run(self) -> None:
        """Whole lifetimes."""
        self.runner.unroll(self.fresh(), self.inputs, self.labels)
