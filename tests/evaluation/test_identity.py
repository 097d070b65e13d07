"""What makes stored results stale: a stranger's code in any form, declared values, nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ask
from tests.harness import LEARNER, call, install, write, write_suite
from vsml_bench import api, cards, paths
from vsml_bench.cards import Card
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.evaluation.plan import Plan, plan_suite
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
    assert old.code != new.code
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
    assert (old.code == new.code) == (what == "version")
    assert (old.package == new.package) == (what != "version")
