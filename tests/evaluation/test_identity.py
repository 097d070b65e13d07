"""A stranger's code makes his stored results stale, in whatever form it comes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ask
from tests.harness import LEARNER, call, install, write, write_suite
from vsml_bench import cards, paths
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.plan import Plan, plan_suite
from vsml_bench.evaluation.runner import CostModel, RunOptions, run_cells
from vsml_bench.suites import find_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


def learner(value: str = "f()", *, top: str = "", late: str = "", base: str = "Base") -> str:
    """A learner's file. top: its first lines. late: first in the method. value: what it uses."""
    return f"""{top}
{LEARNER}

class Mine({base}):
    variants = {{"mine": Config("x")}}

    def predict(self, state, inputs):
        {late or "pass"}
        return state.logits * {value}, state
"""


F = "def f():\n    return 1.0\n"
CONFIG = "\nfrom h import Options\n\n@dataclass(frozen=True)\nclass Config{base}:\n    how: str\n"
OPTIONS = (
    "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Options:\n"
    "    value: float = 1.0\n"
)


@dataclass(frozen=True)
class Case:
    """A stranger's learner, and one edit that changes what it computes."""

    mine: str
    files: dict[str, str] = field(default_factory=dict)
    edited: str = "h.py"
    """Which file; what is not there is written anew."""


CASES = {
    "own method": Case(learner("1.0"), edited="mine.py"),
    "helper at the top": Case(learner(top="from h import f"), {"h.py": F}),
    "imported in a method": Case(learner(late="from h import f"), {"h.py": F}),
    "guarded import": Case(
        learner(top="try:\n    from h import f\nexcept ImportError:\n    f = float"), {"h.py": F}
    ),
    "star import": Case(learner(top="from h import *"), {"h.py": F}),
    "module and attribute": Case(learner("h.f()", top="import h"), {"h.py": F}),
    "own package": Case(
        learner(top="from pack import f"), {"pack/__init__.py": F}, "pack/__init__.py"
    ),
    "sub-module": Case(
        learner(top="from pack.sub.h import f"),
        {"pack/__init__.py": "", "pack/sub/__init__.py": "", "pack/sub/h.py": F},
        "pack/sub/h.py",
    ),
    "relative import": Case(
        learner(top="from pack import f"),
        {"pack/__init__.py": "from .h import f\n", "pack/h.py": F},
        "pack/h.py",
    ),
    "def under an if": Case(
        learner(top="if True:\n    def f():\n        return 1.0"), edited="mine.py"
    ),
    "decorator": Case(
        learner(top="from h import scaled\n\n@scaled\ndef f():\n    return 3.0"),
        {"h.py": "def scaled(f):\n    return lambda: f() * 1.0\n"},
    ),
    "constant": Case(learner("FACTOR", top="from h import FACTOR"), {"h.py": "FACTOR = 1.0\n"}),
    "default argument": Case(
        learner(top="from h import f"), {"h.py": "def f(x=1.0):\n    return x\n"}
    ),
    "default of the configuration": Case(
        learner("self.config.value").replace("how: str", "how: str\n    value: float = 1.0"),
        edited="mine.py",
    ),
    "nested default": Case(
        learner("self.config.options.value")
        + CONFIG.format(base="")
        + '    options: Options = Options()\n\nMine.variants = {"mine": Config("x")}\n',
        {"h.py": OPTIONS},
    ),
    "inherited default": Case(
        learner("self.config.value")
        + CONFIG.format(base="(Options)").replace("str", 'str = "x"')
        + '\nMine.variants = {"mine": Config()}\n',
        {"h.py": OPTIONS},
    ),
    "class attribute": Case(
        learner("self.factor").replace('"x")}\n', '"x")}\n    factor = 1.0\n'), edited="mine.py"
    ),
    "base class": Case(
        learner("self.factor", top="from h import Basis", base="Basis, Base"),
        {"h.py": "class Basis:\n    factor = 1.0\n"},
    ),
    "lambda": Case(learner(top="from h import f"), {"h.py": "f = lambda: 1.0\n"}),
    "module's __getattr__": Case(
        learner("h.anything", top="import h"), {"h.py": "def __getattr__(name):\n    return 1.0\n"}
    ),
    "import_module": Case(
        learner("importlib.import_module('h').f()", top="import importlib"), {"h.py": F}
    ),
    "a new file": Case(
        learner(top="try:\n    from h import f\nexcept ImportError:\n    f = lambda: 1.0")
    ),
    "a new file of the package": Case(
        learner(top="from pack import f"),
        {
            "pack/__init__.py": "try:\n    from .h import f\nexcept ImportError:\n"
            "    f = lambda: 1.0\n"
        },
        "pack/h.py",
    ),
}


