"""Few-shot suites from their file to their board: identity, refusals, meta-training, tuning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data import omniglot_files
from tests.harness import LEARNER, Outcome, call, refusal, write, write_few_shot, write_split
from vsml_bench import api, cards
from vsml_bench.api import meta_training_job
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.evaluation.plan import Plan, plan_suite
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.worker import inspect
from vsml_bench.evaluation.worker import test as run_cell
from vsml_bench.execution import Execution
from vsml_bench.learner import Phase
from vsml_bench.meta_training.checkpoint import load_artifact, load_checkpoint
from vsml_bench.meta_training.loop import meta_train
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.suites import Suite, find_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

TUNED = (
    LEARNER.replace("import Learner", "import Learner, TuningGrid")
    + """
class Sure(Base):
    # More or less sure of the class that it was born with.
    variants = {"sure": Config("little")}
    tuning = TuningGrid({"how": ("little", "very")}, lifetimes=3, steps=10)

    def predict(self, state, inputs):
        return state.logits * (9.0 if self.config.how == "very" else 1.0), state


class OnlineOnly(Base):
    variants = {"online-only": Config("")}
    protocols = frozenset({"online"})
"""
)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("mine") / "mine.py", TUNED)


def planned(suite: Path | Suite) -> dict[str, Plan]:
    found = suite if isinstance(suite, Suite) else find_suite(str(suite))
    plans = plan_suite(found, cards.find_all(found.learners))
    return {plan.learner: plan for plan in plans}


def setting(root: Path) -> Setting:
    return Setting((root / "nothing",), root, "cpu", "", ("", False))


def test_from_a_suite_to_its_board(tmp_path: Path, mine: Path) -> None:
    learners = ["vsml", "1-nn", "chance", f"{mine}:Sure"]
    suite = write_few_shot(tmp_path, list(learners))
    out = ["--out", tmp_path / "out", "--jobs", 1, "--device", "cpu"]
    run = call("run", "--suite", suite, *out, "--json")
    assert run.code == 0, run
    assert {cell["status"] for cell in run.json["cells"]} == {"ok"}
    again = call("run", "--suite", suite, *out, "--json")
    assert again.json["reused"] == 4

    cells = {cell.plan.learner: cell for cell in load_cells(tmp_path / "out" / "cells")[0]}
    for cell in cells.values():
        assert cell.plan.protocol.name == "few_shot" and cell.correct.shape == (8, 12)
    seeds = [cell.provenance.seeds["meta_test"] for cell in cells.values()]
    assert all(found == seeds[0] for found in seeds) and len(set(seeds[0])) == 8
    recipe = cells["vsml"].plan.job.recipe
    assert recipe is not None and recipe.phases == (Phase(3, 15, 0.01),)  # 3 x (2 + 3) examples

    board = call("leaderboard", "--suite", suite, "--results", tmp_path / "out", "--format", "json")
    rows: dict[str, Any] = {row["learner"]: row for row in board.json["rows"]}
    for row in rows.values():
        assert row["metric"] == "accuracy" and row["status"] == "ok"
        assert row["early"] is row["final"] is None
        assert (row["lifetimes"], row["steps"]) == (8, 12)
    assert rows["1-nn"]["mean"] > 0.5 and rows["1-nn"]["rank"] == 1
    assert rows["chance"]["mean"] == 0.25  # one guess for all balanced queries of an episode
    command = ["leaderboard", "--suite", suite, "--results", tmp_path / "out"]
    shown = call(*command, "--format", "markdown").out
    assert "Accuracy in % over all queries of an episode" in shown
    assert "| episodes " in shown and "| queries " in shown
    assert "first 100" not in shown and "umulative" not in shown

    (record,) = (tmp_path / "out" / "checkpoints").glob("sure--*.json")
    document = load_artifact(record).document
    assert document["identity"]["episodes"]["numbers"] == {"ways": 3, "shots": 2, "queries": 3}
    assert len(document["trials"]) == 2


def train(suite: Path, folder: Path, *more: object) -> Outcome:
    command = ["meta-train", "--split", suite.parent / "few.toml", "--suite", suite]
    options = ["--learner", "vsml", "--device", "cpu", "--threads", 1, "--quiet", "--out", folder]
    return call(*command, *options, *more)


def test_a_resumed_meta_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    suite = write_few_shot(tmp_path, ["vsml"])
    often = {"checkpoint_every": 2, "validate_every": 2}
    job = meta_training_job(str(tmp_path / "few.toml"), "vsml", 0, str(suite), often)
    execution = Execution(torch.device("cpu"), 1)

    def interrupt(share: float) -> None:
        if share == 1.0:
            raise KeyboardInterrupt

    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        meta_train(job, folder, execution, progress=False, report=interrupt)
    (partial,) = folder.glob("*.partial.safetensors")
    assert load_checkpoint(partial).document["steps"] == 2
    paths = [
        meta_train(job, where, execution, progress=False) for where in (folder, tmp_path / "whole")
    ]
    one, other = map(load_checkpoint, paths)
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    assert one.document["history"] == other.document["history"]
    assert [entry["step"] for entry in one.document["history"]] == [2, 3]
    episodes = one.document["identity"]["episodes"]
    assert episodes["numbers"] == {"ways": 3, "shots": 2, "queries": 3}


def test_lifetimes_of_a_recipe_have_no_effect(tmp_path: Path) -> None:
    suite, split = str(write_few_shot(tmp_path, ["vsml"])), str(tmp_path / "few.toml")
    jobs = [
        meta_training_job(split, "vsml", 0, suite, {"phases": (Phase(1, lifetime, 0.01),)})
        for lifetime in (1, 5000)
    ]
    assert jobs[0].key == jobs[1].key and jobs[0].recipe == jobs[1].recipe


def test_keys_depend_on_the_protocol(tmp_path: Path) -> None:
    suite = find_suite(str(write_few_shot(tmp_path, ["vsml", "sgd-linear", "1-nn"])))
    before = planned(suite)
    episodes = before["1-nn"].job.episodes
    assert episodes is not None and episodes.instance() == FewShot(3, 2, 3)
    assert before["1-nn"].protocol.instance() == FewShot(4, 2, 3)
    for field in ("shots", "queries", "lifetimes"):
        after = planned(dataclasses.replace(suite, **{field: 4}))  # type: ignore[arg-type]
        expected = {"lifetimes"} if field == "lifetimes" else {"protocol", "meta_training"}
        for name, plan in after.items():
            was = before[name].identity()
            assert {p for p, found in plan.identity().items() if was[p] != found} == expected
    online = dataclasses.replace(suite, protocol="online", shots=None, queries=None)
    for name, plan in planned(online).items():
        assert plan.job.episodes is None and plan.job.key != before[name].job.key
        assert plan.meta_test_seeds() == before[name].meta_test_seeds()


def test_a_fixed_list_is_run_once_and_in_order(tmp_path: Path) -> None:
    omniglot_files.write_runs(tmp_path / "data/omniglot/all_runs", runs=3, characters=4)
    split = write_split(
        tmp_path / "runs.toml", "omniglot_runs", relation="unseen_dataset", more="classes = 4"
    )
    split.write_text(split.read_text().replace("\n[meta_test]", "\nclasses = 4\n[meta_test]"))
    suite = write_few_shot(tmp_path, ["1-nn"], split=split, more="shots = 1\nqueries = 1")
    cell = run_cell(planned(suite)["1-nn"], setting(tmp_path / "data"))
    assert cell.outcomes is not None and cell.outcomes.correct.shape == (3, 4), cell.reason
    assert cell.provenance.seeds["meta_test"] == [0, 1, 2]
    online = dataclasses.replace(
        find_suite(str(suite)), protocol="online", shots=None, queries=None
    )
    with pytest.raises(VsmlBenchError, match="fixed list of few-shot episodes; use it in a suite"):
        inspect((planned(online)["1-nn"],), setting(tmp_path / "data"), lambda share: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"more": "shots = 2"}, "queries: few_shot needs at least 1, found none"),
        ({"more": "shots = 0\nqueries = 3"}, "shots: few_shot needs at least 1, found 0"),
        (
            {"more": "shots = 2\nqueries = 3\nsteps = 50"},
            "steps: the protocol 'few_shot' has none; leave it out",
        ),
        ({"test": ""}, "meta_test of 'few' does not say how many classes a task has"),
        ({"train": ""}, "meta_train does not say how many classes a task has"),
        ({"test": "classes = 11"}, "asks for 11 classes of dataset 'digits'"),
        ({"more": "shots = 2\nqueries = 300"}, "episodes with 2 support and 300 query"),
    ],
)
def test_suites_that_make_no_sense(tmp_path: Path, change: dict[str, str], words: str) -> None:
    suite = write_few_shot(tmp_path, ["1-nn"], **change)
    said = refusal(call("run", "--suite", suite, "--out", tmp_path / "out", "--quiet"))
    assert words in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_shots_belong_to_few_shot(tmp_path: Path) -> None:
    suite = write_few_shot(tmp_path, ["1-nn"])
    suite.write_text(suite.read_text().replace('protocol = "few_shot"\n', ""))
    assert "shots: the protocol 'online' has none" in refusal(call("run", "--suite", suite))


@pytest.mark.parametrize("verb", ["run", "meta-train"])
def test_a_learner_for_another_protocol_is_refused(tmp_path: Path, mine: Path, verb: str) -> None:
    suite = write_few_shot(tmp_path, ["1-nn"])
    command = ["run"] if verb == "run" else ["meta-train", "--split", tmp_path / "few.toml"]
    said = refusal(call(*command, "--suite", suite, "--learner", f"{mine}:OnlineOnly"))
    assert "'online-only' cannot be run in suite 'tiny', whose protocol is 'few_shot'" in said


def test_too_few_classes_to_hold_some_out(tmp_path: Path) -> None:
    suite = write_few_shot(tmp_path, ["vsml"], train="classes = 6\n")
    said = refusal(train(suite, tmp_path / "out"))
    assert "6-way few-shot meta-training" in said and "12 are needed" in said


@pytest.mark.parametrize("name", ["omniglot", "omniglot-runs"])
def test_the_shipped_suites_are_sound(name: str, tmp_path: Path) -> None:
    """Without their data the cells are planned as unavailable, each with what is missing."""
    suite = find_suite(name)
    plans = api.plan(name, learners=["1-nn"])
    assert [plan.split.name for plan in plans] == list(suite.splits)
    for plan in plans:
        with pytest.raises(UnavailableError, match="is not here"):
            inspect((plan,), setting(tmp_path), lambda share: None)
        assert plan.split.relation in ("unseen_classes", "same_tasks")
        assert plan.split.meta_train.classes == plan.split.meta_test.classes
