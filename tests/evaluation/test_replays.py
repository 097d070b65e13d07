"""What is kept of replays is of just the cells that were replayed, and reaches the badge."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_merging import cell as made
from tests.harness import call, refusal
from vsml_bench import api
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation import replays, verification
from vsml_bench.evaluation.cell import Cell, load_cells, path_of, save_cell
from vsml_bench.evaluation.outcomes import Outcomes

pytestmark = pytest.mark.usefixtures("nothing_here")


def saved(folder: Path, *names: str) -> list[Cell]:
    cells = [made(name) for name in names]
    for cell in cells:
        save_cell(folder / "cells", cell)
    return cells


def name(cell: Cell) -> str:
    return replays.name_of(path_of(Path("cells"), cell))


def test_a_note_is_of_one_cell_and_of_no_other_under_its_name(tmp_path: Path) -> None:
    one, two = saved(tmp_path, "one", "two")
    replays.note(tmp_path, {name(one): (2, 10), name(two): (1, None)})
    known = replays.read(tmp_path)
    first, second = (replays.of(cell, known) for cell in (one, two))
    assert first is not None and second is not None
    assert (first.lifetimes, first.steps, second.steps) == (2, 10, 200)
    assert one.outcomes is not None
    edited = replace(one, outcomes=Outcomes(~one.correct, one.outcomes.loss))
    assert replays.of(edited, known) is None
    assert first.said().startswith(f"replayed on {first.date}, ")
    replays.note(tmp_path, {}, [name(one)])
    assert [*replays.read(tmp_path)] == [name(two)], "it does not replay any more"


def test_a_note_outlives_the_compression_of_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of zlib make other bytes of the same numbers."""
    (cell,) = saved(tmp_path, "one")
    replays.note(tmp_path, {name(cell): (1, None)})
    before = (tmp_path / name(cell)).read_bytes()
    compress = zlib.compress
    monkeypatch.setattr("zlib.compress", lambda data, _: compress(data, 0))
    save_cell(tmp_path / "cells", cell)
    assert (tmp_path / name(cell)).read_bytes() != before
    (again,) = load_cells(tmp_path / "cells")[0]
    assert replays.of(again, replays.read(tmp_path)) is not None


def test_verify_keeps_what_replays_said(tmp_path: Path) -> None:
    one, two, three = saved(tmp_path / "desk", "one", "two", "three")
    report: dict[str, Any] = {"kind": "cell", "lifetimes": 1, "steps": 5}
    said = {"one": ("", ""), "two": ("2 decisions differ", ""), "three": ("", "no data here")}
    replays.note(tmp_path / "desk", {name(two): (1, None)})

    def reports() -> Iterator[dict[str, Any]]:
        for cell in (one, two, three):
            reason, impossible = said[cell.plan.learner]
            why = {"reason": reason, "impossible": impossible}
            yield {**report, **why, "file": f"desk/{name(cell)}"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(verification.keeping(tmp_path, reports()))
    assert [*replays.read(tmp_path / "desk")] == [name(one)]
    going = verification.keeping(tmp_path, reports(), every=0.0)
    replays.note(tmp_path / "desk", {}, [name(one)])
    next(going)
    assert [*replays.read(tmp_path / "desk")] == [name(one)], "before the next one comes"
    going.close()
    assert "give it with --replay" in refusal(call("verify", tmp_path, "--keep"))


def test_a_commit_leaves_out_what_it_has_replayed_and_nothing_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left_out(lifetimes: int, steps: int | None) -> set[str]:
        return {path.name for path in verification.kept(tmp_path, lifetimes, steps)}

    def at(commit: str, dirty: bool) -> None:
        monkeypatch.setattr(replays, "git_state", lambda: (commit, dirty))

    one, two, three = saved(tmp_path / "desk", "one", "two", "three")
    at("abc", False)
    replays.note(tmp_path / "desk", {name(one): (1, None), name(two): (1, 50)})
    files = [Path(name(cell)).name for cell in (one, two)]
    assert left_out(1, 50) == left_out(1, 20) == {*files}
    assert left_out(1, None) == left_out(1, 10_000) == {files[0]}, "200 steps are all it has"
    assert left_out(2, 50) == set()
    cells = verification.kept(tmp_path / "desk" / "cells", 1, 50)
    assert {path.name for path in cells} == {*files}, "notes lie above the folder of cells"
    at("abc", True)
    replays.note(tmp_path / "desk", {name(three): (1, None)})
    assert left_out(1, 50) == set(), "a tree with changes is no commit's"
    at("abc", False)
    assert left_out(1, 50) == {*files}, "three was replayed by other code"
    at("abd", False)
    assert left_out(1, 50) == set()
    at("abc", False)
    assert one.outcomes is not None
    edited = replace(one, outcomes=Outcomes(~one.correct, one.outcomes.loss))
    (tmp_path / "desk" / name(one)).unlink()
    save_cell(tmp_path / "desk" / "cells", edited)
    assert left_out(1, 50) == {files[1]}, "it is another cell now"


def test_merging_brings_notes_of_the_cells_that_stay(tmp_path: Path) -> None:
    (one,) = saved(tmp_path / "a", "one")
    (two,) = saved(tmp_path / "b", "two")
    other = made("one", created="2027-01-01")
    save_cell(tmp_path / "b" / "cells", other)
    for folder in "ab":
        files = [replays.name_of(path) for path in (tmp_path / folder / "cells").iterdir()]
        replays.note(tmp_path / folder, dict.fromkeys(files, (1, None)))
    for order in ("ab", "ba"):
        out = tmp_path / f"out-{order}"
        merge = ("merge", *(tmp_path / folder for folder in order), "--out", out)
        assert call(*merge).code == 0
        cells = load_cells(out / "cells")[0]
        assert set(map(name, cells)) == {*replays.read(out)} == {name(one), name(two)}
        assert all(replays.of(cell, replays.read(out)) for cell in cells)


def test_a_damaged_note_is_a_sentence_and_costs_the_badges_alone(tmp_path: Path) -> None:
    (one,) = saved(tmp_path, "one")
    replays.note(tmp_path, {name(one): (1, None)})
    path = tmp_path / replays.FILE
    path.write_text(path.read_text().replace('"lifetimes": 1', '"lifetimes": 9'))
    with pytest.raises(VsmlBenchError, match=r"replays\.json was changed"):
        replays.read(tmp_path)
    assert "replays.json" in call("verify", tmp_path).out
    board = api.stored_board("desk", tmp_path)
    assert [problem.file for problem in board.problems] == ["replays.json"]
