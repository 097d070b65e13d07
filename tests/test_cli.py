"""Every option of the command line has an effect; what is printed is what is promised.

`run` and `meta-train` have further tests in `evaluation/test_runner.py` and
`meta_training/test_loop.py`.
"""

from __future__ import annotations

import csv
import io
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
from tests.harness import LEARNER, call, refusal, write, write_split, write_suite
from vsml_bench.studies.introspection import look

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

PROMISED = {
    *("split", "relation", "learner", "metric", "mean", "ci_low", "ci_high"),
    *("seeds", "lifetimes", "steps", "status"),
}


def board(finished: Finished, *more: object) -> dict[str, Any]:
    command = ["leaderboard", "--suite", finished.suite, "--results", finished.folder]
    outcome = call(*command, "--format", "json", *more)
    assert outcome.code == 0, outcome
    found: dict[str, Any] = outcome.json
    return found


def reused(finished: Finished, *more: object) -> set[tuple[str, str, int]]:
    """Places that `run` finds finished; it runs nothing."""
    command = ["run", "--suite", finished.suite, "--out", finished.folder, "--policy", "never"]
    cells = call(*command, "--json", *more).json["cells"]
    return {(cell["split"], cell["learner"], cell["seed"]) for cell in cells}


def copied(finished: Finished, folder: Path) -> Path:
    shutil.copytree(finished.folder, folder)
    return folder


def test_every_verb_has_help_and_a_handler() -> None:
    from vsml_bench import commands

    text = call("--help").out
    verbs = re.findall(r"^    (\S+)(?: |$)", text, re.MULTILINE)
    assert {"list", "data", "plan", "meta-train", "run", "leaderboard"} <= set(verbs)
    assert {"verify", "explain", "cite", "introspect"} <= set(verbs)
    for verb in verbs:
        assert "usage: vsml-bench" in call(verb, "--help").out
        assert hasattr(commands, f"{verb.replace('-', '_')}_command")


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


