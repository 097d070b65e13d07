"""The tables of the ablations, from cells made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.leaderboard.factory import make_cell
from vsml_bench.leaderboard.sections import Finished
from vsml_bench.leaderboard.statistics import estimate, paired_difference
from vsml_bench.studies.ablations.board import sections


def test_ablations_are_compared_with_the_default_on_the_same_lifetimes() -> None:
    accuracies = {
        "ablation-none": [[0.5, 0.6, 0.7], [0.6, 0.6, 0.6]],
        "ablation-n-8": [[0.4, 0.5, 0.6], [0.5, 0.6, 0.6]],
        "ablation-sum": [[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]],
    }
    finished = [
        Finished(
            "held-out",
            name,
            "some CPU",
            tuple(make_cell("held-out", name, s, list(a)) for s, a in enumerate(seeds)),
        )
        for name, seeds in accuracies.items()
    ]
    made = sections(finished)
    assert [s.title for s in made] == [
        "Ablation: State size N",
        "Ablation: Messages are reduced by",
    ]
    default, changed = made[0].rows
    assert default[:2] == ("held-out", "16") and changed[1] == "8" and default[-1] == 2
    assert default[6:9] == (None, None, None)
    theirs, ours = np.array(accuracies["ablation-none"]), np.array(accuracies["ablation-n-8"])
    expected = paired_difference(ours, theirs)
    assert changed[2:5] == pytest.approx(dataclasses.astuple(estimate(ours, True))[:3])
    assert changed[6:9] == pytest.approx((expected.mean, expected.low, expected.high))
    assert sections(finished[1:]) == [], "nothing to compare with"
