"""What is kept of replays is of just the cells that were replayed, and reaches the badge."""

from __future__ import annotations

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
    return path_of(Path(), cell).name


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


def test_verify_keeps_what_replays_said(tmp_path: Path) -> None:
    one, two, three = saved(tmp_path / "desk", "one", "two", "three")
    report: dict[str, Any] = {"kind": "cell", "lifetimes": 1, "steps": 5, "reason": ""}
    said = {"one": ("", ""), "two": ("2 decisions differ", ""), "three": ("", "no data here")}
    replays.note(tmp_path / "desk", {name(two): (1, None)})
    verification.keep(
        tmp_path,
        [
            {
                **report,
                "file": f"desk/cells/{name(cell)}",
                "reason": said[cell.plan.learner][0],
                "impossible": said[cell.plan.learner][1],
            }
            for cell in (one, two, three)
        ],
    )
    assert [*replays.read(tmp_path / "desk")] == [name(one)]
    assert "give it with --replay" in refusal(call("verify", tmp_path, "--keep"))


def test_merging_brings_notes_of_the_cells_that_stay(tmp_path: Path) -> None:
    (one,) = saved(tmp_path / "a", "one")
    (two,) = saved(tmp_path / "b", "two")
    other = made("one", created="2027-01-01")
    save_cell(tmp_path / "b" / "cells", other)
    for folder in "ab":
        files = [path.name for path in (tmp_path / folder / "cells").iterdir()]
        replays.note(tmp_path / folder, dict.fromkeys(files, (1, None)))
    for order in ("ab", "ba"):
        out = tmp_path / f"out-{order}"
        merge = ("merge", *(tmp_path / folder for folder in order), "--out", out)
        assert call(*merge).code == 0
        cells = load_cells(out / "cells")[0]
        assert set(map(name, cells)) == {*replays.read(out)} == {name(one), name(two)}
        assert all(replays.of(cell, replays.read(out)) for cell in cells)


def test_a_damaged_note_is_a_sentence_and_costs_the_badges_alone(tmp_path: Path) -> None:
    saved(tmp_path, "one")
    replays.note(tmp_path, {path.name: (1, None) for path in (tmp_path / "cells").iterdir()})
    path = tmp_path / replays.FILE
    path.write_text(path.read_text().replace('"lifetimes": 1', '"lifetimes": 9'))
    with pytest.raises(VsmlBenchError, match=r"replays\.json was changed"):
        replays.read(tmp_path)
    assert "replays.json" in call("verify", tmp_path).out
    board = api.stored_board("desk", tmp_path)
    assert [problem.file for problem in board.problems] == ["replays.json"]
