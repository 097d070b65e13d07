"""The page of the published desk board in a real browser, from disk, without a network."""

from __future__ import annotations

import importlib.resources
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.boards.chromium import BINARY, Chromium
from tests.boards.test_page import ACCURACIES, HOSTILE, board_of
from vsml_bench import api, paths
from vsml_bench.boards.board import Board
from vsml_bench.boards.formats import to_frame
from vsml_bench.boards.page.curves import curve
from vsml_bench.boards.page.page import to_html

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY, reason="no Chromium here (Debian: apt install chromium)"),
]
READY = "document.documentElement.dataset.ready === 'yes'"
AXE = "axe.run({}, {{resultTypes: ['violations']}}).then((found) => found.violations)"
VISIBLE = "[...document.querySelectorAll('#results tbody tr')].filter((r) => !r.hidden)"


@pytest.fixture(scope="module")
def desk() -> Board:
    return api.stored_board("desk", paths.results() / "desk")


@pytest.fixture(scope="module")
def file(desk: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "board.html"
    path.write_text(to_html(desk), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(started: Chromium, file: Path) -> Chromium:
    started.requests.clear()
    started.errors.clear()
    started.open(file.as_uri(), READY)
    return started


def column(browser: Chromium, name: str) -> list[str]:
    """Texts of the rows in view."""
    heads = "[...document.querySelectorAll('#results thead th')]"
    place = f"{heads}.findIndex((h) => h.dataset.name === '{name}')"
    found: list[str] = browser.value(f"{VISIBLE}.map((r) => r.cells[{place}].textContent)")
    return found


def test_nothing_is_asked_for_and_nothing_fails(browser: Chromium, file: Path) -> None:
    assert [
        url for url in browser.requests if not url.startswith(("data:", "blob:", "about:"))
    ] == [file.as_uri()]
    assert browser.errors == []
    drawn = "['first', 'cost', 'curves'].map((name) => document.documentElement.dataset[name])"
    assert browser.value(drawn) == ["drawn"] * 3
    assert browser.value("document.querySelectorAll('.picture div svg').length") == 3


def test_sorting_by_pointer_and_by_keyboard(browser: Chromium, desk: Board) -> None:
    browser.click("th[data-name=mean] button")
    best_first = sorted((r["mean"] for r in desk.rows if r["mean"] is not None), reverse=True)
    shown = [float(text.split(" ")[0]) for text in column(browser, "mean") if "±" in text]
    assert shown == [pytest.approx(100 * mean, abs=0.051) for mean in best_first]
    assert not any("±" in text for text in column(browser, "mean")[len(shown) :]), "missing is last"
    browser.value("document.querySelector('th[data-name=mean] button').focus()")
    browser.press("Enter")
    again = [float(text.split(" ")[0]) for text in column(browser, "mean") if "±" in text]
    assert again == sorted(again) and again != shown
    assert browser.value("document.querySelector('th[data-name=mean]').ariaSort") == "ascending"


def test_filters_and_hidden_columns(browser: Chromium, desk: Board) -> None:
    browser.choose("#f-relation", "unseen_tasks")
    browser.choose("#f-q", "ADAM")
    expected = {
        (row.group.split, row.group.learner)
        for row in desk.rows
        if row.group.relation == "unseen_tasks" and "adam" in row.group.learner
    }
    assert set(zip(column(browser, "split"), column(browser, "learner"), strict=True)) == expected
    browser.click("#filters summary")
    browser.click("#columns input[value=device]")
    assert browser.value("document.querySelector('th[data-name=device]').hidden") is True


def test_two_learners_side_by_side(browser: Chromium, desk: Board) -> None:
    browser.choose("#pair-a", "vsml")
    browser.choose("#pair-b", "sgd-mlp")
    forth = browser.value("document.querySelector('#verdict').textContent")
    assert forth.startswith("vsml against sgd-mlp on data never seen: +")
    cells = "[...document.querySelectorAll('#pair tbody tr')].map((r) => r.cells[1].textContent)"
    there = [float(text) for text in browser.value(cells)]
    means = {(row.group.split, row.group.learner): row["mean"] for row in desk.rows}
    splits = browser.value(
        "[...document.querySelectorAll('#pair tbody tr')].map((r) => r.cells[0].textContent)"
    )
    for split, difference in list(zip(splits, there, strict=True))[:-1]:
        expected = 100 * (means[split, "vsml"] - means[split, "sgd-mlp"])
        assert difference == pytest.approx(expected, abs=0.051)
    browser.choose("#pair-a", "sgd-mlp")
    browser.choose("#pair-b", "vsml")
    assert [float(text) for text in browser.value(cells)] == [-difference for difference in there]


def test_a_point_of_the_picture_chooses_its_learner(browser: Chromium) -> None:
    point = ".picture[data-picture=first] path[aria-label*='learner: ridge;']"
    browser.click(point)
    browser.wait("document.querySelector('#pair-a').value === 'ridge'")


def test_from_a_row_to_its_cells(browser: Chromium, desk: Board) -> None:
    row = next(row for row in desk.rows if row.group.learner == "vsml" and row.group.finished)
    index = desk.rows.index(row)
    browser.click(f"#results tr[data-row='{index}'] th button")
    assert browser.value("document.querySelector('#cells').open") is True
    text = browser.value("document.querySelector('#cells').textContent")
    for cell in row.group.cells:
        assert cell.key in text and cell.provenance.git_commit in text
        assert cell.provenance.checkpoint is not None and cell.provenance.checkpoint in text
        assert all(content in text for content in cell.provenance.data_hashes.values())
    command = f"--split {row.group.split} --learner vsml --seed 2 --policy always"
    assert command in text
    curves = "[...document.querySelectorAll('#cells .training')]"
    browser.wait(f"{curves}.every((figure) => figure.querySelector('svg .mark-line path'))")
    text = browser.value("document.querySelector('#cells').innerText")
    assert len(browser.value(f"{curves}.map(() => 1)")) == len(row.group.cells)
    for cell in row.group.cells:
        record = desk.records[cell.provenance.checkpoint or ""].document
        assert record["command"] in text and record["git_commit"] in text
        last = record["history"][-1]
        assert f"{100 * last['validation_accuracy']:.1f} % after {last['step']} meta-up" in text
    assert "--suite desk --split mnist5k-same --learner vsml --seed 2 --out again" in text
    badges = "[...document.querySelectorAll('#cells .badge')].map((badge) => badge.textContent)"
    assert all(said.startswith("replayed on 2026-") for said in browser.value(badges))
    browser.press("Escape")
    browser.wait("!document.querySelector('#cells').open && !location.hash.includes('cell=')")
    tuned = next(r for r in desk.rows if r.group.learner == "sgd-mlp" and r.group.finished)
    names = [
        *browser.value(
            "[...document.querySelectorAll('#standings tbody th')].map((t) => t.textContent)"
        )
    ]
    browser.click(f"#standings tbody tr:nth-child({1 + names.index('sgd-mlp')}) th button")
    title = browser.value("document.querySelector('#cells-title').textContent")
    assert title == f"sgd-mlp on {tuned.group.split}"
    tried = "[...document.querySelectorAll('#cells table tbody th')].map((t) => t.textContent)"
    assert "learning_rate 0.01" in browser.value(tried)
    assert browser.errors == []


def test_by_keyboard_alone(browser: Chromium) -> None:
    focused = "document.activeElement"
    browser.press("Tab")
    assert browser.value(f"{focused}.className") == "skip"
    browser.press("Enter")
    assert browser.value("location.hash") == "#main"
    browser.value("document.querySelector('#pair-b').focus()")
    before = browser.value(f"{focused}.value")
    browser.press("ArrowDown")
    after = browser.value(f"{focused}.value")
    assert after != before
    said = browser.value("document.querySelector('#verdict').textContent")
    assert f" against {after} " in said and f"b={after}" in browser.value("location.hash")
    row = "#results tbody tr th button"
    browser.value(f"document.querySelector('{row}').focus()")
    browser.press("Enter")
    assert browser.value("document.querySelector('#cells').open") is True
    assert browser.value(f"document.querySelector('#cells').contains({focused})") is True
    browser.press("Enter")  # on "Close"
    browser.wait("!document.querySelector('#cells').open")
    assert browser.value(f"{focused} === document.querySelector('{row}')") is True


def test_other_costs_and_curves(browser: Chromium, desk: Board) -> None:
    figure = ".picture[data-picture=cost]"
    browser.choose("#cost-axis", "state_floats")
    browser.wait(f"document.querySelector('{figure} .role-axis-title text').textContent"
                 ".startsWith('state (floats)')")  # fmt: skip
    assert browser.value("location.hash") == "#axis=state_floats"
    browser.choose("#f-by", "state_floats")
    browser.choose("#f-cost", "9000")
    expected = {
        (row.group.split, row.group.learner)
        for row in desk.rows
        if row.group.ok and max(c.provenance.state_floats for c in row.group.ok) <= 9000
    }
    shown = set(zip(column(browser, "split"), column(browser, "learner"), strict=True))
    assert shown == expected and 0 < len(shown) < len(desk.rows)
    rows = {row.group.learner: row for row in desk.rows if row.group.split == "mnist5k-to-digits"}
    first, second = (curve(rows[name].group) for name in ("vsml", "sgd-mlp"))
    assert first is not None and second is not None
    ahead = [b > a for a, b in zip(first.mean, second.mean, strict=True)]
    last = max(at for at, is_ahead in enumerate(ahead) if not is_ahead)
    assert last < len(ahead) - 1, "it is overtaken"
    address = "#curves=mnist5k-to-digits&curve=vsml&curve=sgd-mlp"
    browser.value(f"(location.hash = '{address}', 0)")
    said = f"sgd-mlp stays above vsml after example {second.ends[last]}"
    browser.wait(f"document.querySelector('#overtakes').textContent.includes('{said}')")


def test_what_to_do_about_missing_scores(browser: Chromium, desk: Board) -> None:
    lacking = {row.group.split for row in desk.rows if row["mean"] is None}
    browser.choose("#f-missing", "last")
    places = zip(column(browser, "split"), column(browser, "learner"), strict=True)
    ranks = dict(zip(places, column(browser, "rank"), strict=True))
    for row in desk.rows:
        if row["mean"] is None:
            rivals = sum(of.group.split == row.group.split for of in desk.rows)
            assert ranks[row.group.split, row.group.learner] == f"{rivals} (last)"
    browser.choose("#f-missing", "common")
    shown = {row.group.split for row in desk.rows} - lacking
    assert set(column(browser, "split")) == shown


def test_a_download_agrees_with_the_board(browser: Chromium, desk: Board) -> None:
    browser.choose("#f-split", "mnist5k-to-digits")
    browser.click("#get-csv")
    text = browser.downloaded("desk.csv")
    expected = to_frame(desk)
    expected = expected[expected["split"] == "mnist5k-to-digits"].reset_index(drop=True)
    columns = {name: str for name in ("note", "reason")}
    found = pd.read_csv(io.StringIO(text), dtype=columns, keep_default_na=True)
    pd.testing.assert_frame_equal(
        found.astype(object).where(found.notna(), ""),
        expected.astype(object).where(expected.notna(), ""),
        check_dtype=False,
    )
    browser.click("#get-json")
    document = json.loads(browser.downloaded("desk.json"))
    assert document["board_hash"] == desk.board_hash
    assert [row["mean"] for row in document["rows"]] == expected["mean"].tolist()


def test_the_address_holds_the_view(browser: Chromium, file: Path) -> None:
    browser.choose("#f-family", "gradient descent")
    browser.choose("#pair-a", "ridge")
    browser.choose("#pair-b", "1-nn")
    browser.choose("#curve-split", "mnist5k-same")
    browser.choose("#cost-axis", "meta_parameters")
    browser.choose("#f-by", "meta_train_seconds")
    browser.choose("#f-cost", "50")
    browser.click("th[data-name=final] button")
    what = "document.querySelector('main').innerText"
    title = "document.querySelector('.picture[data-picture=cost] .role-axis-title text')"
    browser.wait(f"{title}.textContent.startsWith('meta-parameters')")
    before, address = browser.value(what), browser.value("location.href")
    assert address.startswith(file.as_uri() + "#")
    browser.open(address, READY)
    assert browser.value(what) == before
    assert set(column(browser, "family")) == {"gradient descent"}


def test_on_paper_there_is_all_that_needs_no_choice(browser: Chromium) -> None:
    browser("setEmulatedMedia", "Emulation", media="print")
    try:
        style = "getComputedStyle(document.querySelector('{}')).{}"
        assert browser.value(style.format("#filters", "display")) == "none"
        assert browser.value(style.format(".tall", "maxHeight")) == "none"
        assert browser.value(style.format(".tall", "overflow")) == "visible"
        assert len(column(browser, "mean")) == len(browser.value(f"{VISIBLE}.map(() => 1)"))
    finally:
        browser("setEmulatedMedia", "Emulation", media="")


def test_without_javascript_there_are_table_and_picture(browser: Chromium, file: Path) -> None:
    browser("setScriptExecutionDisabled", "Emulation", value=True)
    try:
        browser.open(file.as_uri())
        assert browser.value("document.querySelectorAll('.picture > svg').length") == 3
        assert len(column(browser, "mean")) == browser.value(
            "document.querySelectorAll('#results tbody tr').length"
        )
        assert (
            browser.value("getComputedStyle(document.querySelector('#filters')).display") == "none"
        )
    finally:
        browser("setScriptExecutionDisabled", "Emulation", value=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_light_and_dark(browser: Chromium, file: Path, scheme: str) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser("setDeviceMetricsOverride", "Emulation", **phone)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser("setEmulatedMedia", "Emulation", features=feature)
    try:
        browser.open(file.as_uri(), READY)
        assert browser.value("document.documentElement.scrollWidth") <= 390
        paper = browser.value("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
        axis = "document.querySelector('.picture svg .role-axis-title text')"
        ink = browser.value(f"getComputedStyle({axis}).fill")
        assert ink == {"light": "rgb(87, 96, 106)", "dark": "rgb(177, 186, 196)"}[scheme]
        library = importlib.resources.files("axe_core_python") / "axe.min.js"
        browser.value(f"{library.read_text(encoding='utf-8')}; 0")
        browser.choose("#f-split", "mnist5k-same")  # axe takes its time with each cell
        assert browser.value(AXE.format("{exclude: [['svg']]}")) == []  # it knows HTML
        browser.click("#results tr[data-row='1'] th button")
        browser.value(
            "document.querySelectorAll('#cells details').forEach((d) => { d.open = true; })"
        )
        assert browser.value(AXE.format("'#cells'")) == []
    finally:
        browser("clearDeviceMetricsOverride", "Emulation")
        browser("setEmulatedMedia", "Emulation", features=[])


def test_names_of_learners_do_no_harm(started: Chromium, tmp_path: Path) -> None:
    failed = {("away", HOSTILE[0]): {"status": "crashed", "reason": HOSTILE[1]}}
    accuracies = {name: ACCURACIES["vsml"] for name in HOSTILE}
    board = board_of({**ACCURACIES, **accuracies}, failed)
    file = tmp_path / "hostile.html"
    file.write_text(to_html(board), encoding="utf-8")
    started.requests.clear()
    started.errors.clear()
    started.open(file.as_uri(), READY)
    assert set(column(started, "learner")) == {*ACCURACIES, *HOSTILE}
    for name in HOSTILE[1:]:
        started.choose("#pair-a", name)
        said = started.value("document.querySelector('#verdict').textContent")
        assert said.startswith(f"{name} against ")
    lost = next(i for i, row in enumerate(board.rows) if row["mean"] is None)
    started.click(f"#results tr[data-row='{lost}'] th button")
    assert HOSTILE[1] in started.value("document.querySelector('#cells').textContent")
    started.press("Escape")
    started.choose("#f-missing", "last")
    assert f"{len(accuracies) + len(ACCURACIES)} (last)" in column(started, "rank")
    started.choose("#f-missing", "common")
    assert set(column(started, "split")) == {"home", "held-out"}
    started.choose("#f-missing", "")
    started.click("#get-csv")
    frame = pd.read_csv(io.StringIO(started.downloaded("desk.csv")))
    formula = HOSTILE[2]
    shown = {*ACCURACIES, *HOSTILE, f"'{formula}"} - {formula}
    assert set(frame["learner"]) == shown, "no spreadsheet runs a name"
    assert started.value("document.title") == "desk: board of vsml-bench"
    assert [
        url for url in started.requests if not url.startswith(("data:", "blob:", "about:"))
    ] == [file.as_uri()]
    assert started.errors == []
