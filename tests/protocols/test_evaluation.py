"""How evaluations run a learner, whatever the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.maml import MAML, MAMLState
from vsml_bench import execution
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.execution import Execution
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.suites import find_split


class Watched(MAML):
    """Notes the modes that it predicts in."""

    modes: set[tuple[bool, bool]]

    def predict(self, state: MAMLState, inputs: torch.Tensor) -> tuple[torch.Tensor, MAMLState]:
        self.modes.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return super().predict(state, inputs)


def test_where_inference_mode_breaks_inner_steps_it_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = EpisodeSampler(find_split("mnist5k-held-out").meta_test)
    losses = []
    for works in (execution._differentiates_in_inference_mode(), False):
        monkeypatch.setattr(execution, "_differentiates_in_inference_mode", lambda w=works: w)
        learner = Watched(MAML.variants["maml"])
        learner.init_meta_parameters(torch.Generator().manual_seed(0))
        learner.modes = set()
        cpu = Execution(torch.device("cpu"), 1)
        losses.append(evaluate(learner, sampler, [1, 2], Online(20), cpu).loss)
        assert learner.modes == {(False, works)}
    usual, fallback = losses
    np.testing.assert_array_equal(usual, fallback)
