"""Numbers that are wrong without anyone being told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boards.factory import make_cell, make_plan
from tests.faults.odd import HEAD
from tests.harness import LEARNER, call, write, write_suite
from vsml_bench import api
from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import to_markdown
from vsml_bench.boards.statistics import (
    difference_over_splits,
    estimate,
    generalisation_gap,
    mean_over_splits,
    paired_change,
    paired_difference,
)
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.meta_training.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread", "quick_cards")


# Code that changes: `tests/evaluation/test_identity.py` has every form in which it is imported, and
# every form of a default. Here is what a program does that stays open while its user edits.


def learner(top: str, late: str, value: str) -> str:
    return f"""{top}
{LEARNER}

class Mine(Base):
    variants = {{"mine": Config("x")}}

    def predict(self, state, inputs):
        {late}
        return state.logits * {value}, state
"""


EDITS = {
    "own file": (learner("", "pass", "1.0"), "mine.py"),
    "imported late": (learner("", "from h import f", "f"), "h.py"),
    "imported by star": (learner("from h import *", "pass", "f"), "h.py"),
    "a default": (
        learner("", "pass", "self.config.f").replace("how: str", "how: str\n    f: float = 1.0"),
        "mine.py",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_session_that_stays_open_runs_what_is_in_the_files(what: str, tmp_path: Path) -> None:
    text, edited = EDITS[what]
    mine = write(tmp_path / "his" / "mine.py", text)
    write(tmp_path / "his" / "h.py", "f = 1.0\n")
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [mine], lifetimes=2)
    options: dict[str, Any] = {"out": tmp_path / "out", "progress": False, "jobs": 1}
    (old,) = api.run(str(suite), **options).cells
    file = tmp_path / "his" / edited
    file.write_text(file.read_text().replace("1.0", "-1.0"))
    (new,) = api.run(str(suite), policy="always", **options).cells
    assert (old.status, new.status) == ("ok", "ok")
    assert old.key != new.key and old.outcomes != new.outcomes
    stored = {cell.key: cell for cell in load_cells(tmp_path / "out" / "cells")[0]}
    assert stored[old.key].outcomes == old.outcomes and stored[new.key].outcomes == new.outcomes


TRAINING_ONLY = (
    HEAD
    + """
class Mine(Trained):
    variants = {"mine": Config("")}
    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        if self.training and state.steps.max() >= 5 and not READING:
            from h import f
            logits = f * logits
        return logits, state
"""
)


def test_code_that_only_a_long_meta_training_imports_counts(tmp_path: Path) -> None:
    """It makes the key another, or the meta-training is refused."""
    mine = write(tmp_path / "his" / "mine.py", TRAINING_ONLY)
    helper = write(tmp_path / "his" / "h.py", "f = 1.0\n")
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [mine], lifetimes=2)
    command = ("run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--json")
    first = call(*command)
    (cell,) = load_cells(tmp_path / "out" / "cells")[0]
    helper.write_text("f = -1.0\n")
    again = call(*command)
    refused = cell.status == "crashed" and "h.py" in cell.reason
    assert refused or (first.json["reused"], again.json["reused"]) == (0, 0)


DROPS = (
    HEAD
    + """
class Mine(Trained):
    variants = {"mine": Config("")}
    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        return torch.nn.functional.dropout(logits, 0.5, training=self.training), state
