"""The invariance card against numbers worked out by hand, and its picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.boards.factory import RECIPE, make_group
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import estimate, generalisation_gap
from vsml_bench.recipes import Recipe
from vsml_bench.studies import Section
from vsml_bench.studies.robustness.board import COLUMNS, NUMBERS, pictures, sections

HOME = "r/unchanged"
OWN, OTHER = {"meta_train": 0, "meta_test": [1, 2, 3]}, {"meta_train": 0, "meta_test": [4, 5, 6]}


def finished(
    split: str,
    *accuracies: list[float],
    learner: str = "vsml",
    seeds: Any = OWN,
    processor: str = "cpu",
    first: int = 0,
    recipe: Recipe | None = RECIPE,
    steps: int = 400,
) -> Group:
    return make_group(
        split,
        learner,
        accuracies,
        first_seed=first,
        seeds=seeds,
        device=processor.upper(),
        processor=processor,
        recipe=recipe,
        steps=steps,
        unchanged="" if split == HOME else HOME,
    )


def numbers(found: list[Section]) -> list[dict[str, Any]]:
    (section,) = [s for s in found if s.title == NUMBERS]
    assert section.headers == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in section.rows]


BEFORE = ([0.5, 0.6, 0.7], [0.6, 0.6, 0.8])
AFTER = ([0.4, 0.45, 0.6], [0.5, 0.5, 0.65])


def test_the_same_lifetimes_are_paired() -> None:
    found = sections([finished(HOME, *BEFORE), finished("r/inverted", *AFTER)])
    (row,) = numbers(found)
    oracle = estimate(np.subtract(BEFORE, AFTER), True, None)
    assert row["paired"] == "yes" and row["seeds"] == 2
    assert row["unchanged"] == pytest.approx(np.mean(BEFORE), abs=1e-9)
    assert row["changed"] == pytest.approx(np.mean(AFTER), abs=1e-9)
    assert row["difference"] == pytest.approx(-0.35 / 3, abs=1e-9)
    assert (row["low"], row["high"]) == pytest.approx((-oracle.high, -oracle.low), abs=1e-9)
    (matrix,) = [s for s in found if s.title == f"Invariance card: against {HOME}"]
    half = 50 * (oracle.high - oracle.low)
    assert matrix.headers == ("learner", "unchanged", "inverted")
    shown = f"-11.7 ± {half:.1f}"
    bold = f"**{shown}**" if oracle.low > 0 else shown
    assert matrix.rows == (("vsml", "63.3", bold),)


def test_other_lifetimes_are_not_paired() -> None:
    (row,) = numbers(sections([finished(HOME, *BEFORE), finished("r/x", *AFTER, seeds=OTHER)]))
    oracle = generalisation_gap(np.array(AFTER), np.array(BEFORE), None)
    assert row["paired"] == "no"
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (oracle.mean, oracle.low, oracle.high), abs=1e-9
    )


def test_no_change_is_near_zero_and_one_seed_is_marked() -> None:
    rows = [
        finished(split, [0.5, 0.6, 0.7], learner=name, recipe=RECIPE if name == "vsml" else None)
        for split in (HOME, "r/x")
        for name in ("vsml", "sgd")
    ]
    found = sections(rows)
    assert found[0].rows == (("vsml", "60.0", "+0.0 ± 0.3 †"), ("sgd", "60.0", "+0.0 ± 0.3"))


def test_over_as_many_steps_as_both_have() -> None:
    # Right answers come last: of 20 steps at 0.6 the first 10 have 2 right ones.
    home = finished(HOME, [0.6, 0.6], steps=20)
    short = finished("r/x", [0.5, 0.5], steps=10, seeds=OTHER)
    found = sections([home, short])
    (row,) = numbers(found)
    assert (row["unchanged"], row["changed"], row["difference"]) == (0.2, 0.5, 0.3)
    assert found[0].rows == (("vsml", "60.0", "**+30.0 ± 26.4 †**"),)


def test_what_has_no_counterpart_has_no_number() -> None:
    assert sections([]) == []
    assert sections([finished("r/x", *AFTER)]) == []
    home = finished(HOME, *BEFORE)
    assert sections([home, finished("r/x", *AFTER, processor="cuda")]) == []
    assert sections([home, finished("r/x", *AFTER, first=7)]) == []
    assert sections([home, finished("r/x", *AFTER, learner="sgd")]) == []


def test_missing_fields_are_empty_and_the_order_is_the_planned_one() -> None:
    found = sections(
        [
            *(finished(HOME, *BEFORE, learner=name) for name in ("b", "a")),
            *(finished("r/z", *AFTER, learner=name) for name in ("b", "a")),
            finished("r/y", *AFTER, learner="a"),
        ]
    )
    matrix = found[0]
    assert matrix.headers[2:] == ("z", "y")
    assert [row[0] for row in matrix.rows] == ["b", "a"]
    assert matrix.rows[0][3] is None and matrix.rows[1][3] is not None
    assert len(numbers(found)) == 3


def test_devices_have_rows_of_their_own() -> None:
    rows = [
        finished(split, *BEFORE, processor=processor)
        for split in (HOME, "r/x")
        for processor in ("cpu", "cuda")
    ]
    assert [row["learner"] for row in numbers(sections(rows))] == ["vsml (cpu)", "vsml (CUDA)"]


def test_the_picture_has_every_number_and_is_the_same_every_time() -> None:
    rows = [
        *(finished(HOME, *BEFORE, learner=name) for name in ("vsml", "sgd")),
        finished("r/inverted", *AFTER),
        finished("r/noise", [0.2, 0.3, 0.2], [0.3, 0.3, 0.2], learner="sgd"),
    ]
    found = sections(rows)
    drawn = pictures(found)
    assert sorted(drawn) == ["card.png", "card.svg"]
    assert drawn["card.png"].startswith(b"\x89PNG")
    text = drawn["card.svg"].decode()
    for words in ("vsml", "sgd", "inverted", "noise", HOME, "-11.7", "-38.3"):
        assert words in text, words
    assert "Liberation Sans" in text, "measured with fonts of its own"
    assert pictures(found) == drawn


@pytest.mark.parametrize(
    "reference", ["here/r.toml", "here/all.toml:r", "r"], ids=["a file", "a grid", "a name"]
)
def test_the_unchanged_split_may_be_a_users_own(reference: str) -> None:
    changed = make_group("r/x", accuracies=AFTER, unchanged=reference, device="CPU", seeds=OWN)
    assert changed.unchanged == "r"
    (row,) = numbers(sections([finished("r", *BEFORE), changed]))
    assert row["against"] == "r"


def test_without_numbers_there_is_no_picture() -> None:
    assert pictures([]) == pictures([Section("Seeds", "", ("a",), ((1,),))]) == {}
