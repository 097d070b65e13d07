"""Cards that are read quickly, and what honest learners score without company."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asking import ask
from tests.faults.runs import HONEST, by_learner, run
from tests.harness import call, write_suite
from vsml_bench import cards
from vsml_bench.evaluation.cell import Cell


@pytest.fixture(scope="module")
def quick_cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of cards of its own, and processes that are quicker to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(cards, "_ask", ask)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, quick_cards: None) -> dict[str, Cell]:
    """The honest learners without company."""
    found, out = run(tmp_path_factory.mktemp("alone"), list(HONEST))
    assert found.code == 0, found
    return by_learner(out)


@pytest.fixture(scope="module")
def two_learners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite's file; its results are in `out` beside it."""
    folder = tmp_path_factory.mktemp("two")
    suite = write_suite(folder / "two.toml", ["digits-to-random"], ["chance", "majority"])
    command = ["run", "--suite", suite, "--out", folder / "out", "--quiet", "--jobs", 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "_ask", ask)
        assert call(*command, "--device", "cpu").code == 0
    return suite