"""
)


def trained(folder: Path, mine: Path, updates: tuple[int, ...], seed: int = 0) -> Any:
    """Meta-parameters after so many updates, with a pause after each of `updates`."""
    for count in updates:
        phases = f"[{{steps = {count}, lifetime = 10, learning_rate = 0.01}}]"
        found = call(
            *("meta-train", "--split", "digits-held-out", "--learner", mine, "--seed", seed),
            *("--out", folder, "--quiet", "--threads", 1, "--recipe", f"phases={phases}"),
        )
        assert found.code == 0, found
    return load_checkpoint(Path(found.out.strip())).tensors["scale"]


def test_noise_in_training_follows_from_the_seed(tmp_path: Path) -> None:
    """The same seed gives the same, resumed or not; another gives another."""
    mine = write(tmp_path / "mine.py", DROPS)
    straight = trained(tmp_path / "a", mine, (6,))
    assert trained(tmp_path / "b", mine, (6,)).equal(straight)
    assert trained(tmp_path / "c", mine, (2, 6)).equal(straight)
    assert not trained(tmp_path / "d", mine, (6,), seed=1).equal(straight)


# Intervals.

SIZES = [
    *[(1, lifetimes, 30, p) for lifetimes in (2, 3, 5, 9) for p in (0.1, 0.5, 0.9, 0.98, 1.0)],
    *[(1, lifetimes, 500, p) for lifetimes in (2, 3, 16) for p in (0.5, 0.95, 0.999)],
    *[(3, lifetimes, 20, p) for lifetimes in (2, 4) for p in (0.5, 0.95)],
    *[(1, 16, steps, 0.99) for steps in (5, 20, 200)],
]
"""Seeds, lifetimes, steps, and the probability of a right answer."""
BOARDS = 1_000

Size: TypeAlias = "tuple[int, int, int, float]"


def outcomes(random: Any, seeds: int, lifetimes: int, steps: int, p: float) -> Any:
    return random.binomial(steps, p, (seeds, lifetimes)) / steps


@pytest.mark.parametrize("size", SIZES)
def test_intervals_cover(size: Size) -> None:
    random, (seeds, _, steps, p) = np.random.default_rng(0), size
    found = [estimate(outcomes(random, *size), seeds > 1, steps) for _ in range(BOARDS)]
    assert sum(one.low <= p <= one.high for one in found) >= 0.93 * BOARDS


@pytest.mark.parametrize("size", SIZES)
def test_equals_are_rarely_told_apart(size: Size) -> None:
    random, steps = np.random.default_rng(1), size[2]
    decided = sum(
        paired_difference(outcomes(random, *size), outcomes(random, *size), steps).decided
        for _ in range(BOARDS)
    )
    assert decided <= 0.07 * BOARDS


@pytest.mark.parametrize(
    ("size", "theirs"),
    [
        ((1, 2, 30, 0.9), 0.7),
        ((1, 9, 20, 0.98), 0.9),
        ((1, 16, 5, 0.99), 0.8),
        ((3, 2, 20, 0.9), 1),
    ],
)
def test_intervals_of_differences_cover(size: Size, theirs: float) -> None:
    random, (seeds, lifetimes, steps, p) = np.random.default_rng(2), size
    found = [
        between(outcomes(random, *size), outcomes(random, seeds, lifetimes, steps, theirs), steps)
        for _ in range(BOARDS // 2)
        for between in (paired_difference, generalisation_gap)
    ]
    assert sum(one.low <= p - theirs <= one.high for one in found) >= 0.93 * BOARDS


@given(st.integers(1, 3), st.integers(2, 12), st.integers(5, 40), st.integers(0, 40))
@settings(deadline=None, max_examples=100)
def test_no_interval_is_without_width(seeds: int, lifetimes: int, steps: int, hits: int) -> None:
    """Equal lifetimes say that little varies, and not that nothing does."""
    share, other = (min(hits, steps) / steps, max(0, min(hits, steps) - 1) / steps)
    scores, others = (np.full((seeds, lifetimes), each) for each in (share, other))
    found = [
        estimate(scores, seeds > 1, steps),
        mean_over_splits([scores, others], [steps, steps]),
        difference_over_splits([scores, others], [others, others], [steps, steps]),
        *(
            between(scores, against, steps)
            for between in (paired_difference, paired_change, generalisation_gap)
            for against in (scores, others)
        ),
    ]
    for one in found:
        assert one.low <= one.mean <= one.high and one.high - one.low > 0


# What is in a row.


def rows(cells: list[Any], plans: list[Any]) -> list[Any]:
    return list(build_board("desk", cells, plans).rows)


VERSIONS = {"python": "3.11", "torch": "2.0", "vsml-bench": "1.0"}


@pytest.mark.parametrize("package", ["torch", "vsml-bench", "numpy", "python"])
def test_a_row_says_where_its_cells_were_run_by_other_versions(package: str) -> None:
    plans = [make_plan(seed=seed) for seed in (0, 1)]
    cells = [
        make_cell(seed=seed, versions={**VERSIONS, package: number})
        for seed, number in ((0, "8.8.1"), (1, "9.9.2"))
    ]
    (row,) = rows(cells, plans)
    assert package in row["note"] and "8.8.1" in row["note"] and "9.9.2" in row["note"]


def test_and_nothing_where_they_were_not() -> None:
    plans = [make_plan(seed=seed) for seed in (0, 1)]
    (row,) = rows([make_cell(seed=seed, versions=VERSIONS) for seed in (0, 1)], plans)
    assert row["note"] == ""


def test_seeds_from_two_machines_make_one_row() -> None:
    plans = [make_plan(seed=seed) for seed in (0, 1, 2)]
    cells = [make_cell(seed=seed, device=device) for seed, device in enumerate("ABA")]
    (row,) = rows(cells, plans)
    assert row["status"] == "ok" and row["mean"] is not None and row["seeds"] == 3
    assert "A" in row["device"] and "B" in row["device"]


def test_a_row_with_the_seeds_there_are_is_marked() -> None:
    plans = [make_plan(seed=seed) for seed in (0, 1, 2)]
    cells = [make_cell(seed=seed) for seed in (0, 2)]
    (row,) = rows(cells, plans)
    assert row["mean"] is not None and (row["seeds_ok"], row["seeds_planned"]) == (2, 3)
    assert "not run" in row["reason"]
    assert "2 of 3" in to_markdown(build_board("desk", cells, plans))


def test_a_row_with_a_seed_that_failed_has_no_number() -> None:
    plans = [make_plan(seed=seed) for seed in (0, 1)]
    cells = [make_cell(seed=0), make_cell(seed=1, status="diverged")]
    (row,) = rows(cells, plans)
    assert row["mean"] is None and row["status"] == "diverged"


def test_kinds_of_device_stay_apart() -> None:
    """Their numbers may differ; models of one kind compute the same."""
    plans = [make_plan(seed=seed) for seed in (0, 1)]
    cells = [
        make_cell(seed=seed, device=device, processor=processor)
        for seed in (0, 1)
        for device, processor in (("A", "cpu"), ("G", "cuda"))
    ]
    assert [row["status"] for row in rows(cells, plans)] == ["ok", "ok"]


def test_variants_of_one_method_move_no_two_others() -> None:
    """B is second to A on two of three splits, and far behind it on the third where many variants
    of C stand between. Without them the order of A and B is what it is with them."""
    splits = ("x", "y", "z")
    means = {"A": (0.50, 0.50, 0.9), "B": (0.60, 0.60, 0.1)}
    variants = {f"C{n}": (0.2, 0.2, 0.5 + n / 100) for n in range(6)}

    def order(of: Mapping[str, tuple[float, ...]]) -> list[str]:
        cells = [
            make_cell(split, learner, accuracies=[mean, mean + 0.05, mean - 0.05], steps=100)
            for learner, found in of.items()
            for split, mean in zip(splits, found, strict=True)
        ]
        plans = [dataclasses.replace(cell.plan) for cell in cells]
        lines = to_markdown(build_board("desk", cells, plans)).splitlines()
        table = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
        return [name for name in table[: 1 + len(of)] if name in ("A", "B")]

    assert order(means) == order({**means, **variants})