def test_board_in_json(finished: Finished) -> None:
    found = board(finished)
    assert {"suite", "board_hash", "rows"} <= set(found) and found["suite"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", found["board_hash"])
    assert len(found["rows"]) == 15
    for row in found["rows"]:
        assert set(row) >= PROMISED
        assert row["metric"] == "cumulative_accuracy"
        if row["split"] == "to-kmnist":
            assert row["status"] == "unavailable" and row["mean"] is None
        else:
            assert row["status"] == "ok" and (row["lifetimes"], row["steps"]) == (9, 30)
            assert row["seeds"] == (2 if row["learner"] == "vsml" else 1)
            assert 0 <= row["ci_low"] <= row["mean"] <= row["ci_high"] <= 1


def test_formats_tell_the_same(finished: Finished) -> None:
    rows = board(finished)["rows"]
    command = ["leaderboard", "--suite", finished.suite, "--results", finished.folder]
    table = list(csv.DictReader(io.StringIO(call(*command, "--format", "csv").out)))
    assert [(r["split"], r["learner"]) for r in table] == [(r["split"], r["learner"]) for r in rows]
    for text, row in zip(table, rows, strict=True):
        assert (float(text["mean"]) if text["mean"] else None) == row["mean"]
    markdown = call(*command).out
    assert markdown == call(*command, "--format", "markdown").out
    assert "| nearest-mean" in markdown and "unavailable" in markdown


def test_write(finished: Finished, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out")
    command = ["leaderboard", "--suite", finished.suite, "--results", out]
    call(*command)
    assert not list(out.glob("board.*"))
    assert call(*command, "--write").code == 0
    assert sorted(p.name for p in out.glob("board.*")) == ["board.csv", "board.json", "board.md"]
    assert json.loads((out / "board.json").read_text()) == board(finished)
    assert (out / "board.csv").read_text().strip() == call(*command, "--format", "csv").out.strip()


def test_a_track_writes_its_picture(tmp_path: Path) -> None:
    home = write_split(tmp_path / "home.toml")
    changed = write_split(tmp_path / "changed.toml", more="invert = true")
    changed.write_text(f'unchanged = "{home}"\n{changed.read_text()}')
    suite = write_suite(
        tmp_path / "s.toml", [home, changed], ["chance", "1-nn"], more='study = "robustness"'
    )
    options = ["--suite", suite]
    assert call("run", *options, "--out", tmp_path, "--jobs", 1).code == 0
    shown = call("leaderboard", *options, "--results", tmp_path, "--write")
    assert shown.code == 0 and "## Invariance card: against home" in shown.out
    assert {p.name for p in tmp_path.glob("card.*")} == {"card.png", "card.svg"}


def test_compare(finished: Finished, tmp_path: Path) -> None:
    theirs = board(finished)
    path = tmp_path / "board.json"
    path.write_text(json.dumps(theirs))
    command = ["leaderboard", "--suite", finished.suite, "--results", finished.folder]
    assert call(*command).err == ""
    assert "the same scores throughout" in call(*command, "--compare", path).err
    row = next(r for r in theirs["rows"] if r["learner"] == "chance" and r["status"] == "ok")
    row["mean"] = row["mean"] + 0.25
    path.write_text(json.dumps({**theirs, "board_hash": "0" * 64}))
    said = call(*command, "--compare", path).err
    assert f"25 percentage points (chance on {row['split']})" in said
    assert "not run: chance on to-kmnist" in said
    path.write_text("[]")
    assert "no list of rows" in refusal_after_output(call(*command, "--compare", path))
    said = refusal_after_output(call(*command, "--compare", tmp_path / "none.json"))
    assert "cannot be read as a board" in said
    assert "--compare" in refusal_after_output(call(*command, "--compare", "published"))


def refusal_after_output(outcome: Any) -> str:
    assert outcome.out.startswith("#") or "|" in outcome.out, "the board itself is still printed"
    return refusal(outcome)


def test_default_folders(finished: Finished) -> None:
    """`run` writes to, and `leaderboard` reads from, runs/SUITE of the folder one is in."""
    assert call("run", "--suite", finished.suite, "--policy", "never", "--json").json["reused"] == 0
    copied(finished, Path("runs/tiny"))
    assert (
        call("run", "--suite", finished.suite, "--policy", "never", "--json").json["reused"] == 18
    )
    default = call("leaderboard", "--suite", finished.suite, "--format", "json").json
    assert default == board(finished)


def test_selection_of_split_learner_and_seed(finished: Finished) -> None:
    everything = reused(finished)
    assert len(everything) == 18
    assert reused(finished, "--split", "digits-to-random") == {
        place for place in everything if place[0] == "digits-to-random"
    }
    assert reused(finished, "--learner", "chance", "--learner", "nearest-mean") == {
        place for place in everything if place[1] in ("chance", "nearest-mean")
    }
    assert {p for p in reused(finished, "--seed", 1) if p[1] == "vsml"} == {
        place for place in everything if place[1:] == ("vsml", 1)
    }
    chosen = ["--split", "digits-held-out", "--learner", "vsml", "--seed", 0]
    (row,) = board(finished, *chosen)["rows"]
    assert (row["learner"], row["seeds"], row["status"]) == ("vsml", 1, "ok")


def test_add_learner(finished: Finished) -> None:
    rows = board(finished, "--add-learner", "majority")["rows"]
    added = [row for row in rows if row["learner"] == "majority"]
    assert len(rows) == 18 and [row["status"] for row in added] == ["missing"] * 3


def test_set_asks_for_other_cells(finished: Finished) -> None:
    chosen = ["--learner", "vsml", "--split", "digits-held-out"]
    assert board(finished, *chosen)["rows"][0]["status"] == "ok"
    (row,) = board(finished, *chosen, "--set", "ticks=3")["rows"]
    assert row["status"] == "missing" and row["mean"] is None
    assert board(finished, *chosen, "--set", "ticks=2")["rows"][0]["status"] == "ok"


def test_a_run_shows_progress(finished: Finished) -> None:
    """Unless --quiet or --json: the other runs in these tests assert their silence."""
    assert "cells: 100%" in finished.run.err and "meta-training: 100%" in finished.run.err


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
    assert "did you mean '1-nn'" in refusal(call("introspect", *command, "--learner", "1-n"))


def test_verify(finished: Finished, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out")
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


def test_explain(finished: Finished) -> None:
    cell = next(finished.cells.glob("digits-held-out--vsml--seed1*"))
    said = call("explain", cell)
    assert said.code == 0 and re.search(r'^status +"ok"', said.out, re.MULTILINE)
    assert re.search(r"^seed +1$", said.out, re.MULTILINE)
    assert re.search(
        r'^relation +"unseen_tasks"', call("explain", "digits-held-out").out, re.MULTILINE
    )
    assert re.search(r"^steps +2000", call("explain", "desk").out, re.MULTILINE)
    assert re.search(r"^meta_parameters +2384", call("explain", "vsml").out, re.MULTILINE)
    assert "did you mean 'vsml'?" in refusal(call("explain", "vslm"))


def test_cite() -> None:
    assert f"version {vsml_bench.__version__}" in call("cite").out
    assert "no published board" in refusal(call("cite", "--suite", "paper"))
