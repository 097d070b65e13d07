"""Everything published is what today's code gives: one cell of each learner, one lifetime, the
first steps. `vsml-bench verify --replay` does the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsml_bench import paths
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.evaluation.replay import replay_cell

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 50


def one_of_each() -> dict[str, Path]:
    """Learner -> the smallest file of a cell of its that has scores, which is quick to replay."""
    found: dict[str, Path] = {}
    files = paths.results().glob("*/cells/*.json")
    for path in sorted(files, key=lambda path: (path.stat().st_size, path.name)):
        learner = path.name.split("--")[1]
        if learner not in found and '"status": "ok"' in path.read_text(encoding="utf-8"):
            found[learner] = path
    return dict(sorted(found.items()))


PUBLISHED = one_of_each()


def test_there_is_something_to_replay() -> None:
    assert {"vsml", "ridge", "sgd-linear", "gpicl", "chance"} <= set(PUBLISHED)


@pytest.mark.parametrize("learner", PUBLISHED)
def test_a_published_cell_replays(learner: str) -> None:
    path = PUBLISHED[learner]
    try:
        cell = load_cell(path)
    except VsmlBenchError as error:
        if "another version" not in str(error):
            raise
        pytest.skip(str(error))
    folders = (paths.results() / "checkpoints",)
    try:
        found = replay_cell(cell, cell.plan, folders, None, 1, STEPS, path.name)
    except UnavailableError as error:
        pytest.skip(str(error))
    if found.impossible:
        pytest.skip(found.impossible)
    assert not found.reason, found
