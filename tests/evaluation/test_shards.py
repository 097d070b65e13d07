"""Parts of a suite that different machines run, and runs with little of every budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.harness import write_suite
from vsml_bench import api
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import Executor
from vsml_bench.evaluation.sharing import shard_of
from vsml_bench.evaluation.tasks import Task, function_named
from vsml_bench.recipes import ES, Phase, Recipe, TuningGrid
from vsml_bench.suites import find_suite, scaled


@dataclass(frozen=True)
class Here(Executor):
    """Does all work in this process."""

    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            function = function_named(task.function)
            yield task.what, function(*task.arguments, lambda share: None)


@pytest.mark.parametrize("count", [1, 3, 20, 2_000])
def test_each_cell_is_in_one_shard_and_shards_are_equal(count: int) -> None:
    plans = api.plan("desk")
    shards = [shard_of(plans, k + 1, count) for k in range(count)]
    found = sorted(plan.key for shard in shards for plan in shard)
    assert found == sorted(plan.key for plan in plans)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert shard_of(plans[::-1], 1, count) == shards[0][::-1]


def test_a_shard_that_there_is_not() -> None:
    for number, count in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(VsmlBenchError, match="expected a number from 1 to that of all shards"):
            shard_of([], number, count)


@pytest.mark.usefixtures("nothing_here", "one_thread")
def test_shards_in_one_folder_are_the_whole_run(tmp_path: Path) -> None:
    """Also where cells of several of them need the same tuning, which is done once."""
    splits = ["digits-held-out", "digits-to-random"]
    learners = ["chance", "majority", "ridge"]
    suite = str(write_suite(tmp_path / "s.toml", list(splits), list(learners), lifetimes=2))
    chosen: dict[str, Any] = {"device": "cpu", "executor": Here()}
    whole = api.run(suite, out=tmp_path / "whole", **chosen)
    parts = [api.run(suite, out=tmp_path / "parts", shard=(k, 3), **chosen) for k in (3, 1, 2)]
    assert [len(part.cells) for part in parts] == [2, 2, 2] and len(whole.cells) == 6
    hashes = {api.board(suite, tmp_path / name).board_hash for name in ("whole", "parts")}
    assert len(hashes) == 1
    assert len(list((tmp_path / "parts/checkpoints").iterdir())) == 1


def test_every_budget_is_scaled_and_something_is_left() -> None:
    recipe = Recipe((Phase(2_000, 50, 0.1), Phase(10, 50, 0.1)), engine=ES(pairs=1_024))
    small = recipe.scaled(0.01)
    assert [phase.steps for phase in small.phases] == [20, 1]
    assert [phase.lifetime for phase in small.phases] == [50, 50]
    assert isinstance(small.engine, ES) and small.engine.pairs == 10
    assert recipe.scaled(1.0) == recipe
    grid = TuningGrid({"rate": (1.0, 2.0)}, 8, 2_000)
    assert grid.scaled(0.01) == replace(grid, lifetimes=1, steps=20)
    paper = find_suite("paper")
    least = scaled(paper, 0.001)
    assert (least.lifetimes, least.steps) == (2, 10)
    assert (scaled(paper, 0.5).lifetimes, scaled(paper, 0.5).steps) == (16, 1_000)
    assert scaled(paper, 1.0) is paper


@pytest.mark.parametrize("suite", ["smoke", "desk", "paper"])
def test_what_is_scaled_has_keys_of_its_own(suite: str) -> None:
    whole, small = api.plan(suite), api.plan(suite, scale=0.01)
    assert [plan.place for plan in small] == [plan.place for plan in whole]
    assert {plan.key for plan in small}.isdisjoint(plan.key for plan in whole)
    made = [{p.job.key for p in plans if p.job.makes_artifact} for plans in (whole, small)]
    assert made[0].isdisjoint(made[1])
    assert {plan.suite for plan in small} == {f"{suite}-scaled-0.01"}
    assert all("scaled by 0.01" in plan.note for plan in small)
    assert not any(plan.note for plan in whole)
