"""Every option of the command line has an effect; what is printed is what is promised.

Boards are in `test_cli_boards.py`; `run` and `meta-train` have further tests in
`evaluation/test_runner.py` and `meta_training/test_loop.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import vsml_bench
from tests.conftest import Finished
from tests.contract import wrong_learners
from tests.data import idx_files
from tests.harness import LEARNER, call, refusal, write, write_split
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.meta_training.checkpoint import load_artifact
from vsml_bench.studies.introspection import look

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


def test_every_verb_has_help() -> None:
    text = call("--help").out
    verbs = re.findall(r"^    (\S+)(?: |$)", text, re.MULTILINE)
    assert {"list", "data", "plan", "meta-train", "run", "leaderboard"} <= set(verbs)
    assert {"verify", "explain", "cite", "introspect"} <= set(verbs)
    for verb in verbs:
        assert "usage: vsml-bench" in call(verb, "--help").out


def test_version() -> None:
    assert call("--version").out == f"vsml-bench {vsml_bench.__version__}\n"


def test_list_in_json() -> None:
    learners = {row["name"]: row for row in call("list", "learners", "--json").json["learners"]}
    assert learners["vsml"]["meta_parameters"] == 2384
    assert learners["sgd-linear"]["tuned"] and not learners["chance"]["tuned"]
    assert learners["vsml"]["family"] == "VSML" and "2012.14905" in learners["vsml"]["source"]
    # h and c of 784 x 10 sub-RNNs with N = 16; then messages, logits and a counter
    assert learners["vsml"]["state_floats"] == 2 * 784 * 10 * 16 + 10 * 8 + 10 + 1
    # a softmax regression's weights and biases, the example, the logits and a counter
    assert learners["sgd-linear"]["state_floats"] == 784 * 10 + 10 + 784 + 10 + 1
    assert learners["sgd-linear"]["state_growth"] == 0
    assert learners["1-nn"]["state_growth"] == 784 + 1
    suites = {row["name"]: row for row in call("list", "suites", "--json").json["suites"]}
    assert suites["paper"]["splits"] == 77 and {"smoke", "desk"} <= set(suites)
    splits = {row["name"]: row for row in call("list", "splits", "--json").json["splits"]}
    assert splits["digits-held-out"]["relation"] == "unseen_tasks"
    datasets = {row["name"]: row for row in call("list", "datasets", "--json").json["datasets"]}
    assert datasets["digits"]["available"] and not datasets["kmnist"]["available"]


def test_list_for_people() -> None:
    assert re.search(
        r"^vsml +VSML +few_shot, online +2384", call("list", "learners").out, re.MULTILINE
    )


def test_a_learner_that_lacks_a_package_is_described(tmp_path: Path) -> None:
    lacking = (
        LEARNER
        + """
class Lacking(Base):
    variants = {"lacking": Config("")}
    requires = {"nothing_like_it": "it is only made up"}
