"""What `run` finds finished, and what `leaderboard` shows of it."""

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
from tests.harness import call, refusal, write_split, write_suite
from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError

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
    markdown = call(*command, "--format", "markdown").out
    assert "| nearest-mean" in markdown and "unavailable" in markdown
    shown = call(*command).out
    assert shown == call(*command, "--format", "terminal").out
    assert "nearest-mean  " in shown and "unavailable" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_write(finished: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(finished.folder, tmp_path / "out")
    command = ["leaderboard", "--suite", finished.suite, "--results", out]
    call(*command)
    assert not list(out.glob("board.*"))
    written = call(*command, "--write")
    assert (written.code, written.err) == (0, f"The page of this board: {out / 'board.html'}\n")
    endings = ["csv", "html", "json", "md", "tex", "wide.csv"]
    assert sorted(p.name for p in out.glob("board.*")) == [f"board.{e}" for e in endings]
    assert json.loads((out / "board.json").read_text()) == board(finished)
    assert (out / "board.csv").read_text().strip() == call(*command, "--format", "csv").out.strip()


def test_a_page_is_a_file(finished: Finished, tmp_path: Path) -> None:
    """Two million signs on a terminal are for nobody."""
    out = shutil.copytree(finished.folder, tmp_path / "out")
    shown = call("leaderboard", "--suite", finished.suite, "--results", out, "--format", "html")
    assert (shown.code, shown.out) == (0, "")
    assert str(out / "board.html") in shown.err
    assert [p.name for p in out.glob("board.*")] == ["board.html"]
    assert board(finished)["board_hash"] in (out / "board.html").read_text()


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
    assert shown.code == 0 and "\nInvariance card: against home\n" in shown.out
    assert "## Invariance card: against home\n" in (tmp_path / "board.md").read_text()
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
    assert re.search(r"not run: ([\w-]+, )*chance(, [\w-]+)* on to-kmnist: unavailable: ", said)
    path.write_text("[]")
    assert "no list of rows" in refusal_after_output(call(*command, "--compare", path))
    said = refusal_after_output(call(*command, "--compare", tmp_path / "none.json"))
    assert "cannot be read as a board" in said
    assert "--compare" in refusal_after_output(call(*command, "--compare", "published"))


def test_published_scores_are_not_compared_with_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two planned scores one is the user's own; the board has both, and says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/desk/cells").mkdir(parents=True)
    (own,) = (paths.results() / "desk/cells").glob("mnist5k-same--chance--*.json")
    shutil.copy(own, tmp_path / "runs/desk/cells")
    command = ["leaderboard", "--suite", "desk", "--learner", "chance"]
    command += ["--split", "mnist5k-same", "--split", "mnist5k-to-digits"]
    shown = call(*command, "--compare", "published")
    assert "mnist5k-to-digits: published scores, not your own" in " ".join(shown.out.split())
    assert "equal means in all 1 rows that both have" in shown.err
    assert "not run: chance on mnist5k-to-digits" in shown.err
    documents = [
        call(*command, "--json").json,
        call(*command, "--json", "--results", own.parents[1]).json,
    ]
    assert [row["status"] for row in documents[0]["rows"]] == ["ok", "ok"]
    (name,) = documents[0]["borrowed"]
    assert name.startswith("mnist5k-to-digits--chance--") and "borrowed" not in documents[1]


def refusal_after_output(outcome: Any) -> str:
    assert outcome.out.startswith("Leaderboard: "), "the board itself is still printed"
    return refusal(outcome)


def test_two_learners(finished: Finished, tmp_path: Path) -> None:
    """From cells that are there; a file stands for its learner, and nothing is run."""
    rows = {(r["split"], r["learner"]): r["mean"] for r in board(finished)["rows"]}
    options = ["--suite", finished.suite, "--results", finished.folder]
    forth = call("compare", "nearest-mean", "chance", *options, "--json")
    assert forth.code == 0 and forth.json["better"] and forth.json["ahead"] == "nearest-mean"
    for line in forth.json["splits"]:
        expected = rows[line["split"], "nearest-mean"] - rows[line["split"], "chance"]
        assert line["difference"] == pytest.approx(expected, abs=1e-8)
    back = call("compare", "chance", "nearest-mean", *options)
    assert back.code == 1 and back.out.startswith("# chance against nearest-mean: tiny\n")
    assert call("compare", "nearest-mean", "chance", *options, "--require", "better").code == 0
    meeting = finished.suite.parent / "meeting.py"
    (reader,) = {r["learner"] for r in board(finished)["rows"]} & {"reader"}
    one = call("compare", f"{meeting}:Meeting:{reader}", "chance", *options, "--json").json
    assert (one["first"], one["second"]) == ("reader", "chance")
    assert "stands for several; name one of: reader, writer" in refusal(
        call("compare", meeting, "chance", *options)
    )
    said = refusal(call("compare", "majority", "chance", *options))
    assert "run it with `vsml-bench run --suite tiny --learner majority`" in said
    assert "did you mean 'chance'" in refusal(call("compare", "chanse", "vsml", *options))
    assert "--suite" in refusal(call("compare", "chance", "vsml"))
    assert "is no board" in refusal(call("compare", "chance", tmp_path, *options))


def test_notebooks_get_frames(finished: Finished) -> None:
    frame = vsml_bench.compare(str(finished.suite), "nearest-mean", "vsml", finished.folder)
    assert frame["split"].tolist()[-1] == "all with data never seen" and len(frame) == 3
    assert frame.attrs["verdict"].startswith("nearest-mean against vsml on data never seen: ")
    curves = vsml_bench.curves(str(finished.suite), finished.folder, window=1, learners=["chance"])
    of = curves[curves["split"] == "digits-held-out"]
    assert of["last"].tolist() == of["first"].tolist() == [*range(1, 31)]
    (row,) = (
        r
        for r in board(finished, "--learner", "chance")["rows"]
        if r["split"] == of["split"].iloc[0]
    )
    assert of["accuracy"].mean() == pytest.approx(row["mean"], abs=1e-4)
    with pytest.raises(VsmlBenchError, match=r"first: expected a name .* found 3; write it into"):
        vsml_bench.compare("tiny", 3, "vsml")  # type: ignore[arg-type]
    with pytest.raises(VsmlBenchError, match="window: expected a whole number"):
        vsml_bench.curves("tiny", window=0.5)  # type: ignore[arg-type]
    assert {"compare", "curves"} <= set(dir(vsml_bench))


def test_two_boards(finished: Finished, tmp_path: Path) -> None:
    theirs = board(finished)
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    row = next(r for r in theirs["rows"] if r["learner"] == "nearest-mean" and r["mean"])
    for path in paths:
        path.write_text(json.dumps(theirs))
        row["mean"], row["ci_low"], row["ci_high"] = 1.0, 1.0, 1.0
        theirs["board_hash"] = "0" * 64
    worse, better = call("compare", *paths), call("compare", *paths[::-1], "--require", "better")
    assert (worse.code, better.code) == (1, 0)
    assert f"| {row['split']}" in worse.out and "apart" in worse.out
    same = call("compare", finished.folder, paths[0], "--suite", finished.suite, "--json")
    assert same.code == 0 and same.json["verdict"].startswith("the same scores throughout")
    assert "--suite" in refusal(call("compare", finished.folder, paths[0]))
    assert "cannot be read" in refusal(call("compare", tmp_path / "none.json", paths[0]))


def test_default_folders(finished: Finished) -> None:
    """`run` writes to, and `leaderboard` reads from, runs/SUITE of the folder one is in."""
    assert call("run", "--suite", finished.suite, "--policy", "never", "--json").json["reused"] == 0
    shutil.copytree(finished.folder, "runs/tiny")
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
