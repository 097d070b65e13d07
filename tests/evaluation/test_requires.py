"""Learners that need a package which may not be installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness import LEARNER, call, refusal, write, write_suite
from vsml_bench.errors import UnavailableError
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.registry import find_learner

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

NEEDY = (
    LEARNER
    + """
class Needy(Base):
    variants = {"needy": Config("")}
    requires = {"vsml_test_package": "ask its author for it"}

    def init_state(self, lifetimes, shape, generator):
        import vsml_test_package

        return super().init_state(lifetimes, shape, generator)
"""
)
PACKAGE = "vsml_test_package"
REASON = (
    f"learner 'needy' (needy.py) needs the package {PACKAGE}, which is not installed: ask "
    "its author for it."
)


def test_without_its_package_a_learner_is_unavailable_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = write(tmp_path / "mine" / "needy.py", NEEDY)
    suite = write_suite(
        tmp_path / "suite.toml", ["digits-held-out"], ["nearest-mean", needy], lifetimes=2
    )
    command = ["run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--json"]
    run = call(*command)
    assert run.code == 0, run
    assert {cell["learner"]: cell["status"] for cell in run.json["cells"]} == {
        "nearest-mean": "ok",
        "needy": "unavailable",
    }
    (cell,) = (c for c in load_cells(tmp_path / "out" / "cells")[0] if c.plan.learner == "needy")
    assert cell.reason == REASON and cell.outcomes is None
    board = ["leaderboard", "--suite", suite, "--results", tmp_path / "out", "--format", "json"]
    rows = {row["learner"]: row for row in call(*board).json["rows"]}
    assert rows["needy"]["status"] == "unavailable" and rows["needy"]["mean"] is None
    assert rows["nearest-mean"]["mean"] is not None

    write(tmp_path / "site" / "vsml_test_package.py", "")
    monkeypatch.syspath_prepend(tmp_path / "site")
    again = call(*command).json
    assert again["reused"] == 1
    assert {cell["status"] for cell in again["cells"]} == {"ok"}


def test_what_needs_an_instance_says_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)  # where another test had it
    needy = write(tmp_path / "needy.py", NEEDY)
    with pytest.raises(UnavailableError) as refused:
        find_learner(f"{needy}:Needy").create(0)
    assert str(refused.value) == REASON
    explained = call("explain", f"{needy}:Needy")
    assert explained.code == 0 and "meta_parameters  null" in explained.out
    command = ("meta-train", "--split", "digits-held-out", "--learner", f"{needy}:Needy")
    assert "nothing to tune" in refusal(call(*command))
    recipe = "recipe = Recipe(phases=(Phase(1, 1, 0.1),))"
    taught = NEEDY.replace("requires =", f"{recipe}\n    requires =").replace(
        "import Learner", "import Learner, Phase, Recipe"
    )
    trained = write(tmp_path / "taught" / "needy.py", taught)
    command = ("meta-train", "--split", "digits-held-out", "--learner", f"{trained}:Needy")
    assert refusal(call(*command)) == f"vsml-bench: {REASON}"
