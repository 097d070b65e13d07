"""The board for a terminal: what it says, and that it fits whatever it is called."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.boards.factory import RECIPE, make_cell, make_plan, run
from vsml_bench.boards.blocks import Field, blocks
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.formats import find_format
from vsml_bench.boards.terminal import NARROWEST, WIDTH, draw
from vsml_bench.evaluation.cell import Problem


def small(**given: Any) -> Board:
    plans = {
        (split, learner): make_plan(
            split,
            learner,
            relation="same_tasks" if split == "home" else "unseen_dataset",
            recipe=RECIPE if learner == "vsml" else None,
            **given,
        )
        for split in ("home", "away")
        for learner in ("vsml", "sgd")
    }
    cells = [
        run(plans["home", "vsml"], [0.8, 0.8, 0.85], note="at 8x8"),
        run(plans["home", "sgd"], [0.4, 0.4, 0.45]),
        run(plans["away", "vsml"], [0.7, 0.7, 0.75], note="at 8x8"),
        run(plans["away", "sgd"], status="crashed", reason="Trace\n  ValueError: [red]\x1b[31m"),
        make_cell("home", "sgd", relation="same_tasks", recipe=None, version=2),
    ]
    return build_board("desk", cells, list(plans.values()), [Problem("bad.json", "changed")])


def test_what_it_says() -> None:
    lines = draw(small(), 80).splitlines()
    heads = ["learner  place  all splits", "home", "same tasks", "unseen", "dataset"]
    assert lines[0] == "Leaderboard: desk" and all(any(h in x for x in lines[:7]) for h in heads)
    start = next(i for i, line in enumerate(lines) if line.startswith("─"))
    vsml, between, sgd = lines[start + 1 : start + 4]
    first, second = vsml.split("  "), [part for part in sgd.split("  ") if part]
    assert [part.strip() for part in first if part][:2] == ["vsml", "1"]
    assert "81.7 ± " in vsml and "71.7 ± " in vsml and vsml.count("*†") == 2
    assert between == "", "a decided difference parts groups"
    assert second[0] == "sgd" and "20.8 ± " in sgd and "(1 of 2)" in sgd and "crashed" in sgd
    said = " ".join(" ".join(lines[start + 4 :]).split())
    assert "vsml: at 8x8" in said
    assert "away: crashed: " in said and "(sgd)" in said and r"ValueError: [red]\x1b[31m" in said
    assert "† one meta-train seed" in said and "‡" not in said
    assert "1 stale record, listed by --format markdown." in said
    assert "1 damaged record, listed by --format markdown." in said
    assert said.endswith(f"Board hash: {small().board_hash}")


def test_a_record_of_which_a_better_one_counts_is_not_called_stale() -> None:
    """As where data are not here, and a published cell counts for one's own that has no score."""
    cells = [make_cell(status="unavailable"), make_cell(accuracies=[0.5, 0.6, 0.55])]
    said = draw(build_board("desk", cells, [make_plan()]), 80)
    assert "1 replaced record, listed by --format markdown." in " ".join(said.split())
    assert "stale" not in said


def test_learners_that_cannot_be_told_apart_are_one_group() -> None:
    cells = [make_cell(learner=name, accuracies=[0.5, 0.6, 0.55]) for name in "ab"]
    lines = draw(build_board("desk", cells, [cell.plan for cell in cells]), 80).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("─"))
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 3]] == ["a", "b"]
    assert all("1 to 2" in line for line in lines[start + 1 : start + 3])


def test_only_a_terminal_is_told_to_write_bold() -> None:
    board = small()
    bold, without = draw(board, 80, colour=True), draw(board, 80)
    assert "\x1b[1m" in bold and "\x1b" not in without
    assert find_format("terminal").text(board) == draw(board, WIDTH), "a pipe is no terminal"


def test_an_empty_board() -> None:
    assert "Board hash" in draw(build_board("desk", [], []), 80)


def test_nothing_is_lost_on_the_way_over_many_blocks() -> None:
    """22 learners, 42 splits: each text stands once, beside its learner and below its split."""
    lead = Field(tuple(f"learner{n}" for n in range(22)), "learner")
    splits = [Field(tuple(f"{n}x{m}" for n in range(22)), f"transfer/a-to-{m}") for m in range(42)]
    console = Console(file=io.StringIO(), width=100)
    tables = list(blocks([lead], splits, set(), 100))
    assert 3 < len(tables) < 42
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    found = [line.split() for line in lines if line.startswith("learner") and "x" in line]
    assert [name for name, *_ in found] == [f"learner{n}" for n in range(22)] * len(tables)
    for n in range(22):
        texts = [text for name, *of in found if name == f"learner{n}" for text in of]
        assert texts == [f"{n}x{m}" for m in range(42)]


ODD = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x07\x9b\n\r\t\u202e\u200f\u2028[]*-_/ 中é")),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(ODD, ODD, ODD.filter(str.strip), ODD, st.integers(1, 130), st.booleans())
def test_no_text_breaks_a_line_or_tells_the_terminal_anything(
    split: str, learner: str, reason: str, suite: str, width: int, failed: bool
) -> None:
    more: dict[str, Any] = {"status": "crashed", "reason": reason} if failed else {"note": reason}
    cells = [
        make_cell(split, learner, suite=suite, **more),
        make_cell("home", learner, suite=suite),
        make_cell("home", "sgd", suite=suite),
    ]
    text = draw(build_board(suite, cells, [cell.plan for cell in cells]), width)
    for line in text.split("\n"):
        assert line.isprintable()
        assert cell_len(line) <= max(width, NARROWEST), line
