"""Meta-training through the command line: exact resumption, what is recorded, what is refused."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.harness import Outcome, call, refusal, tiny_recipe_options, write
from vsml_bench.config import as_plain, build
from vsml_bench.meta_training.checkpoint import load_checkpoint, save_checkpoint
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.schedule import at
from vsml_bench.registry import find_learner

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

BASE = ["meta-train", "--split", "digits-held-out", "--learner", "vsml", "--device", "cpu"]
# Enough updates that the kill, which follows the first checkpoint, always comes in mid-run.
KILLED = [
    *(*BASE, "--seed", "3", "--threads", "1", "--quiet"),
    *("--recipe", "lifetimes=2", "--recipe", "checkpoint_every=2", "--recipe", "size=4"),
    *("--recipe", "validate_every=7", "--recipe", "validation_lifetimes=1"),
    "--recipe",
    "phases=[{steps=30, lifetime=12, learning_rate=0.02}, "
    "{steps=20, lifetime=20, learning_rate=0.02, final_learning_rate=0.001}]",
]


def train(folder: Path, *more: object) -> Outcome:
    threads = [] if "--threads" in more else ["--threads", 1]
    return call(*BASE, *tiny_recipe_options(), *threads, "--out", folder, *more)


@pytest.mark.parametrize(
    "engine", [["--engine", "bptt"], ["--engine", "es", "--recipe", "pairs=3"]], ids=["bptt", "es"]
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, engine: list[str]) -> None:
    folder = tmp_path / "killed"
    options = [*KILLED, *engine]
    command = [sys.executable, "-m", "vsml_bench", *options, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(6000):
            if list(folder.glob("*.partial.safetensors")):
                break
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    (partial,) = folder.glob("*.safetensors")
    assert partial.name.endswith(".partial.safetensors")
    done = load_checkpoint(partial).document["steps"]
    assert 2 <= done < 50

    resumed = call(*options, "--out", folder)
    whole = call(*options, "--out", tmp_path / "whole")
    assert resumed.code == whole.code == 0, (resumed, whole)
    assert [p.name for p in folder.iterdir()] == [Path(whole.out.strip()).name]
    one, other = (load_checkpoint(Path(run.out.strip())) for run in (resumed, whole))
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    assert one.document["history"] == other.document["history"]
    assert [entry["step"] for entry in one.document["history"]] == [*range(7, 50, 7), 50]
    fresh = find_learner("vsml").create(seed=0).state_dict()
    assert not any(torch.equal(t, fresh[n]) for n, t in one.tensors.items() if "weight" in n)


def test_a_longer_recipe_takes_up_a_shorter_ones_end(tmp_path: Path) -> None:
    first = "{steps=4, lifetime=10, learning_rate=0.02}"
    second = "{steps=3, lifetime=15, learning_rate=0.02, fresh_optimizer=true, lifetimes=1}"
    both = f"phases=[{first}, {second}]"
    shorter = train(tmp_path / "taken-up", "--recipe", f"phases=[{first}]")
    taken_up = train(tmp_path / "taken-up", "--recipe", both)
    whole = train(tmp_path / "whole", "--recipe", both)
    start, one, other = (load_checkpoint(Path(r.out.strip())) for r in (shorter, taken_up, whole))
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    assert any(not torch.equal(t, start.tensors[n]) for n, t in one.tensors.items())
    assert one.document["begun_by"]["checkpoint"] == start.sha256
    assert one.document["begun_by"]["steps"] == 4 and one.document["steps"] == 7
    assert one.document["seconds"] > start.document["seconds"]
    assert other.document["begun_by"] is None
    moments_kept = both.replace(", fresh_optimizer=true", "")
    unrelated = train(tmp_path / "taken-up", "--recipe", moments_kept)
    assert load_checkpoint(Path(unrelated.out.strip())).document["begun_by"] is None


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(tmp_path / "out")
    path = Path(first.out.strip())
    inode = path.stat().st_ino
    assert train(tmp_path / "out").out == first.out and path.stat().st_ino == inode


def test_what_a_checkpoint_records(tmp_path: Path) -> None:
    run = train(tmp_path / "out", "--seed", 0, "--set", "feed_label=true")
    document = load_checkpoint(Path(run.out.strip())).document
    job = build(Job, document["job"], "job")
    assert document["identity"] == as_plain(job.identity())
    assert job.seed == 0 and job.learner.config["feed_label"] is True
    assert job.recipe is not None and job.recipe.steps == document["steps"] == 3
    assert len(document["first_losses"]) == 3
    assert document["threads"] == 1 and document["seconds"] > 0
    assert set(document["data_hashes"]) == {"digits"}
    assert document["versions"]["torch"]
    (last,) = document["history"]
    assert last["step"] == 3 and 0 <= last["validation_accuracy"] <= 1
    assert last["validation_loss"] == pytest.approx(math.log(10), abs=1.0)


def test_the_recorded_command_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["vsml-bench", "meta-train", "--out", str(tmp_path / "here")])
    document = load_checkpoint(Path(train(tmp_path / "out").out.strip())).document
    assert document["command"] == "vsml-bench meta-train --out here"


def test_seed_and_options_change_the_outcome(tmp_path: Path) -> None:
    def weights(*more: object) -> torch.Tensor:
        path = Path(train(tmp_path / "out", *more).out.strip())
        return torch.cat([t.flatten() for _, t in sorted(load_checkpoint(path).tensors.items())])

    runs = [weights(), weights("--seed", 1), weights("--recipe", "clip=0.001")]
    assert len(list((tmp_path / "out").iterdir())) == 3
    for index, one in enumerate(runs):
        for other in runs[:index]:
            assert not torch.equal(one, other)


def test_a_phase_with_fewer_classes_has_easier_tasks(tmp_path: Path) -> None:
    phases = "phases=[{steps=3, lifetime=12, learning_rate=0.01, classes=2}]"
    assert train(tmp_path, "--recipe", phases).code == 0
    (path,) = tmp_path.glob("*.safetensors")
    (last,) = load_checkpoint(path).document["history"]
    # a fresh VSML knows nothing, of two classes in training and of all ten in validation
    assert last["loss"] == pytest.approx(math.log(2), abs=0.1)
    assert last["validation_loss"] == pytest.approx(math.log(10), abs=0.1)
    few = train(tmp_path, "--recipe", phases.replace("classes=2", "classes=11"))
    assert "10" in refusal(few) and "11" in refusal(few)


def test_the_suites_recipe_is_used_on_request(tmp_path: Path) -> None:
    run = call(*BASE, "--suite", "smoke", "--out", tmp_path / "out", "--quiet")
    document = load_checkpoint(Path(run.out.strip())).document
    assert document["steps"] == 3 and document["job"]["recipe"]["lifetimes"] == 2


def test_progress_unless_quiet(tmp_path: Path) -> None:
    loud = train(tmp_path / "loud")
    assert "3/3" in loud.err and "validation loss" in loud.err + loud.out
    assert train(tmp_path / "quiet", "--quiet").err == ""


def test_a_training_that_diverges_says_so_and_leaves_no_result(tmp_path: Path) -> None:
    text = """