"""
    )
    path = write(tmp_path / "lacking.py", lacking)
    said = call("explain", path).out
    assert re.search(r'^family +"test"$', said, re.MULTILINE)
    assert re.search(r"^state_floats +null$", said, re.MULTILINE)
    assert "needs the package nothing_like_it" in refusal(call("check", path))


def test_check(tmp_path: Path) -> None:
    good = call("check", "nearest-mean")
    assert good.code == 0 and re.search(r"^label leak +passed ", good.out, re.MULTILINE)
    assert "nearest-mean (baselines/nearest_mean.py)" in good.out
    assert "0 of 16 checks failed" in good.out
    api = vsml_bench.check("nearest-mean")
    assert api.learner == "nearest-mean" and not api.failed
    source = write(tmp_path / "wrong.py", Path(wrong_learners.__file__).read_text("utf-8"))
    named = "class SwallowsNaN(Right):\n    variants = {'a': NoConfig(), 'b': NoConfig()}\n"
    write(source, source.read_text("utf-8").replace("class SwallowsNaN(Right):\n", named))
    bad = call("check", f"{source}:SwallowsNaN", "--json")
    assert bad.code == 1
    assert [row["name"] for row in bad.json["learners"]] == ["a", "b"]
    for row in bad.json["learners"]:
        failed = [check for check in row["checks"] if check["outcome"] == "failed"]
        assert [check["check"] for check in failed] == ["not a number"]
        assert set(failed[0]) == {"check", "outcome", "reason", "measured"}
    assert "did you mean 'nearest-mean'?" in refusal(call("check", "nearest-men"))


def test_data_root(tmp_path: Path) -> None:
    idx_files.write_dataset(tmp_path / "root/KMNIST/raw", 30, 20, seed=0)

    def kmnist(*more: object) -> dict[str, Any]:
        rows = call("data", "--json", *more).json["datasets"]
        return next(row for row in rows if row["name"] == "kmnist")

    assert not kmnist()["available"] and kmnist()["reason"]
    found = kmnist("--data-root", tmp_path / "root")
    assert (found["available"], found["train"], found["test"]) == (True, 30, 20)


def test_data_root_reaches_planning_and_training(finished: Finished, tmp_path: Path) -> None:
    root = tmp_path / "root"
    idx_files.write_dataset(root / "KMNIST/raw", 60, 40, seed=0)

    def unavailable(*more: object) -> set[int]:
        rows = call("plan", "--suite", finished.suite, "--json", *more).json["learners"]
        return {row["unavailable"] for row in rows}

    assert unavailable() == {1, 2}
    assert unavailable("--data-root", root) == {0}

    split = write_split(tmp_path / "from.toml", train="kmnist", relation="unseen_dataset")
    command = ["meta-train", "--split", split, "--learner", "sgd-linear", "--quiet"]
    assert "kmnist" in refusal(call(*command, "--out", tmp_path / "out"))
    assert call(*command, "--out", tmp_path / "out", "--data-root", root).code == 0


def test_best_effort(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = ["data", "fetch", "kmnist", "digits", "--data-root", tmp_path / "file" / "root"]
    strict = call(*command)
    assert strict.code == 1 and "cannot be written" in strict.err
    assert "digits: already here" in strict.out
    lenient = call(*command, "--best-effort")
    assert lenient.code == 0 and lenient.err == strict.err


def test_plan(finished: Finished) -> None:
    rows = {
        r["learner"]: r for r in call("plan", "--suite", finished.suite, "--json").json["learners"]
    }
    assert {name: (row["cells"], row["unavailable"]) for name, row in rows.items()} == {
        "vsml": (6, 2),
        "nearest-mean": (3, 1),
        "chance": (3, 1),
        "reader": (3, 1),
        "writer": (3, 1),
    }
    assert rows["vsml"]["meta_training_examples"] == 2 * 2 * 3 * 10  # seeds, lifetimes, updates, T
    assert "core minutes" in call("plan", "--suite", finished.suite).out


def test_a_run_shows_progress(finished: Finished) -> None:
    """Unless --quiet or --json: the other runs in these tests assert their silence."""
    assert "run: 100%" in finished.run.err and "14 of 14" in finished.run.err


def test_a_run_says_whether_it_is_ahead(finished: Finished) -> None:
    cached = ("run", "--suite", finished.suite, "--out", finished.folder, "--policy", "only-cached")
    chosen = (*cached, "--learner", "chance", "--learner", "vsml", "--quiet")
    (said,) = call(*chosen, "--against", "vsml", "--json").json["verdicts"]
    assert re.match(r"chance against vsml on data never seen: [+-]\d+\.\d points \(", said)
    assert "did you mean 'vsml'" in call(*chosen, "--against", "vsm").out


@pytest.mark.slow
def test_introspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the digits. 1-NN needs nothing; ridge has to be tuned first, into runs/checkpoints."""
    command = ["--split", "digits-held-out", "--learner", "1-nn", "--quiet", "--device", "cpu"]
    command += ["--lifetimes", "2", "--steps", "40", "--jobs", "1"]
    said = refusal(call("introspect", *command))
    assert "sgd-linear on digits-held-out, seed 0: neither meta-trained nor tuned yet" in said
    assert "meta-train --split digits-held-out --learner sgd-linear --seed 0" in said
    monkeypatch.setattr(look, "BESIDE", ("ridge", "1-nn"))
    call("meta-train", "--split", "digits-held-out", "--learner", "ridge", "--quiet")
    drawn = call("introspect", *command, "--out", tmp_path / "out", "--seed", 4)
    assert drawn.code == 0, drawn
    written = {Path(line).name for line in drawn.out.splitlines()}
    pictures = {
        f"{n}.{form}" for n in ("confidence", "twice", "response") for form in ("png", "svg")
    }
    assert written == pictures | {"introspection.json", "introspection.csv"}
    assert all((tmp_path / "out" / name).is_file() for name in written)
    curves = json.loads((tmp_path / "out" / "introspection.json").read_text("utf-8"))
    assert {curve["learner"] for curve in curves} == {"1-nn", "ridge"}
    assert "did you mean '1-nn'" in refusal(
        call("introspect", *(c.replace("1-nn", "1-n") for c in command))
    )


