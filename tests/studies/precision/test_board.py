"""The table of mixed precision against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.boards.factory import make_group
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import estimate
from vsml_bench.studies.precision import sections

BEFORE = ([0.5, 0.6, 0.7], [0.6, 0.6, 0.8])
AFTER = ([0.3, 0.39, 0.48], [0.39, 0.38, 0.6])


def finished(*accuracies: list[float], precision: str, processor: str = "cpu") -> Group:
    given: dict[str, Any] = {"processor": processor, "precision": precision, "steps": 400}
    return make_group("held-out", "gpicl", accuracies, device=processor.upper(), **given)


def test_seeds_and_lifetimes_are_paired() -> None:
    full, mixed = finished(*BEFORE, precision="float32"), finished(*AFTER, precision="bfloat16")
    (table,) = sections([mixed, full])
    oracle = estimate(np.subtract(BEFORE, AFTER), True, None)
    ((split, learner, on, *numbers, seeds),) = table.rows
    assert (split, learner, on, seeds) == ("held-out", "gpicl", "CPU, bfloat16", 2)
    expected = [np.mean(BEFORE), np.mean(AFTER), -1.26 / 6, -oracle.high, -oracle.low]
    assert numbers == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [finished(*BEFORE, precision="float32", processor="cuda")],
        [finished(BEFORE[0], precision="float32")],
    ],
    ids=["nothing", "another device", "other seeds"],
)
def test_nothing_is_compared_with_what_is_not_its_like(others: list[Group]) -> None:
    assert sections([finished(*AFTER, precision="bfloat16"), *others]) == []