import torch
from vsml_bench.learner import Learner, NoConfig, Phase, Recipe
from vsml_bench.vsml.variants import VSML, VSMLConfig


class Overflowing(VSML):
    variants = {"overflowing": VSMLConfig()}
    recipe = Recipe(phases=(Phase(3, 10, 0.01),), lifetimes=2)

    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits * (float("inf") if len(inputs) > 2 else 1.0), state
"""
    learner = write(tmp_path / "overflowing.py", text)
    run = call(*BASE[:3], "--learner", learner, "--out", tmp_path / "out", "--quiet")
    said = refusal(run)
    assert "diverged at meta-update 0" in said and "lower the learning rate" in said
    assert not list((tmp_path / "out").iterdir())


def test_a_training_goes_on_where_a_validation_diverges(tmp_path: Path) -> None:
    text = """
import torch
from vsml_bench.vsml.variants import VSML, VSMLConfig


class Unsteady(VSML):
    variants = {"unsteady": VSMLConfig()}

    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits * (1.0 if torch.is_grad_enabled() else float("nan")), state
"""
    learner = write(tmp_path / "unsteady.py", text)
    options = ["--learner", learner, "--out", tmp_path, "--quiet", *tiny_recipe_options()]
    made = call(*BASE[:3], *options).out.strip()
    history = load_checkpoint(Path(made)).document["history"]
    assert [entry["validation_loss"] for entry in history] == [65504.0] * len(history)
    assert history[-1]["step"] == 3 and math.isfinite(history[-1]["loss"])


def test_a_learner_with_a_bar_leaves_nothing_to_be_warned_of(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    text = """
from tqdm import tqdm
from vsml_bench.vsml.variants import VSML, VSMLConfig


