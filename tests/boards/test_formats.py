from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.boards.factory import RECIPE, make_cell, make_plan, run
from tests.harness import install
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.formats import (
    FORMATS,
    find_format,
    formats,
    to_csv,
    to_frame,
    to_json,
    to_markdown,
    to_wide_csv,
    to_wide_frame,
)
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Problem


@pytest.fixture
def board() -> Board:
    relations = {"home": "same_tasks", "held-out": "unseen_tasks", "away": "unseen_dataset"}
    plans = {
        (split, learner): make_plan(
            split, learner, relation=relation, recipe=RECIPE if learner == "vsml" else None
        )
        for split, relation in relations.items()
        for learner in ("sgd", "vsml")
    }
    absent: dict[str, Any] = {"status": "unavailable", "reason": "fashion is not here"}
    cells = [
        run(plans["home", "vsml"], [0.8, 0.8, 0.8], note="at 8x8"),
        run(plans["home", "sgd"], [0.5, 0.6, 0.5]),
        run(plans["held-out", "vsml"], [0.7, 0.75, 0.7], note="at 8x8"),
        run(plans["held-out", "sgd"], status="crashed", reason="Trace|back\n  ValueError: <x>"),
        run(plans["away", "vsml"], **absent),
        run(plans["away", "sgd"], **absent),
        make_cell("home", "sgd", relation="same_tasks", recipe=None, version=2),
    ]
    return build_board(
        "desk", cells, list(plans.values()), [Problem("bad.json", "bad.json was changed.")]
    )


def table(markdown: str, below: str) -> list[list[str]]:
    """The cells of the first table after the line that starts with `below`."""
    lines = markdown.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(below))
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    return rows


def test_json(board: Board) -> None:
    document = json.loads(to_json(board))
    assert set(document) == {
        *("suite", "board_hash", "rows", "learners", "detectable", "stale", "problems", "commits"),
        "sections",
    }
    assert (document["suite"], document["board_hash"]) == ("desk", board.board_hash)
    needed = "split relation learner metric mean ci_low ci_high seeds lifetimes steps status"
    rows: dict[Any, Any] = {(row["split"], row["learner"]): row for row in document["rows"]}
    assert all(set(needed.split()) <= set(row) for row in document["rows"])
    assert rows["home", "vsml"]["mean"] == 0.8
    assert rows["held-out", "sgd"]["mean"] is None
    assert rows["held-out", "sgd"]["status"] == "crashed"
    assert document["stale"][0]["reason"] == "different from today's: learner.version"
    assert document["problems"] == [{"file": "bad.json", "reason": "bad.json was changed."}]
    assert document["commits"] == ["abc"]
    pair = board.families["home"].difference(("vsml", "cpu"), ("sgd", "cpu"))
    found = document["detectable"]["by_split"]
    assert pair.detectable is not None and set(found) == {"home", "held-out"}
    assert found == {"home": pytest.approx(pair.detectable), "held-out": None}, "of one learner"
    detectable = f"each by itself, in 80 % of repetitions: {100 * pair.detectable:.1f} points."
    assert detectable in to_markdown(board).split("## home")[1].split("## held-out")[0]


def test_the_board_names_the_commits_by_which_speed_is_tracked(board: Board) -> None:
    assert "Run by the code of `abc`; its speed, by commit: `make asv-pages`." in to_markdown(board)


def test_the_board_says_what_it_took_and_counts_each_meta_training_once() -> None:
    """Two splits with one meta-training of two hours, one of half an hour, and 36 minutes each."""
    took = {"meta_train": 7200.0, "meta_test": 2160.0}
    cells = [
        make_cell(split="a", seconds=took),
        make_cell(split="b", seconds=took),
        make_cell(split="a", learner="maml", seconds={"meta_train": 1800.0, "meta_test": 2160.0}),
    ]
    text = to_markdown(build_board("made", cells, [cell.plan for cell in cells]))
    assert "\nMeta-training and tuning took 2.5 hours, meta-testing 1.8.\n" in text


