"""The tool that scores one initialisation through our MAML and through learn2learn's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.harness import call, write_few_shot
from tools.compare_with_learn2learn import compare
from vsml_bench import api
from vsml_bench.errors import VsmlBenchError

pytestmark = [
    pytest.mark.usefixtures("nothing_here", "one_thread"),
    pytest.mark.skipif(
        importlib.util.find_spec("learn2learn") is None, reason="learn2learn is not installed"
    ),
]

TRAINED = """shots = 2
queries = 3
[recipes.maml]
phases = [{steps = 20, lifetime = 15, learning_rate = 0.003}]
lifetimes = 4
"""


def test_a_meta_trained_initialisation_answers_alike(tmp_path: Path) -> None:
    suite = write_few_shot(tmp_path, ["maml"], more=TRAINED)
    run = call("run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--device", "cpu")
    assert run.code == 0, run
    (plan,) = api.plan(str(suite))
    ours, theirs, differing, count = compare(plan, tmp_path / "out" / "checkpoints", 8)
    assert (differing, count) == (0, 8 * 12) and ours == theirs
    assert ours > 0.5  # of four classes: it has learned something that could differ

    with pytest.raises(VsmlBenchError, match="has not been meta-trained"):
        compare(plan, tmp_path / "nowhere", 8)
