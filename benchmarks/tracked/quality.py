"""What speed must not be bought with: the error rate of the published checkpoints."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from vsml_bench import api, paths
from vsml_bench.data.datasets import data_root
from vsml_bench.evaluation import worker
from vsml_bench.evaluation.prices import unavailable
from vsml_bench.evaluation.runner import Setting

from .base import PROFILE


class _ErrorRate:  # asv leaves names alone that begin with _
    """Of a few lifetimes or episodes on data that meta-training never saw. Subclasses say which."""

    param_names: ClassVar[list[str]] = ["learner"]
    params: ClassVar[list[str]] = []
    timeout = 600
    suite: ClassVar[str]
    split: ClassVar[str]
    lifetimes: ClassVar[int]

    def setup(self, name: str) -> None:
        """Plans a small cell; NotImplementedError, which asv skips, where its data are not here."""
        (plan,) = api.plan(self.suite, splits=[self.split], learners=[name], seeds=[0])
        if reason := unavailable(plan, data_root(None)):
            raise NotImplementedError(reason)
        self.plan = dataclasses.replace(plan, lifetimes=self.lifetimes)
        self.setting = Setting((paths.results() / "checkpoints",), None, "cpu", "", ("", False))

    def track_error_rate(self, name: str) -> float:
        """Share of wrong predictions; NaN where the cell has no outcome."""
        cell = worker.test(self.plan, self.setting)
        return float("nan") if cell.outcomes is None else 1.0 - float(cell.outcomes.correct.mean())

    track_error_rate.unit = "share of predictions"  # type: ignore[attr-defined]


class OnlineErrorRate(_ErrorRate):
    """Of lifetimes on held-out digits."""

    params: ClassVar[list[str]] = (
        ["vsml", "sgd-linear"] if PROFILE == "fast" else ["vsml", "vsml-label", "sgd-mlp", "maml"]
    )
    suite, split, lifetimes = "learners", "mnist5k-held-out", 4


class FewShotErrorRate(_ErrorRate):
    """Of Omniglot episodes of held-out alphabets, where `VSML_BENCH_DATA` has the archives."""

    params: ClassVar[list[str]] = ["maml-conv"] if PROFILE == "fast" else ["maml-conv", "maml"]
    suite, split, lifetimes = "omniglot", "omniglot-small", 40