def test_a_board_of_few_shot_episodes_says_what_its_numbers_are() -> None:
    plans = [make_plan(learner=name, stream=False) for name in ("vsml", "1-nn")]
    board = build_board("few", [run(plan) for plan in plans], plans)
    assert {(r["metric"], r["mean"], r["early"], r["final"]) for r in board.rows} == {
        ("accuracy", 0.6, None, None)
    }
    text = to_markdown(board)
    headers = "rank learner mean 95 % interval seeds episodes queries device"
    assert " ".join(table(text, "## held-out")[0][:-2]) == headers
    assert "\nAccuracy in % over all queries of an episode, ±" in text


def test_frame_has_a_line_per_row(board: Board) -> None:
    frame = to_frame(board)
    assert len(frame) == len(board.rows) == 6
    assert frame["learner"].tolist() == [row["learner"] for row in board.rows]
    assert frame["mean"].isna().tolist() == [row["mean"] is None for row in board.rows]
    assert "keys" not in frame


def test_frame_of_an_empty_board_has_its_columns() -> None:
    frame = to_frame(build_board("desk", [], []))
    assert len(frame) == 0
    assert {"split", "learner", "mean", "status"} <= set(frame.columns)


def test_csv(board: Board) -> None:
    text = to_csv(board)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["learner"] for row in rows] == [row["learner"] for row in board.rows]
    by_place = {(row["split"], row["learner"]): row for row in rows}
    assert by_place["home", "vsml"]["mean"] == "0.8"
    assert by_place["away", "sgd"]["mean"] == ""
    assert pd.read_csv(io.StringIO(text)).shape == to_frame(board).shape


def test_wide_has_a_line_per_learner_and_the_numbers_of_long(board: Board) -> None:
    wide, long = to_wide_frame(board), to_frame(board)
    assert wide["learner"].tolist() == [of.label for of in board.learners] == ["vsml", "sgd"]
    assert wide["all splits mean"].tolist() == [of.mean for of in board.learners]
    for row in long.to_dict("records"):
        (line,) = wide[wide["learner"] == row["learner"]].to_dict("records")
        for name in ("mean", "ci_low", "ci_high", "rank_low", "rank_high", "status"):
            found, expected = line[f"{row['split']} {name}"], row[name]
            assert found == expected or (pd.isna(found) and pd.isna(expected)), (row, name)
    again = pd.read_csv(io.StringIO(to_wide_csv(board)))
    assert again.columns.tolist() == wide.columns.tolist() and len(again) == 2


def test_the_matrix_shows_every_learner_and_split(board: Board) -> None:
    header, _, *lines = table(to_markdown(board), "# Leaderboard: desk")
    assert header == [
        "learner",
        "place",
        "all splits",
        "mean rank",
        "home (same_tasks)",
        "held-out (unseen_tasks)",
        "away (unseen_dataset)",
    ]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("vsml", "1", "1.0"),
        ("sgd", "2", "2.0"),
    ]
    assert lines[0][2].startswith("75.8 ± ")
    assert lines[1][2].startswith("26.7 ± ") and lines[1][2].endswith(" (1 of 2 splits)")
    assert lines[0][4].startswith("**80.0 ± ") and lines[0][4].endswith(" †**")
    assert lines[0][6] == "unavailable"
    assert lines[1][4].startswith("53.3 ± ")
    assert lines[1][5] == "crashed"


def test_learners_that_cannot_be_told_apart_are_all_bold() -> None:
    cells = [make_cell(learner=name, accuracies=[0.5, 0.6, 0.55]) for name in "ab"]
    board = build_board("desk", cells, [make_plan(learner=name) for name in "ab"])
    _, _, *lines = table(to_markdown(board), "# Leaderboard")
    assert [line[4].startswith("**55.0") for line in lines] == [True, True]


