"""Few-shot episodes: 5-way 1-shot with 15 queries of each class."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import LEARNERS, PROFILE, LifetimeBenchmark


class FewShot(LifetimeBenchmark):
    """The support set is learned, then queries are answered from one state."""

    params: ClassVar[list[Any]] = [LEARNERS, [64, 784] if PROFILE != "fast" else [64]]
    steps = 5 + 75

    def run(self) -> None:
        """Whole episodes."""
        state = self.runner.adapt(self.fresh(), self.inputs[:5], self.labels[:5])
        self.runner.answer(state, self.inputs[5:])
