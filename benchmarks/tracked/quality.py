"""What speed must not be bought with: the error rate of the published checkpoints."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from vsml_bench import paths
from vsml_bench.evaluation.planning import plan_suite
from vsml_bench.evaluation.work import WorkOrder, run_cell
from vsml_bench.registry import find_suite

from .base import PROFILE


class ErrorRate:
    """Of lifetimes on held-out digits."""

    param_names: ClassVar[list[str]] = ["learner"]
    params: ClassVar[list[str]] = (
        ["vsml", "sgd-linear"] if PROFILE == "fast" else ["vsml", "vsml-label", "sgd-mlp", "maml"]
    )
    timeout = 600

    def setup(self, name: str) -> None:
        """Plans a small cell."""
        plans = plan_suite(
            find_suite("learners"), splits=["mnist5k-held-out"], learners=[name], seeds=[0]
        )
        plan = dataclasses.replace(plans[0], lifetimes=4)
        folders = (paths.results() / "checkpoints",)
        self.order = WorkOrder(plan, folders, None, "cpu", 1, "", ("", False))

    def track_error_rate(self, name: str) -> float:
        """Share of wrong predictions; NaN where the cell has no outcome."""
        cell = run_cell(self.order)
        return float("nan") if cell.outcomes is None else 1.0 - float(cell.outcomes.correct.mean())

    track_error_rate.unit = "share of predictions"  # type: ignore[attr-defined]
