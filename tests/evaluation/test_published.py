"""Everything published is what today's code gives: one cell of each learner, one lifetime, the
first steps. `vsml-bench verify --replay` does the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsml_bench import api, cards, paths
from vsml_bench.errors import UnavailableError
from vsml_bench.evaluation.cell import Cell, load_cell
from vsml_bench.evaluation.replay import replay_cell
from vsml_bench.meta_training.job import find_artifact

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 50


def cells_of_each() -> dict[str, list[Path]]:
    """Learner -> files of its cells that have scores, the smallest first, which are quick."""
    found: dict[str, list[Path]] = {}
    files = paths.results().glob("*/cells/*.json")
    for path in sorted(files, key=lambda path: (path.stat().st_size, path.name)):
        if '"status": "ok"' in path.read_text(encoding="utf-8"):
            found.setdefault(path.name.split("--")[1], []).append(path)
    return dict(sorted(found.items()))


PUBLISHED = cells_of_each()


def test_there_is_something_to_replay() -> None:
    assert {"vsml", "ridge", "sgd-linear", "gpicl", "chance"} <= set(PUBLISHED)


def test_a_run_finds_what_is_published_for_its_suite_alone() -> None:
    folders = api.made_before("transfer")
    found = {find_artifact(plan.job, folders) for plan in api.plan("transfer")}
    kept = {*paths.results().glob("transfer/checkpoints/*.safetensors")}
    assert kept and kept <= found


def is_stale(cell: Cell) -> bool:
    """Whether its learner or its data have another version today: the board lists it apart."""
    card = cards.shipped().get(cell.plan.learner)
    changed = card is not None and card.version != cell.plan.job.learner.version
    return changed or cell.key != cell.plan.key


@pytest.mark.parametrize("learner", PUBLISHED)
def test_a_published_cell_replays(learner: str) -> None:
    reason = ""
    for path in PUBLISHED[learner]:
        folders = (paths.results() / "checkpoints", path.parents[1] / "checkpoints")
        cell = load_cell(path)
        if is_stale(cell):
            reason = reason or "all its cells are stale, and are to be run again"
            continue
        try:
            found = replay_cell(cell, cell.plan, folders, None, [0], STEPS)
        except UnavailableError as error:  # its data are not here; those of the next may be
            reason = str(error)
            continue
        if not found.impossible:
            assert not found.reason, found
            return
        reason = found.impossible
    pytest.skip(reason)
