from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.boards.factory import RECIPE, correctness, make_plan, run
from vsml_bench.boards import statistics
from vsml_bench.boards.badges import badge, weakest
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.costs import cost_of
from vsml_bench.boards.formats import to_json
from vsml_bench.boards.groups import groups_of
from vsml_bench.boards.missing import missing
from vsml_bench.boards.page.curves import curve, windows
from vsml_bench.boards.page.origins import command
from vsml_bench.boards.page.page import to_html
from vsml_bench.boards.page.pictures import pareto
from vsml_bench.boards.page.standings import standings
from vsml_bench.boards.pairs import OVERALL, pairs, wins
from vsml_bench.boards.seen import away_splits, home_splits
from vsml_bench.boards.statistics import Difference
from vsml_bench.evaluation.cell import Adoption, Cell, content_hash, path_of
from vsml_bench.evaluation.replays import Replayed

RELATIONS = {"home": "same_tasks", "held-out": "unseen_tasks", "away": "unseen_dataset"}
ACCURACIES: dict[str, dict[str, list[float]]] = {
    "vsml": {"home": [0.8, 0.7, 0.9], "held-out": [0.7, 0.8, 0.7], "away": [0.6, 0.7, 0.65]},
    "sgd": {"home": [0.5, 0.6, 0.5], "held-out": [0.5, 0.4, 0.5], "away": [0.5, 0.65, 0.65]},
    "chance": {"home": [0.1, 0.1, 0.05], "held-out": [0.1, 0.1, 0.1], "away": [0.1, 0.05, 0.1]},
}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='gone'</script>",
    '=HYPERLINK("http://x.invalid","y")',
    "{{ 7 * 7 }} {% raw %}",
    "'\"&;\u202eabc",
    "two\nlines --> <!--",
)


def board_of(
    accuracies: dict[str, dict[str, list[float]]], failed: dict[tuple[str, str], Any] | None = None
) -> Board:
    plans = {
        (split, learner): make_plan(
            split, learner, relation=RELATIONS[split], recipe=RECIPE if learner == "vsml" else None
        )
        for split in RELATIONS
        for learner in accuracies
    }
    cells = [
        run(plan, **failed[place]) if failed and place in failed else run(plan, of)
        for place, plan in plans.items()
        for split, of in accuracies[place[1]].items()
        if split == place[0]
    ]
    return build_board("desk", cells, list(plans.values()))


@pytest.fixture(scope="module")
def board() -> Board:
    return board_of(ACCURACIES)


