"""The tables of the ablations against the statistics of what is compared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.boards.factory import make_group
from vsml_bench.boards.statistics import estimate, paired_difference
from vsml_bench.studies.ablations import sections


def test_ablations_are_compared_with_the_default_on_the_same_lifetimes() -> None:
    accuracies = {
        "ablation-none": [[0.5, 0.6, 0.7], [0.6, 0.6, 0.6]],
        "ablation-n-8": [[0.4, 0.5, 0.6], [0.5, 0.6, 0.6]],
        "ablation-sum": [[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]],
    }
    finished = [make_group("held-out", name, tuple(seeds)) for name, seeds in accuracies.items()]
    made = sections(finished)
    assert [s.title for s in made] == [
        "Ablation: State size N",
        "Ablation: Messages are reduced by",
    ]
    default, changed = made[0].rows
    assert default[:2] == ("held-out", "16") and changed[1] == "8" and default[-1] == 2
    assert default[6:9] == (None, None, None)
    theirs, ours = np.array(accuracies["ablation-none"]), np.array(accuracies["ablation-n-8"])
    expected = paired_difference(ours, theirs, None)
    assert changed[2:5] == pytest.approx(dataclasses.astuple(estimate(ours, True, None))[:3])
    assert changed[6:9] == pytest.approx((expected.mean, expected.low, expected.high))
    assert sections(finished[1:]) == [], "nothing to compare with"
