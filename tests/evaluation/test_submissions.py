"""A submission says what was found; one that is not true is refused, whatever its seals say."""

from __future__ import annotations

import getpass
import glob
import json
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from tests.asking import ask
from tests.harness import LEARNER, Outcome, call, refusal, write
from vsml_bench import api, cards
from vsml_bench.evaluation import examination, replays
from vsml_bench.evaluation.cell import Cell, load_cell, load_cells, path_of, save_cell
from vsml_bench.evaluation.examination import Report, Rerun, accepted
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.submissions import gather
from vsml_bench.evaluation.worker import test as run_without_audit
from vsml_bench.storage import seal, unseal

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
HONEST = (
    LEARNER
    + """
from helper import counted


class Mine(Base):
    variants = {"mine": Config("x")}
    external_data = "ImageNet-1k, `through` <b>weights</b>"

    def init_state(self, lifetimes, shape, generator):
        return Count(torch.zeros(lifetimes), torch.zeros(lifetimes, shape.classes))

    def observe(self, state, labels):
        return state._replace(logits=state.logits + counted(labels, state.logits.shape[-1]))
"""
)
HELPER = """
from torch.nn.functional import one_hot


def counted(labels, classes):
    return one_hot(labels, classes)
"""
PEEKS = """
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits + 9.0 * counted(labels, logits.shape[-1]), state
"""


@dataclass(frozen=True)
class Submitted:
    """A learner, its results and its submission."""

    learner: Path
    results: Path
    folder: Path
    said: Outcome


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitted]:
    place = tmp_path_factory.mktemp("author")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(cards, "_ask", ask)
        patch.setattr(examination, "contract_of", once)
        patch.chdir(place)
        write(place / "work" / "helper.py", HELPER)
        learner = write(place / "work" / "mine.py", HONEST)
        results(learner, place / "runs")
        folder = place / "submissions" / "mine"
        submit = ("submit", learner, "--suite", "smoke", "--results", place / "runs")
        said = call(*submit, "--out", folder, "--jobs", 1, "--quiet")
        yield Submitted(learner, place / "runs", folder, said)


def once(reference: str, ask: Callable[[str], Any] = examination.contract_of) -> Any:
    """What the contract finds out of files with these bytes, wherever they are; it is slow."""
    folder = Path(reference.partition(":")[0]).parent
    key = tuple(path.read_bytes() for path in sorted(folder.glob("*.py")))
    if key not in FOUND:
        FOUND[key] = ask(reference)
    return FOUND[key]


FOUND: dict[tuple[bytes, ...], Any] = {}


def results(learner: Path, folder: Path) -> None:
    """What the learner's code gives, by a harness that does not look."""
    setting = Setting((folder,), None, "cpu", "", ("", False))
    for plan in api.plan("smoke", learners=[str(learner)]):
        save_cell(folder / "cells", run_without_audit(plan, setting))


def check(folder: Path) -> tuple[int, Any]:
    found = call("submit", "--check", folder, "--jobs", 1, "--json")
    (report,) = json.loads(found.out)
    return found.code, report


def test_it_holds_all_that_is_needed_and_no_path_of_this_machine(submitted: Submitted) -> None:
    assert submitted.said.code == 0, submitted.said
    files = {path.relative_to(submitted.folder).as_posix() for path in _files(submitted.folder)}
    cells = {f"cells/{path.name}" for path in (submitted.results / "cells").iterdir()}
    own = {"learner/mine.py", "learner/helper.py", "submission.json", "SUMMARY.md"}
    assert files == cells | own and len(cells) == 2
    private = {str(submitted.learner.parents[1]), socket.gethostname(), getpass.getuser()}
    for path in _files(submitted.folder):
        text = path.read_text(encoding="utf-8")
        assert not any(re.search(rf"\b{re.escape(p)}\b", text) for p in private - {"root"})
    summary = (submitted.folder / "SUMMARY.md").read_text()
    assert "`mine` in suite `smoke`: self-reported" in summary
    assert "`ImageNet-1k, 'through' <b>weights</b>`" in summary, "code, which markup cannot leave"
    assert "lifetimes of 2 of 2 cells" in summary


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_workflow_checks_it_by_the_commands_of_its_steps(
    submitted: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, as bash would: patterns are expanded, and a pipe only keeps what is said."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/submission.yml").read_text())
    assert workflow[True].keys() == {"pull_request"}, "no secrets for a stranger's code"
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["defaults"]["run"]["shell"] == "bash", "which sets pipefail"
    lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    commands = [line for line in lines if line.startswith("vsml-bench ")]
    assert commands
    monkeypatch.chdir(submitted.folder.parents[1])
    for command in commands:
        words = shlex.split(command)
        assert words[words.index("|") :] == ["|", "tee", "-a", "$GITHUB_STEP_SUMMARY"]
        words = words[1 : words.index("|")]
        expanded = [path for word in words for path in (sorted(glob.glob(word)) or [word])]
        done = call(*expanded, "--jobs", 1)
        assert done.code == 0, done
        assert re.search(r"`smoke`: replayed on \d{4}-\d\d-\d\d, \w+", done.out)


@pytest.fixture
def copied(submitted: Submitted, tmp_path: Path) -> Path:
    return Path(shutil.copytree(submitted.folder, tmp_path / "copy"))


