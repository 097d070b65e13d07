"""The tables and pictures of introspection, from cells made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.boards.factory import RECIPE, make_plan, run
from vsml_bench.boards.board import build_board
from vsml_bench.boards.drawing import to_files
from vsml_bench.boards.formats import to_markdown
from vsml_bench.boards.groups import Group, groups_of
from vsml_bench.boards.statistics import estimate
from vsml_bench.studies.introspection.board import SHOWN, Curve, curves, sections
from vsml_bench.studies.introspection.look import FIGURES, write_introspection
from vsml_bench.studies.introspection.protocol import (
    ACCURACY,
    CONFIDENCE,
    LAGS,
    OCCURRENCES,
    RESPONSES,
    moments,
)

LIFETIMES, STEPS = 3, 40
AT = moments(STEPS)


def of(learner: str, seed_values: Sequence[float], gone: Any = None) -> Group:
    """A learner whose traces are what `seed_values` says, one for each seed, and a little more from
    lifetime to lifetime; after is 0.1 above before. gone: index of trace values that are NaN."""
    cells = []
    for seed, value in enumerate(seed_values):
        base = value + 0.01 * np.arange(LIFETIMES, dtype=np.float32)
        level = np.repeat(base[:, None], OCCURRENCES, 1)
        level[:, 5:] = np.nan
        response = np.stack([base, base + 0.1], 1)[:, None, :, None].repeat(len(AT), 1)
        response = np.concatenate([response, response], -1)  # [lifetimes, moments, 2, 2]
        response = np.stack([response, response], 2)
        response[:, -1] = np.nan
        if gone is not None:
            level[gone] = np.nan
        traces = {CONFIDENCE: level, ACCURACY: level, **dict.fromkeys(RESPONSES, response)}
        recipe = RECIPE if len(seed_values) > 1 else None
        half = [0.5] * LIFETIMES
        plan = make_plan(learner=learner, seed=seed, steps=STEPS, recipe=recipe)
        cells.append(run(plan, half, traces=traces))
    (group,) = groups_of(cells)
    return group


BOTH = [of("vsml", [0.5, 0.6]), of("1-nn", [0.3])]


def only(found: Sequence[Curve], **fields: str) -> Curve:
    (curve,) = [c for c in found if all(getattr(c, k) == v for k, v in fields.items())]
    return curve


def test_curves_are_estimates_of_the_traces() -> None:
    found = curves(BOTH)
    level = only(found, learner="vsml", trace=CONFIDENCE)
    scores = np.array([[0.5, 0.51, 0.52], [0.6, 0.61, 0.62]])
    expected = estimate(scores, has_meta_parameters=True, of=None)
    assert level.at == tuple(range(1, OCCURRENCES + 1)) and level.part == "level"
    assert level.points[0] is not None
    assert level.points[0].mean == pytest.approx(expected.mean, abs=1e-6)
    assert level.points[0].low == pytest.approx(expected.low, abs=1e-5)
    assert level.points[0].high == pytest.approx(expected.high, abs=1e-5)
    assert level.points[5:] == (None,) * (OCCURRENCES - 5), "nobody has a number there"
    change = only(
        found, learner="1-nn", trace="same class", measure=ACCURACY, part="change", asked="at once"
    )
    assert change.at == AT and change.points[0] is not None and change.points[-1] is None
    assert change.points[0].mean == pytest.approx(0.1, abs=1e-6)
    assert change.points[0].low == pytest.approx(0.1, abs=1e-5)


def test_what_one_learner_lacks_is_no_number_and_no_mean_over_fewer() -> None:
    """Against lifetimes that nobody has a number in, which are left out for all."""
    lacking = of("sgd", [0.4], gone=(1, 0))
    alone, beside = curves([lacking]), curves([BOTH[0], lacking])
    point = only(alone, learner="sgd", trace=CONFIDENCE).points[0]
    assert point is not None and point.mean == pytest.approx(0.41)
    assert only(beside, learner="sgd", trace=CONFIDENCE).points[0] is None
    assert only(beside, learner="sgd", trace=CONFIDENCE).points[1] is not None


def test_the_tables_on_the_board() -> None:
    made = sections(BOTH)
    assert [s.title for s in made] == [
        "Confidence at the n-th example of a class",
        "Accuracy at the n-th example of a class",
        *(f"Response: {name}" for name in RESPONSES),
    ]
    for section in made:
        assert all(len(row) == len(section.headers) for row in section.rows)
    confidence, response = made[0], made[-1]
    assert confidence.headers[2:] == tuple(f"n = {n}" for n in SHOWN)
    assert confidence.rows[1][:3] == ("held-out", "1-nn", "0.310 ± 0.025")
    assert confidence.rows[1][-1] is None
    assert response.headers == ("split", "learner", "measure", "asked", *map(str, AT))
    assert response.rows[4][1:5] == (
        "1-nn",
        CONFIDENCE,
        "at once",
        "0.310 → 0.410 (+0.100 ± 0.000)",
    )
    kinds = product(("vsml", "1-nn"), LAGS, (CONFIDENCE, ACCURACY))
    assert [row[1:4] for row in response.rows] == [(of, m, lag) for of, lag, m in kinds]
    cells = [cell for finished in BOTH for cell in finished.cells]
    board = build_board("desk", cells, [cell.plan for cell in cells], study="introspection")
    assert [section.title for section in board.sections] == [s.title for s in made]
    assert "## Response: same class" in to_markdown(board)


def test_no_learner_has_finished() -> None:
    assert all(not section.rows for section in sections([]))


def test_pictures_and_data(tmp_path: Path) -> None:
    found = curves(BOTH)
    written = write_introspection(found, tmp_path / "a")
    assert [path.name for path in written] == [
        *("confidence.png", "confidence.svg", "introspection.csv", "introspection.json"),
        *("response.png", "response.svg", "twice.png", "twice.svg"),
    ]
    for path in written:
        data = path.read_bytes()
        if path.suffix == ".png":
            assert data.startswith(b"\x89PNG")
        if path.suffix == ".svg":
            text = data.decode()
            assert text.startswith("<svg") and "vsml" in text and "1-nn" in text
            assert "examples" in text and "probability" in text, "axes are labelled"
    again = to_files(FIGURES["confidence"](found).to_dict(), "confidence")
    assert again == {name: (tmp_path / "a" / name).read_bytes() for name in again}
    document = json.loads((tmp_path / "a" / "introspection.json").read_text("utf-8"))
    assert document[0]["points"][0]["mean"] == pytest.approx(0.56, abs=1e-6)
    assert document[0]["points"][-1] is None
    with (tmp_path / "a" / "introspection.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(curve.at) for curve in found)
    assert float(lines[0]["mean"]) == document[0]["points"][0]["mean"]
    assert lines[OCCURRENCES - 1]["mean"] == ""