@pytest.fixture
def quick_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of cards of its own, and processes that are quicker to start."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cards, "_ask", ask)


def edit(path: Path) -> None:
    """1.0 becomes -1.0; a file that is not there comes into being."""
    if not path.exists():
        write(path, F.replace("1.0", "-1.0"))
        return
    text = path.read_text()
    assert text.count("1.0") == 1
    path.write_text(text.replace("1.0", "-1.0"))


def plan_of(folder: Path, reference: object) -> Plan:
    """The one cell of a suite with this learner alone."""
    suite = find_suite(str(write_suite(folder / "s.toml", ["digits-held-out"], [reference])))
    (plan,) = plan_suite(suite, cards.find_all([str(reference)]))
    return plan


@pytest.mark.usefixtures("quick_cards")
@pytest.mark.parametrize("name", CASES)
def test_a_change_of_a_strangers_code_makes_his_cells_stale(name: str, tmp_path: Path) -> None:
    case, folder = CASES[name], tmp_path / "his"
    mine = write(folder / "mine.py", case.mine)
    for file, text in case.files.items():
        write(folder / file, text)
    before, again = plan_of(tmp_path, mine), plan_of(tmp_path, mine)
    assert before.key == again.key
    edit(folder / case.edited)
    after = plan_of(tmp_path, mine)
    assert before.key != after.key and before.job.key != after.job.key
    differing = {
        part for part, value in after.identity().items() if value != before.identity()[part]
    }
    assert differing == {"learner"}
    old, new = before.job.learner, after.job.learner
    assert old.files != new.files
    assert (old.config != new.config) == ("default of" in name or "ed default" in name)


@pytest.mark.usefixtures("quick_cards")
@pytest.mark.parametrize("what", ["code", "late code", "a new file", "version", "namespace"])
def test_and_so_does_one_of_an_installed_package(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"stranger_{what.replace(' ', '_')}"
    site = install(tmp_path / "site", package, learner("1.0"))
    (site / f"{package}.py").unlink()
    guarded = "try:\n    from .new import f\nexcept ImportError:\n    f = lambda: 1.0"
    if what != "namespace":
        write(site / package / "__init__.py", "")
    write(site / package / "late.py", "FACTOR = 1.0\n")
    write(
        site / package / "idea.py",
        learner("FACTOR * f()", top=guarded, late="from .late import FACTOR"),
    )
    info = site / f"{package}-1.0.dist-info"
    write(info / "top_level.txt", package)
    write(info / "RECORD", f"{package}/__init__.py,,\n{package}/idea.py,,\n")
    monkeypatch.syspath_prepend(site)
    before = plan_of(tmp_path, f"{package}.idea")
    assert before.key == plan_of(tmp_path, f"{package}.idea").key
    assert before.job.learner.package == f"{package} 1.0"
    if what in ("code", "namespace"):
        edit(site / package / "idea.py")
    elif what == "late code":
        edit(site / package / "late.py")
    elif what == "a new file":
        edit(site / package / "new.py")
    else:
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
    after = plan_of(tmp_path, f"{package}.idea")
    assert after.key != before.key
    old, new = before.job.learner, after.job.learner
    assert (old.files == new.files) == (what == "version")
    assert (old.package == new.package) == (what != "version")


def board_of(suite: Path, folder: Path) -> dict[str, Any]:
    found = call("leaderboard", "--suite", suite, "--results", folder, "--format", "json")
    assert found.code == 0, found
    board: dict[str, Any] = found.json
    return board


@pytest.mark.usefixtures("quick_cards")
def test_whoever_edits_an_idea_is_not_shown_old_numbers(tmp_path: Path) -> None:
    """A helper that is imported late."""
    mine = write(tmp_path / "his" / "mine.py", learner(late="from h import f"))
    write(tmp_path / "his" / "h.py", F)
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [mine], lifetimes=2)
    command = ("run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--json")
    first, again = call(*command), call(*command)
    assert (first.code, again.code) == (0, 0), first
    assert (first.json["reused"], again.json["reused"]) == (0, 1)
    (old,) = board_of(suite, tmp_path / "out")["rows"]
    edit(tmp_path / "his" / "h.py")
    stale = board_of(suite, tmp_path / "out")
    assert [row["status"] for row in stale["rows"]] == ["missing"]
    (listed,) = stale["stale"]
    assert "learner" in json.dumps(listed) and "mine" in json.dumps(listed)
    after = call(*command)
    assert after.code == 0 and after.json["reused"] == 0
    cells, problems = load_cells(tmp_path / "out" / "cells")
    assert len({cell.key for cell in cells}) == 2 and not problems
    (new,) = board_of(suite, tmp_path / "out")["rows"]
    assert new["status"] == "ok" and new["mean"] != old["mean"]