def test_cells_that_were_edited_and_sealed_again_are_found(copied: Path) -> None:
    for path in (copied / "cells").iterdir():
        cell = load_cell(path)
        right = np.ones_like(cell.correct)
        save_cell(
            copied / "cells", replace(cell, outcomes=Outcomes(right, np.full(right.shape, 0.1)))
        )
    code, report = check(copied)
    assert code == 1 and report["badge"] == "refused" and not report["faults"]
    assert {rerun["how"] for rerun in report["reruns"] if rerun["fault"]} == {"audit", "replay"}
    assert all(rerun["fault"] for rerun in report["reruns"])


def test_a_learner_that_leaks_is_found(submitted: Submitted, tmp_path: Path) -> None:
    write(tmp_path / "work" / "helper.py", HELPER)
    learner = write(tmp_path / "work" / "mine.py", HONEST + PEEKS)
    said = call("submit", learner, "--suite", "smoke", "--out", tmp_path / "out", "--quiet")
    assert "breaks the contract" in refusal(said) and "label leak" in said.out
    assert not (tmp_path / "out").exists()
    results(learner, tmp_path / "runs")
    gather(str(learner), "smoke", tmp_path / "runs", tmp_path / "out")
    code, report = check(tmp_path / "out")
    assert code == 1 and report["badge"] == "refused"
    failed = {f["check"] for f in report["contract"][0]["results"] if f["outcome"] == "failed"}
    assert "label leak" in failed
    faults = {rerun["how"]: rerun["fault"] for rerun in report["reruns"]}
    assert "differs" in faults["audit"]


def test_what_holds_is_accepted_with_its_badge(submitted: Submitted, tmp_path: Path) -> None:
    files = [f"cells/{path.name}" for path in (submitted.folder / "cells").iterdir()]
    again = [Rerun(file, how, lifetimes=2) for file in files for how in ("audit", "replay")]
    report = Report("2026-11-29", "abc", by_author=False, reruns=tuple(again))
    bad = replace(report, faults=("no",))
    out = tmp_path / "results"
    assert accepted(submitted.folder, bad, out) == bad and not out.exists()
    assert accepted(submitted.folder, report, out) == report
    cells, problems = load_cells(out / "cells")
    known = replays.read(out)
    assert not problems and [*known] == sorted(files)
    for cell in cells:
        found = replays.of(cell, known)
        assert found is not None and (found.lifetimes, found.steps) == (2, cell.correct.shape[1])
    other = tmp_path / "other"
    save_cell(other / "cells", replace(cells[0], outcomes=wrong(cells[0])))
    (fault,) = accepted(submitted.folder, report, other).faults
    assert "conflict" in fault and not (other / replays.FILE).exists()


def wrong(cell: Cell) -> Outcomes:
    """All of it."""
    return Outcomes(np.zeros_like(cell.correct), np.full(cell.correct.shape, 3.0))


def _without_a_cell(folder: Path) -> None:
    next((folder / "cells").iterdir()).unlink()


def _with_another_file(folder: Path) -> None:
    write(folder / "learner" / "more.py", "")


def _with_compiled_code(folder: Path) -> None:
    write(folder / "learner" / "__pycache__" / "helper.cpython-311.pyc", "")


def _with_a_link(folder: Path) -> None:
    (folder / "cells" / "link").symlink_to("/")


def _with_an_edited_file(folder: Path) -> None:
    write(folder / "learner" / "helper.py", HELPER + "\n")


def _with_another_cell(folder: Path) -> None:
    cell = load_cell(next((folder / "cells").iterdir()))
    other = replace(cell, plan=replace(cell.plan, lifetimes=5), identity={})
    save_cell(folder / "cells", other)


def _with_other_data_said(folder: Path) -> None:
    document = unseal((folder / "submission.json").read_bytes(), "")
    document["submission"]["variants"][0]["external_data"] = ""
    (folder / "submission.json").write_bytes(seal(document))


BROKEN = {
    _without_a_cell: "is not here",
    _with_another_file: "learner/more.py is not among the files",
    _with_compiled_code: "is not among the files",
    _with_a_link: "cells/link is a link",
    _with_an_edited_file: "learner/helper.py is not the file that",
    _with_another_cell: "is not what the suite plans today",
    _with_other_data_said: "says something else of the learner",
}


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_a_folder_that_is_not_what_it_says_is_refused(change: Any, copied: Path) -> None:
    change(copied)
    code, report = check(copied)
    assert code == 1 and report["badge"] == "refused"
    assert any(BROKEN[change] in fault for fault in report["faults"]), report["faults"]


def test_what_cannot_be_submitted_is_said(submitted: Submitted, tmp_path: Path) -> None:
    learner, submit = submitted.learner, ("submit", "--suite", "smoke")
    said = refusal(call(*submit, learner, "--results", tmp_path, "--out", tmp_path / "o"))
    assert f"vsml-bench run --suite smoke --learner {learner} --out {tmp_path}" in said
    said = refusal(
        call(*submit, learner, "--results", submitted.results, "--out", submitted.folder)
    )
    assert "is not empty" in said
    assert "is no file of a learner" in refusal(call(*submit, "ridge"))
    assert "one of both" in refusal(call("submit"))
    assert "name folders by --check" in refusal(call("submit", learner, "--accept", tmp_path))
    assert "is no submission" in refusal(call("submit", "--check", tmp_path))
    cell = load_cell(next((submitted.folder / "cells").iterdir()))
    assert path_of(submitted.folder / "cells", cell).is_file()