class Reader(HTMLParser):
    """What a page has: tags with their attributes, and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def data_of(page: str) -> Any:
    found = re.search(
        r'<script type="application/octet-stream" id="data">([\w+/=]*)</script>', page
    )
    assert found is not None
    data = json.loads(zlib.decompress(base64.b64decode(found[1])))
    data["rows"] = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    return data


def test_the_page_holds_the_board_and_asks_for_nothing(board: Board) -> None:
    page = to_html(board)
    assert data_of(page)["rows"] == json.loads(to_json(board))["rows"]
    assert len(page.encode()) < 3_000_000
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert not {"src", "srcset", "action", "background", "poster"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
    assert sum(tag == "svg" for tag, _ in reader.tags) == 3
    assert "@import" not in page.split("</style>")[0] and "url(" not in page.split("</style>")[0]


def test_same_cells_same_bytes(board: Board, tmp_path: Path) -> None:
    """In any order of cells, and in another process."""
    cells = [cell for row in board.rows for cell in row.group.cells]
    plans = [plan for row in board.rows for plan in row.group.plans]
    again = build_board(
        "desk", cells[::-1], sorted(plans, key=lambda p: list(RELATIONS).index(p.split.name))
    )
    page = to_html(board)
    assert to_html(again) == page
    program = (
        "import sys; from tests.boards.test_page import *;"
        "sys.stdout.buffer.write(to_html(board_of(ACCURACIES)).encode());"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode() == page


def with_a_learner(name: str) -> Reader:
    kind = {split: [0.7, 0.75, 0.8] for split in RELATIONS}
    return Reader(to_html(board_of({**ACCURACIES, name: kind})))


@pytest.fixture(scope="module")
def harmless() -> list[str]:
    return [tag for tag, _ in with_a_learner("harmless").tags]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_a_text_and_nothing_else(name: str, harmless: list[str]) -> None:
    with_name = with_a_learner(name)
    assert [tag for tag, _ in with_name.tags] == harmless
    handlers = [a for _, attributes in with_name.tags for a in attributes if a.startswith("on")]
    assert handlers == []
    assert name in with_name.texts


def test_reasons_and_notes_are_texts() -> None:
    bad: dict[str, Any] = {"status": "crashed", "reason": "</li><b>bold</b>\nof {{ a }}"}
    found = board_of(ACCURACIES, {("away", "sgd"): bad})
    (lack,) = missing(found)
    assert lack.sentence() == "away: crashed: </li><b>bold</b> of {{ a }} (sgd)"
    reader = Reader(to_html(found))
    assert "b" not in [tag for tag, _ in reader.tags]
    assert lack.sentence() in reader.texts


def said(board: Board) -> list[str]:
    return [lack.sentence() for lack in missing(board)]


def test_what_is_missing_is_said_once_for_each_split_and_reason() -> None:
    absent: dict[str, Any] = {"status": "unavailable", "reason": "no fashion here"}
    plans = [make_plan("a", n, seed) for n in ("x", "y") for seed in (0, 1)]
    cells = [run(plan, **absent) for plan in plans]
    assert said(build_board("desk", cells, plans)) == [
        "a: unavailable: no fashion here (all learners)"
    ]
    cells = [run(plans[0]), run(plans[1], **absent), run(plans[2])]
    assert set(said(build_board("desk", cells, plans))) == {
        "a: unavailable: no fashion here (x, seed 1)",
        "a: not run (y, seed 1)",
    }
    assert said(build_board("desk", [run(plan) for plan in plans], plans)) == []


def test_who_and_what_was_not_run_at_all_is_said_once() -> None:
    plans = [make_plan(split, name, recipe=None) for split in "abcd" for name in "xyz"]
    cells = [run(plan) for plan in plans if plan.learner != "z" and plan.split.name in "ab"]
    board = build_board("desk", [*cells, run(plans[6])], plans)
    assert said(board) == ["not run yet: z", "d: not run yet", "c: not run (y)"]
    assert said(build_board("desk", [], plans)) == ["not run yet: x, y, z"]
    page = to_html(board)
    assert Reader(page).texts.count("not run yet: z") == 1
    assert [tag for tag, of in Reader(page).tags if "data-row" in of] == ["tr"] * 6


def test_standings(board: Board) -> None:
    assert (home_splits(board), away_splits(board)) == (("home",), ("away",))
    first, second, third = standings(board)
    assert [first.label, second.label, third.label] == ["vsml", "sgd", "chance"]
    assert first.away is not None and first.home is not None
    assert first.away.mean == pytest.approx(0.65) and first.home.mean == pytest.approx(0.8)
    # Differences 0.1, 0.05, 0: mean 0.05, standard error 0.05 / sqrt(3), t(2) = 4.3: not decided.
    assert [(s.rank_low, s.rank_high, s.tie) for s in (first, second, third)] == [
        (1, 2, 1),
        (1, 2, 1),
        (3, 3, 2),
    ]


def test_a_split_without_a_score_counts_as_nothing() -> None:
    plans = [
        make_plan(split, name, relation="unseen_dataset", recipe=None)
        for split in ("one", "two")
        for name in ("fragile", "steady", "lost")
    ]
    scores = {"fragile": [0.9, 0.9, 0.9], "steady": [0.6, 0.6, 0.6], "lost": [0.5, 0.5, 0.5]}
    failed: dict[str, Any] = {"status": "timeout", "reason": "too slow"}
    lost = [*((plan.split.name, plan.learner) for plan in plans if plan.learner == "lost")]
    lost.append(("two", "fragile"))
    cells = [
        run(p, **failed) if (p.split.name, p.learner) in lost else run(p, scores[p.learner])
        for p in plans
    ]
    board = build_board("desk", cells, plans)
    steady, fragile, none = standings(board)
    assert [of.label for of in (steady, fragile, none)] == ["steady", "fragile", "lost"]
    assert steady.away is not None and fragile.away is not None
    assert [steady.away.mean, fragile.away.mean] == pytest.approx([0.6, 0.45])
    assert (steady.away_lacks, fragile.away_lacks) == (0, 1)
    assert (none.away, none.rank_low, none.tie) == (None, None, None)
    assert "(1 of 2 splits)" in to_html(board)


def test_the_answer_comes_first(board: Board) -> None:
    texts = " ".join("".join(Reader(to_html(board)).texts).split())
    assert "On data never seen vsml is best: 65.0" in texts
    assert "Not decidedly worse: sgd." in texts
    alone = board_of({name: ACCURACIES[name] for name in ("vsml", "chance")})
    assert "All others are decidedly worse." in to_html(alone)


def test_a_fixed_rule_that_is_best_is_called_one() -> None:
    """Readers ask who learns to learn."""
    board = board_of({"vsml": ACCURACIES["chance"], "nearest-mean": ACCURACIES["vsml"]})
    texts = " ".join("".join(Reader(to_html(board)).texts).split())
    assert "Nothing of nearest-mean is meta-trained; the best that is: vsml, " in texts


def test_costs(board: Board) -> None:
    (group,) = groups_of([run(make_plan(), seconds={"meta_train": 8.0, "meta_test": 1.5})])
    cost = cost_of([group])
    assert cost is not None
    # 3 lifetimes of 20 examples in 1.5 s; 10 meta-updates of 16 lifetimes of 20 examples
    assert cost.seconds_per_1000 == pytest.approx(25.0)
    assert cost.meta_train_seconds == 8.0
    assert cost.meta_train_examples == 10 * 20 * 16
    assert (cost.device, cost.state_floats, cost.meta_parameters) == ("some CPU", 10, 2384)


def ends(found: Difference) -> tuple[float, float, float, float]:
    return found.mean, found.low, found.high, found.p


def test_pairs_are_the_paired_differences(board: Board) -> None:
    groups = {(row.group.split, row.group.learner): row.group for row in board.rows}
    found = {(pair.first, pair.second, pair.split): pair for pair in pairs(board)}
    assert len(found) == 3 * (3 + 1), "three pairs, three splits and overall"
    pair = found["sgd", "vsml", "home"]
    ours, theirs = (groups["home", name].scores for name in ("sgd", "vsml"))
    expected = statistics.paired_difference(ours, theirs, 20)
    assert ends(pair.difference) == pytest.approx(ends(expected))
    assert pair.wins == 0.0
    assert pair.detectable == pytest.approx(1.43 * (pair.difference.high - pair.difference.low) / 2)
    # on "away" 0.5 against 0.6, 0.65 against 0.7, and a tie
    assert found["sgd", "vsml", OVERALL].wins == pytest.approx((0 + 0 + 0.5) / 3)


def test_wins_counts_all_pairs_of_seeds() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 4, (2, 5)) / 4, rng.integers(0, 4, (3, 5)) / 4
    one_by_one = [
        1.0 if a[i] > b[i] else 0.5 if a[i] == b[i] else 0.0
        for a in ours
        for b in theirs
        for i in range(5)
    ]
    assert wins(ours, theirs) == pytest.approx(np.mean(one_by_one))
    assert wins(ours, theirs) + wins(theirs, ours) == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [1, 5, 10, 11, 100, 2000])
def test_windows_cover_every_step_once(steps: int) -> None:
    ends = windows(steps)
    assert ends[-1] == steps and ends == sorted(set(ends)) and ends[0] == min(10, steps)


def test_a_curve_is_the_accuracy_of_each_window() -> None:
    cells = [
        run(make_plan(seed=seed, steps=200), correctness([0.5, 0.6, 0.4], 200)) for seed in (0, 1)
    ]
    (group,) = groups_of(cells)
    found = curve(group)
    assert found is not None
    assert found.mean[0] == 0.0 and found.mean[-1] == 1.0, "right answers come last"
    widths = np.diff([0, *found.ends])
    assert (widths * found.mean).sum() / 200 == pytest.approx(0.5, abs=1e-3)
    assert all(
        low <= mean <= high
        for low, mean, high in zip(found.low, found.mean, found.high, strict=True)
    )
    (few_shot,) = groups_of([run(make_plan(stream=False))])
    assert curve(few_shot) is None


def test_the_front_of_a_device_has_what_no_other_row_beats_in_both() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "learner": str(i),
            "front": "ab"[i % 2],
            "cost": float(rng.integers(1, 9)),
            "away": float(rng.integers(0, 9)),
        }
        for i in range(40)
    ]

    def beaten(row: dict[str, Any], by: dict[str, Any]) -> bool:
        no_worse = by["cost"] <= row["cost"] and by["away"] >= row["away"]
        better = by["cost"] < row["cost"] or by["away"] > row["away"]
        return bool(by["front"] == row["front"] and no_worse and better)

    best = {
        (row["front"], row["cost"], row["away"])
        for row in rows
        if not any(beaten(row, other) for other in rows)
    }
    assert {(row["front"], row["cost"], row["away"]) for row in pareto(rows)} == best


def test_badges() -> None:
    cell: Cell = run(make_plan(learner="vsml", seed=2))
    assert (badge(cell, True), badge(cell)) == ("published", "self-reported")
    adoption = Adoption("2026-11-28", "2fbd2a17f88a5482", 1, 20, 0.0, "some CPU", "b1e9")
    adopted = run(make_plan(), adopted=(adoption,))
    assert badge(adopted) == "replayed on 2026-11-28, 2fbd2a17f8"
    again = Replayed(content_hash(cell), "2026-11-29", "8f7c2f4d7ce57c9d", False, 1, 20)
    assert badge(cell, True, again) == badge(adopted, False, again) == again.said()
    assert again.said() == "replayed on 2026-11-29, 8f7c2f4d7c"
    assert badge(adopted, False, replace(again, date="2026-11-27")) == badge(adopted)
    assert weakest([again.said(), "published"]) == "published" and weakest([]) == ""
    assert weakest([again.said(), badge(adopted)]) == badge(adopted), "the older one"


def test_a_row_and_its_cells_have_badges() -> None:
    cells = [run(make_plan(seed=seed)) for seed in (0, 1)]
    found = build_board("desk", cells, [cell.plan for cell in cells])
    name = path_of(Path(), cells[0]).name
    found = replace(found, badges={name: "replayed on 2026-11-29, 8f7c2f4d7c"})
    page = to_html(found)
    (of,) = data_of(page)["cells"]
    assert [cell["badge"] for cell in of] == [found.badges[name], "self-reported"]
    assert "self-reported" in Reader(page).texts, "a row has the weakest badge of its cells"


def test_commands() -> None:
    cell: Cell = run(make_plan(learner="vsml", seed=2))
    assert command(cell) == (
        "vsml-bench run --suite desk --split held-out --learner vsml --seed 2 --policy always"
    )
    quoted = command(run(make_plan(learner="a b; rm -rf x")))
    assert "--learner 'a b; rm -rf x'" in quoted


def test_an_empty_board_and_a_board_of_episodes_have_pages() -> None:
    empty = build_board("desk", [], [])
    assert empty.board_hash in to_html(empty)
    plans = [make_plan(learner=name, stream=False) for name in ("vsml", "1-nn")]
    page = to_html(build_board("few", [run(plan) for plan in plans], plans))
    assert data_of(page)["curves"] == [None, None]
    assert 'data-picture="curves"' not in page and 'data-picture="first"' in page
