from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.boards.factory import make_cell
from vsml_bench.boards.groups import groups_of
from vsml_bench.evaluation.cell import Cell
from vsml_bench.studies.cloning.board import sections

LIFETIMES, STEPS, WINDOWS = 2, 100, 10


def cell(seed: int, right: int, reference: list[float], **traces: Any) -> Cell:
    """Each lifetime is right in its first `right` steps, true backpropagation as often as said."""
    correct = np.tile(np.arange(STEPS) < right, (LIFETIMES, 1))
    shape = (LIFETIMES, WINDOWS)
    constant = {
        "perturbed_accuracy": np.repeat(np.array(reference)[:, None], WINDOWS, 1),
        "reference_accuracy": np.repeat(np.array(reference)[:, None], WINDOWS, 1),
        "update_correlation": np.full(shape, 0.9),
        "update_error": np.full(shape, 0.1),
        "change_correlation": np.linspace([0.2, 0.2], [0.96, 0.98], WINDOWS).T,
        "largest_weight": np.full(shape, 1.5),
        "reference_largest_weight": np.full(shape, 1.0),
        "drift": np.linspace([0.0, 0.0], [0.01, 0.03], 10).T,
    }
    return make_cell("digits", "clone-1", seed, correct, traces={**constant, **traces})


def test_the_comparison_is_over_seeds_and_streams() -> None:
    perturbed = np.full((LIFETIMES, WINDOWS), 0.42)
    cells = (cell(0, 60, [0.5, 0.5]), cell(1, 60, [0.8, 0.4], perturbed_accuracy=perturbed))
    comparison, *_ = sections(groups_of(cells))
    (row,) = comparison.rows
    found = dict(zip(comparison.headers, row, strict=True))
    assert found.pop("split") == "digits" and found.pop("learner") == "clone-1"
    assert found == pytest.approx(
        {
            "accuracy": 60.0,
            "true": 55.0,
            "gap": -5.0,
            "worst gap": 20.0,
            "yardstick": 38.0,
            "updates": 0.9,
            "update error": 0.1,
            "change": 0.97,
            "least change": 0.96,
            "drift": 0.03,
            "largest": 1.5,
        }
    )


def test_seeds_stand_beside_one_another_with_their_run_away_streams() -> None:
    large = np.tile(np.array([1.9, 2.1])[:, None], WINDOWS)
    cells = (cell(0, 60, [0.5, 0.5]), cell(4, 60, [0.8, 0.4], largest_weight=large))
    _, by_seed, _ = sections([*groups_of(cells), *groups_of(cells[:1])])
    first, second = (dict(zip(by_seed.headers, row, strict=True)) for row in by_seed.rows)
    assert (first["seed"], second["seed"]) == (0, 4)
    assert (first["gap"], second["gap"]) == pytest.approx((-10.0, 0.0), abs=1e-5)
    assert (first["run away"], second["run away"], second["streams"]) == (0, 1, 2)
    assert second["largest"] == pytest.approx(2.1)
    alone = sections(groups_of(cells[:1]))
    assert [section.title for section in alone] == ["Beside the true algorithm", "Along the way"]


def test_curves_are_in_tenths() -> None:
    reference = np.tile(np.arange(WINDOWS) / 10, (LIFETIMES, 1))
    cells = (cell(0, 65, [0.5, 0.5], reference_accuracy=reference),)
    *_, curves = sections(groups_of(cells))
    learner, true, updates = (row[3:] for row in curves.rows)
    assert learner == pytest.approx([100.0] * 6 + [50.0] + [0.0] * 3)
    assert true == pytest.approx([10.0 * k for k in range(10)])
    assert updates == pytest.approx([0.9] * 10)
