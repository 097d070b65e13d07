"""What a cell will probably cost, judged by the cells that are already there."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from vsml_bench.evaluation.cell import Cell
from vsml_bench.evaluation.planning import CellPlan

START_SECONDS = 2.0
"""Reading data and making streams, about the same for every cell."""


class CostModel:
    """Seconds per cell on one thread of a CPU, in float32: the median of comparable earlier cells,
    per example."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._by_split: dict[tuple[str, str], list[float]] = {}
        self._by_learner: dict[str, list[float]] = {}
        for cell in cells:
            if cell.status != "ok" or cell.provenance.manner:
                continue
            seconds = cell.provenance.seconds
            spent = seconds.get("meta_test", 0.0) + seconds.get("compile", 0.0)
            per_example = spent / (cell.lifetimes * cell.steps)
            self._by_split.setdefault((cell.id.split, cell.id.learner), []).append(per_example)
            self._by_learner.setdefault(cell.id.learner, []).append(per_example)

    def known(self, plan: CellPlan) -> bool:
        """Whether any cell of this learner has been measured."""
        return plan.id.learner in self._by_learner

    def seconds(self, plan: CellPlan) -> float:
        """Expected seconds of the cell's meta-test; just the start-up where nothing is known."""
        found = self._by_split.get((plan.id.split, plan.id.learner)) or self._by_learner.get(
            plan.id.learner
        )
        examples = plan.lifetimes * plan.steps
        return START_SECONDS + (median(found) * examples if found else 0.0)