def run_plans(plans: list[Plan], folder: Path) -> list[Any]:
    options = RunOptions(
        folder, paths.results() / "checkpoints", device="cpu", executor=LocalExecutor(1, False)
    )
    return run_cells(plans, options, CostModel(())).cells


LATER = """
class Mine(Base):
    variants = {"mine": Config("x")}

    def predict(self, state, inputs):
        if state.steps.max() >= 20:
            import h
        return state.logits, state._replace(steps=state.steps + 1)
"""


@pytest.mark.usefixtures("quick_cards")
def test_new_code_is_not_filed_under_the_old_key(tmp_path: Path) -> None:
    """Edited after it was planned; and a file that nobody could know of when it was."""
    mine = write(tmp_path / "his" / "mine.py", learner(late="from h import f"))
    write(tmp_path / "his" / "h.py", F)
    plan = plan_of(tmp_path, mine)
    edit(tmp_path / "his" / "h.py")
    later = write(tmp_path / "later" / "mine.py", LEARNER + LATER)
    write(tmp_path / "later" / "h.py", F)
    for planned, words in (
        (plan, "is not what was planned (h.py)"),
        (plan_of(tmp_path, later), "imports h.py so late that no trial"),
    ):
        (cell,) = run_plans([planned], tmp_path / "out")
        assert cell.status == "crashed" and words in cell.reason
        assert str(tmp_path) not in cell.reason
    cells, _ = load_cells(tmp_path / "out" / "cells")
    assert {cell.status for cell in cells} == {"crashed"}


@pytest.mark.usefixtures("quick_cards")
def test_a_link_to_a_learner_counts_with_what_is_beside_the_link(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "idea.py", learner(top="from h import f"))
    write(tmp_path / "his" / "h.py", F)
    mine = tmp_path / "his" / "mine.py"
    mine.symlink_to(tmp_path / "elsewhere" / "idea.py")
    keys = [plan_of(tmp_path, mine).key]
    for file in (tmp_path / "his" / "h.py", tmp_path / "elsewhere" / "idea.py"):
        file.write_text(file.read_text() + "\n# edited\n")
        keys.append(plan_of(tmp_path, mine).key)
    assert len(set(keys)) == 3


@pytest.mark.usefixtures("quick_cards")
def test_where_one_stands_and_what_one_calls_the_file_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write(tmp_path / "his" / "mine.py", learner(top="from h import f"))
    write(tmp_path / "his" / "h.py", F)
    away = cards.find_one(str(mine))
    monkeypatch.chdir(tmp_path / "his")
    for reference in ("mine.py", "./mine.py:Mine", f"{mine}:Mine:mine", "../his/mine.py"):
        assert cards.find_one(reference).identity() == away.identity()
    assert set(away.files) == {"mine.py", "h.py"}
