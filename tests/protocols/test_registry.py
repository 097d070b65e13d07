"""Protocols are found by name, by entry point and by place, and take their numbers from a suite."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.harness import LATE, call, install, refusal, write, write_suite
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import find_protocol
from vsml_bench.studies.cloning.protocol import Cloning
from vsml_bench.studies.introspection.protocol import Introspection
from vsml_bench.suites import Suite, find_split, find_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

TEXT = (
    LATE
    + """

class Nameless(Online):
    name = ""


class Unfinished:
    pass
"""
)


def test_a_protocol_from_a_file_makes_a_board(tmp_path: Path) -> None:
    """Its means are those of the last predictions of the same pinned streams."""
    file = write(tmp_path / "late.py", TEXT)
    boards = {}
    for name, more in (
        ("late", f'protocol = "{file}:Late"\n[options]\nlast = 7\n'),
        ("online", ""),
    ):
        suite = write_suite(
            tmp_path / f"{name}.toml", ["digits-held-out"], ["nearest-mean"], more=more
        )
        out = tmp_path / name
        done = call("run", "--suite", suite, "--out", out, "--jobs", 1, "--quiet")
        assert done.code == 0, done
        boards[name] = call(
            "leaderboard", "--suite", suite, "--results", out, "--format", "json"
        ).json
    cells, problems = load_cells(tmp_path / "online" / "cells")
    assert len(cells) == 1 and not problems
    rows = {row["learner"]: row for row in boards["late"]["rows"]}
    for cell in cells:
        assert cell.outcomes is not None
        row = rows[cell.plan.learner]
        assert (row["metric"], row["steps"], row["status"]) == ("accuracy", 7, "ok")
        assert row["mean"] == pytest.approx(cell.outcomes.correct[:, -7:].mean())
        assert not np.isclose(row["mean"], cell.outcomes.correct.mean())
    for stored in (tmp_path / "late").rglob("*"):
        if stored.is_file():
            assert str(tmp_path).encode() not in stored.read_bytes(), "a path in a record"


def test_a_protocol_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path, "late_package", TEXT, protocols="late = late_package:Late")
    monkeypatch.syspath_prepend(site)
    cls = find_protocol("late")
    assert cls is find_protocol("late_package:Late")
    protocol = cls(steps=20, last=3)  # type: ignore[call-arg]
    assert pickle.loads(pickle.dumps(protocol)) == protocol
    other = install(tmp_path / "b", "late_too", TEXT, protocols="online = late_too:Late")
    monkeypatch.syspath_prepend(other)
    with pytest.raises(VsmlBenchError, match="two protocols are called 'online'"):
        find_protocol("late")


def test_a_name_that_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path, "late_misnamed", TEXT, protocols="later = late_misnamed:Late")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(VsmlBenchError, match="'later' calls itself 'late'"):
        find_protocol("later")


@pytest.mark.parametrize("cls", [Online, FewShot, Cloning, Introspection])
def test_shipped_ones_are_found_by_name_and_place(cls: type[Online] | type[FewShot]) -> None:
    assert find_protocol(cls.name) is cls
    assert find_protocol(f"{cls.__module__}:{cls.__name__}") is cls


def test_one_from_a_file_is_found_again_in_another_process(tmp_path: Path) -> None:
    file = write(tmp_path / "late.py", TEXT)
    cls = find_protocol(f"{file}:Late")
    data = pickle.dumps(cls(steps=20, last=3))  # type: ignore[call-arg]
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "Late(steps=20, last=3)"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("few_short", "unknown protocol 'few_short'; did you mean 'few_shot'?"),
        ("none.py:Late", "protocol file none.py does not exist"),
        ("late.py", "expected path/to/file.py:Name or package.module:Name"),
        ("late.py:Lat", "late.py defines no protocol 'Lat'; did you mean 'Late'?"),
        ("late.py:Unfinished", "it must be a subclass of vsml_bench.protocols.protocol.Protocol"),
        ("late.py:Nameless", "class Nameless lacks name"),
        ("not_there.protocol:Late", "protocol module not_there.protocol cannot be imported"),
        ("broken.py:Late", "protocol file broken.py cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_is_no_protocol(reference: str, words: str) -> None:
    write(Path("late.py"), TEXT)
    write(Path("broken.py"), "1 / 0")
    with pytest.raises(VsmlBenchError) as caught:
        find_protocol(reference)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[options]\nlats = 7", "options: the protocol 'late' has no 'lats'; did you mean 'last'?"),
        ("[options]\nsteps = 7", "options: the protocol 'late' has no 'steps'"),
        ("[options]\nlast = 7.5", "options: last: expected int, found 7.5"),
        ("", "options: the key 'last' is missing"),
        ("shots = 3\n[options]\nlast = 7", "shots: the protocol 'late' has none; leave it out"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, more: str, words: str) -> None:
    file = write(tmp_path / "late.py", TEXT)
    more = f'protocol = "{file}:Late"\n{more}'
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["chance"], more=more)
    said = refusal(call("run", "--suite", suite, "--out", tmp_path / "out"))
    assert words in said and "suite 's'" in said


def test_numbers_of_a_suite() -> None:
    suite = find_suite("omniglot")
    split = find_split(suite.splits[0])
    found = FewShot.of(suite, split.meta_test, "meta_test")
    assert found == FewShot(split.meta_test.classes or 0, suite.shots or 0, suite.queries or 0)
    desk = dataclasses.replace(find_suite("desk"), protocol="introspection")
    assert Introspection.of(desk, split.meta_test, "meta_test") == Introspection(desk.steps)
    assert Suite.shots is None


def test_planning_needs_no_torch() -> None:
    names = ("online", "few_shot", "cloning", "introspection")
    program = (
        "import sys\nfrom vsml_bench.protocols.protocol import find_protocol\n"
        f"print([find_protocol(name).__name__ for name in {names}], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['Online', 'FewShot', 'Cloning', 'Introspection'] False"
