"""Tuning and artifacts: the grid is really searched, and a record counts only for its own job."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import LEARNER, cards_in, write
from vsml_bench import cards
from vsml_bench.config import as_plain
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import TuningGrid
from vsml_bench.meta_training.artifact import combinations, make_artifact, ready, tune
from vsml_bench.meta_training.checkpoint import load_artifact
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.registry import entry_of
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.storage import seal
from vsml_bench.suites import find_split

pytestmark = pytest.mark.usefixtures("one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)

TUNED = (
    LEARNER
    + """
from vsml_bench.learner import TuningGrid


@dataclass(frozen=True)
class TunedConfig:
    sharpness: float = 0.0
    shift: int = 0


class Tuned(Base):
    # Shows the label of the example before; a sharpness beyond float32 gives NaN logits, whose
    # argmax is 0 and may well be right.
    variants = {"tuned": TunedConfig()}
    tuning = TuningGrid(
        {"sharpness": (-1.0, 1.0, 1e39), "shift": (0, 1)}, lifetimes=2, steps=25
    )

    def predict(self, state, inputs):
        return state.logits * self.config.sharpness, state._replace(steps=state.steps + 1)

    def observe(self, state, labels):
        shifted = (labels + self.config.shift) % state.logits.shape[-1]
        onehot = torch.nn.functional.one_hot(shifted, state.logits.shape[-1])
        return state._replace(logits=onehot.to(state.logits))
"""
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Job:
    (card,) = cards_in(write(tmp_path_factory.mktemp("tuned") / "tuned.py", TUNED))
    return Job(card, find_split("digits-held-out").meta_train, 0, None)


@pytest.fixture(scope="module")
def tuned(given: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a finished tuning."""
    return tune(given, tmp_path_factory.mktemp("record"), EXECUTION, progress=False)


def test_combinations_are_all_and_in_order() -> None:
    grid = TuningGrid({"a": (1, 2), "b": ("x", "y")})
    assert list(combinations(grid)) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert list(combinations(TuningGrid())) == [{}]


def test_the_best_of_the_whole_grid_is_kept(given: Job, tmp_path: Path) -> None:
    shares: list[float] = []
    path = tune(given, tmp_path / "out", EXECUTION, progress=False, report=shares.append)
    record = load_artifact(path).document
    assert len(record["trials"]) == 6 and shares == pytest.approx([k / 6 for k in range(1, 7)])
    sampler = EpisodeSampler(given.side)
    by_hand = {}
    for trial in record["trials"]:
        learner = entry_of(given.learner).configured(trial["values"]).create(0)
        scores = evaluate(learner, sampler, lifetime_seeds(2, "tuning"), Online(25), EXECUTION)
        assert trial["accuracy"] == float(scores.correct.mean())
        if np.isfinite(scores.loss).all():
            by_hand[json.dumps(trial["values"])] = trial["accuracy"]
    assert len(by_hand) == 4
    assert by_hand[json.dumps(record["best"])] == max(by_hand.values())
    assert record["identity"] == as_plain(given.identity())

    inode = path.stat().st_ino
    assert tune(given, tmp_path / "out", EXECUTION) == path and path.stat().st_ino == inode


def test_a_diverged_trial_wins_only_where_all_diverged(given: Job, tmp_path: Path) -> None:
    infinite = TuningGrid({"sharpness": (1e39, -1.0)}, lifetimes=2, steps=20)
    odd = dataclasses.replace(given, learner=dataclasses.replace(given.learner, tuning=infinite))
    record = load_artifact(tune(odd, tmp_path / "one", EXECUTION, progress=False)).document
    assert record["best"] == {"sharpness": -1.0}
    diverged, finite = record["trials"]
    assert diverged["loss"] == "nan" and diverged["accuracy"] >= finite["accuracy"]


def test_ready_takes_what_the_record_says(given: Job, tuned: Path) -> None:
    assert given.makes_artifact
    data = EpisodeSampler(given.side).content_hashes
    with pytest.raises(VsmlBenchError, match="has not been meta-trained"):
        ready(given, None, data)
    folder = tuned.parent
    path = make_artifact(given, folder, EXECUTION, None, progress=False)
    assert path == tuned == artifact_path(folder, given)
    assert find_artifact(given, [folder / "none", folder]) == path
    assert find_artifact(given, [folder / "none"]) is None
    learner = ready(given, path, data)
    assert learner.tuned == load_artifact(path).document["best"] and learner.trials == 6
    assert learner.learner.config.sharpness == learner.tuned["sharpness"]
    with pytest.raises(VsmlBenchError, match=r"different: data\); delete it"):
        ready(given, path, {"digits": "0" * 64})
    other = dataclasses.replace(given, seed=1)
    with pytest.raises(VsmlBenchError, match=r"different: seed\)"):
        ready(other, path, data)


def test_a_floor_needs_nothing() -> None:
    floor = Job(cards.find_one("chance"), find_split("digits-held-out").meta_train, 0, None)
    assert not floor.makes_artifact
    made = ready(floor, None, {})
    assert made.sha256 is None and made.tuned == {}


@pytest.mark.parametrize("way", ["tampered", "torn", "pickle", "another record"])
def test_a_record_that_is_not_one_is_refused_and_kept(
    given: Job, tuned: Path, tmp_path: Path, way: str
) -> None:
    path = Path(shutil.copy(tuned, tmp_path))
    document = json.loads(path.read_text())
    document["best"]["sharpness"] = 7.0
    data = {
        "tampered": json.dumps(document).encode(),
        "torn": path.read_bytes()[:-30],
        "pickle": b"\x80\x04\x95.",
        "another record": seal({"anything": 1}),
    }[way]
    path.write_bytes(data)
    hashes = EpisodeSampler(given.side).content_hashes
    with pytest.raises(VsmlBenchError, match=given.name) as refused:
        ready(given, path, hashes)
    assert "\n" not in str(refused.value) and path.read_bytes() == data
    if way != "another record":  # which is intact, but somebody else's
        with pytest.raises(VsmlBenchError):
            load_artifact(path)
