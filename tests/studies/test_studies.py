"""Studies are found by their folders and by entry points, and bring all that belongs to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import LEARNER, call, install, write_suite
from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.plugins import load
from vsml_bench.protocols.protocol import find_protocol
from vsml_bench.registry import learners
from vsml_bench.studies import Study, find_study, studies
from vsml_bench.suites import find_suite, suite_names

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

COINS = (
    LEARNER
    + """
from vsml_bench.studies import Section
from vsml_bench.protocols.online import Online
from vsml_bench.studies import Study

STUDY = Study(
    protocol="coin_study:Coins",
    learners=("coin_study",),
    sections="coin_study:sections",
    pictures="coin_study:pictures",
)


@dataclass(frozen=True)
class Coins(Online):
    name = "coins"


class Coin(Base):
    variants = {"coin": Config("")}


def sections(finished):
    return [Section("Coins", "Steps.", ("learner", "steps"),
                    tuple((f.learner, f.steps) for f in finished))]


def pictures(shown):
    return {"coins.txt": repr(shown[0].rows).encode()}
"""
)


@pytest.mark.slow
def test_a_study_of_another_package_brings_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install(tmp_path / "site", "coin_study", COINS, studies="coins = coin_study:STUDY")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    assert learners()["coin"].origin == "package coin_study"
    more = 'protocol = "coins"\nstudy = "coins"\n'
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["coin", "chance"], more=more)
    out = tmp_path / "out"
    run = call("run", "--suite", suite, "--out", out, "--jobs", 1, "--quiet", "--device", "cpu")
    assert run.code == 0, run
    board = call("leaderboard", "--suite", suite, "--results", out, "--write")
    assert board.code == 0 and "\nCoins\n" in board.out
    assert (out / "coins.txt").read_text() == "(('coin', 30), ('chance', 30))"


def test_two_studies_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path, "cloning_too", "", studies="cloning = cloning_too")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(VsmlBenchError, match="two studies are called 'cloning'"):
        studies()


def test_what_is_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_study("") == Study()
    with pytest.raises(VsmlBenchError, match="unknown study 'clonin'; did you mean 'cloning'"):
        find_study("clonin")
    site = install(tmp_path, "no_study", "STUDY = 3", studies="three = no_study")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(VsmlBenchError, match=r"study 'three': .* it must be a Study"):
        find_study("three")


def test_each_folder_is_a_study_and_what_it_declares_is_there() -> None:
    folders = {p.parent.name for p in (paths.PACKAGE / "studies").glob("*/__init__.py")}
    assert set(studies()) == folders >= {"cloning", "robustness"}
    for name, study in studies().items():
        for declared in (study.sections, study.pictures):
            assert not declared or callable(load(declared, "study"))
        if study.protocol:
            assert find_protocol(name).__module__ == f"vsml_bench.studies.{name}.protocol"
    assert {find_suite(name).study for name in suite_names()} == {"", *folders}


def test_boards_of_studies_need_neither_torch_nor_altair() -> None:
    program = (
        "import sys\nfrom vsml_bench.plugins import load\nfrom vsml_bench.studies import studies\n"
        "for study in studies().values():\n"
        "    assert study.sections_of([]) is not None\n"
        "    study.pictures_of([])\n"
        "print([name for name in ('torch', 'altair') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