def test_verify(finished: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(finished.folder, tmp_path / "out")
    intact = call("verify", out, "--json")
    assert intact.code == 0 and intact.json == {"intact": 20, "damaged": {}, "replayed": []}
    assert call("verify", out).out == "20 files intact, 0 damaged.\n"
    for path in (next(out.glob("cells/*chance*")), next(out.glob("checkpoints/*seed1*"))):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    damaged = call("verify", out, "--json")
    assert damaged.code == 1 and damaged.json["intact"] == 18
    folders = [file.partition("/")[0] for file in damaged.json["damaged"]]
    assert folders == ["cells", "checkpoints"]
    assert "2 damaged" in call("verify", out).out
    assert "is not a folder" in refusal(call("verify", tmp_path / "nowhere"))


def test_verify_replays(finished: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(finished.folder, tmp_path / "out")
    for path in out.rglob("*.*"):
        if not path.name.startswith("digits-held-out--chance"):
            path.unlink()
    found = call("verify", out, "--replay", 1, "--steps", 5, "--jobs", 1, "--json")
    assert found.code == 0, found
    (report,) = found.json["replayed"]
    assert (report["lifetimes"], report["steps"], report["reason"]) == (1, 5, "")
    assert report["difference"] < 1e-5
    assert not (out / replays.FILE).exists()
    assert "add --replay" in refusal(call("verify", out, "--adopt"))


def test_verify_keeps_what_replays_of_every_kind(finished: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(finished.folder, tmp_path / "out")
    trained = next(out.glob("checkpoints/vsml--*.safetensors"))
    for path in out.rglob("*.*"):
        if path != trained and not path.name.startswith("digits-held-out--chance"):
            path.unlink()
    found = call("verify", out, "--replay", "--steps", 5, "--jobs", 1, "--keep", "--json")
    assert found.code == 0 and found.json["replayed_before"] == 0, found
    noted = {name: (of.lifetimes, of.steps) for name, of in replays.read(out).items()}
    updates = len(load_artifact(trained).document["first_losses"])
    (cell,) = out.glob("cells/*.json")
    assert noted == {replays.name_of(cell): (1, 5), replays.name_of(trained): (0, updates)}


def test_explain(finished: Finished) -> None:
    cell = next(finished.cells.glob("digits-held-out--vsml--seed1*"))
    said = call("explain", cell)
    assert said.code == 0 and re.search(r'^status +"ok"', said.out, re.MULTILINE)
    assert re.search(r"^seed +1$", said.out, re.MULTILINE)
    shown = call("explain", cell, "--json").json["score"]
    outcomes = load_cell(cell).outcomes
    assert outcomes is not None
    correct = outcomes.correct
    assert shown["accuracy"] == pytest.approx(correct.mean(), abs=1e-4)
    assert shown["last 100"] == pytest.approx(correct[:, -100:].mean(), abs=1e-4)
    assert re.search(
        r'^relation +"unseen_tasks"', call("explain", "digits-held-out").out, re.MULTILINE
    )
    assert re.search(r"^steps +2000", call("explain", "desk").out, re.MULTILINE)
    assert re.search(r"^meta_parameters +2384", call("explain", "vsml").out, re.MULTILINE)
    assert "did you mean 'vsml'?" in refusal(call("explain", "vslm"))


def test_cite() -> None:
    assert f"version {vsml_bench.__version__}" in call("cite").out
    assert "no published board" in refusal(call("cite", "--suite", "paper"))