def test_failing_improves_neither_the_order_nor_the_mean_rank() -> None:
    cells = [
        make_cell("one", "steady", accuracies=[0.5, 0.5]),
        make_cell("one", "fragile", accuracies=[0.9, 0.9]),
        make_cell("two", "steady", accuracies=[0.5, 0.5]),
        make_cell("two", "third", accuracies=[0.4, 0.4]),
        make_cell("one", "third", accuracies=[0.3, 0.3]),
        make_cell("two", "fragile", status="timeout"),
    ]
    plans = [make_plan(s, name) for s in ("one", "two") for name in ("steady", "fragile", "third")]
    _, _, *lines = table(to_markdown(build_board("desk", cells, plans)), "# Leaderboard")
    assert [(line[0], line[2].split(" ")[0], line[3]) for line in lines] == [
        ("steady", "50.0", "1.5"),
        ("fragile", "45.0", "2.0"),
        ("third", "35.0", "2.5"),
    ]


def test_details_notes_failures_and_stale_records(board: Board) -> None:
    text = to_markdown(board)
    header, _, *lines = table(text, "## held-out (unseen_tasks)")
    details = [dict(zip(header, line, strict=True)) for line in lines]
    assert (details[0]["learner"], details[0]["mean"], details[0]["gap"]) == ("vsml", "71.7", "8.3")
    assert (details[1]["learner"], details[1]["mean"]) == ("sgd", "crashed")
    assert details[1]["seeds"] == "0 of 1"
    assert "## away" not in text
    assert "* vsml: at 8x8\n" in text
    assert "* held-out: crashed: Trace\\|back ValueError: &lt;x> (sgd)\n" in text
    assert "* away: unavailable: fashion is not here (all learners)\n" in text
    assert "different from today's: learner.version" in text
    assert "* bad.json: bad.json was changed." in text
    assert "† one meta-train seed" in text
    assert board.board_hash in text


def test_learners_on_several_kinds_of_device_are_told_apart() -> None:
    on_gpu = make_cell(device="GPU", processor="cuda")
    cells = [make_cell(device="CPU"), on_gpu, make_cell(learner="sgd")]
    board = build_board("desk", cells, [make_plan(), make_plan(learner="sgd")])
    _, _, *lines = table(to_markdown(board), "# Leaderboard")
    assert sorted(line[0] for line in lines) == ["sgd", "vsml (GPU)", "vsml (cpu)"]


def test_an_empty_board_can_be_rendered() -> None:
    board = build_board("desk", [], [])
    assert json.loads(to_json(board))["rows"] == []
    assert board.board_hash in to_markdown(board)
    assert to_csv(board).startswith("split,")


FORMAT = """
from vsml_bench.boards.formats import Format


def to_text(board):
    return "".join(f"{row['learner']}: {row['status']}\\n" for row in board.rows)


TEXT = Format(to_text, ending="txt")
"""


def test_a_format_of_another_package(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "strange_format:TEXT"
    monkeypatch.syspath_prepend(
        install(tmp_path / "one", "strange_format", FORMAT, formats=f"text = {where}")
    )
    assert list(formats()) == [*FORMATS, "text"]
    assert find_format("text").ending == "txt"
    assert find_format("text").text(board).splitlines()[:2] == ["vsml: ok", "sgd: ok"]
    monkeypatch.syspath_prepend(install(tmp_path / "two", "other", "", formats=f"json = {where}"))
    with pytest.raises(VsmlBenchError, match="two formats are called 'json'"):
        formats()


def test_a_format_that_nobody_brings() -> None:
    with pytest.raises(VsmlBenchError, match="unknown format 'markdwn'; did you mean 'markdown'"):
        find_format("markdwn")


def test_the_function_for_notebooks_is_no_package() -> None:
    import vsml_bench.boards.formats

    assert callable(vsml_bench.leaderboard)