class Barred(VSML):
    variants = {"barred": VSMLConfig()}

    def unroll(self, state, inputs, labels):
        tqdm(range(2), disable=True)
        return super().unroll(state, inputs, labels)
"""
    learner = write(tmp_path / "barred.py", text)
    options = ["--learner", learner, "--out", tmp_path, "--quiet", *tiny_recipe_options()]
    command = [sys.executable, "-m", "vsml_bench", *BASE[:3], *map(str, options)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--recipe", "lifetimes=0"], "lifetimes: expected more than 0, found 0"),
        (["--recipe", "phases=[]"], "phases: expected at least one"),
        (["--recipe", "checkpoint_every=0"], "checkpoint_every: expected more than 0"),
        (["--recipe", "phases=[{steps=1,lifetime=300,learning_rate=1.0}]"], "shorten them"),
        (["--recipe", "phases=[{steps=1,lifetime=10,learning_rate=0}]"], "phases[0].learning_rate"),
        (["--recipe", "phases=[{steps=1,lifetim=10,learning_rate=1}]"], "did you mean 'lifetime'"),
        (["--recipe", "lifetims=1"], "did you mean 'lifetimes'"),
        (["--recipe", "lifetimes"], "write key=value"),
        (["--set", "tick=1"], "did you mean 'ticks'"),
        (["--threads", "0"], "a whole number from 1 on"),
        (["--suite", "smok"], "unknown suite 'smok'"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    tmp_path: Path, option: list[str], words: str
) -> None:
    assert words in refusal(train(tmp_path / "out", *option))
    assert not list(tmp_path.glob("out/*"))


def test_a_learner_without_anything_to_train_is_refused(tmp_path: Path) -> None:
    run = call(*BASE[:3], "--learner", "chance", "--out", tmp_path / "out")
    assert "no meta-parameters and nothing to tune" in refusal(run)


def test_another_trainings_partial_file_is_not_continued(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    finished = Path(train(folder).out.strip())
    checkpoint = load_checkpoint(finished)
    partial = finished.with_name(finished.name.replace(".safetensors", ".partial.safetensors"))
    finished.unlink()
    other = {**checkpoint.document, "data_hashes": {"digits": "0" * 64}}
    save_checkpoint(partial, checkpoint.tensors, other)
    kept = partial.read_bytes()
    assert "cannot be continued" in refusal(train(folder))
    assert partial.read_bytes() == kept and not finished.exists()


def test_a_damaged_partial_file_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    finished = Path(train(folder).out.strip())
    partial = finished.with_name(finished.name.replace(".safetensors", ".partial.safetensors"))
    finished.rename(partial)
    partial.write_bytes(partial.read_bytes()[:-40])
    kept = partial.read_bytes()
    assert "not a complete vsml-bench checkpoint" in refusal(train(folder))
    assert partial.read_bytes() == kept


def test_the_schedule_is_what_the_optimiser_follows(tmp_path: Path) -> None:
    """With a vanishing second phase, both recipes end in nearly the same meta-parameters."""
    phases = "phases=[{steps=3, lifetime=10, learning_rate=0.01}%s]"
    paths = [
        Path(train(tmp_path / "out", "--recipe", phases % more).out.strip())
        for more in ("", ", {steps=1, lifetime=10, learning_rate=1e-9}")
    ]
    one, other = (load_checkpoint(path).tensors for path in paths)
    recipe = find_learner("vsml").cls.recipe
    assert recipe is not None and at(recipe, 0)[1] > 1e-3
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-8, rtol=0)
