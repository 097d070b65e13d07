"""What `new-learner` writes runs as it is, and nothing is ever overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import call, refusal
from vsml_bench import registry
from vsml_bench.contract.suite import check_learner
from vsml_bench.new_learner import template

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


@pytest.mark.slow
@pytest.mark.parametrize("meta", [False, True], ids=["tuned", "meta-trained"])
def test_it_keeps_the_contract_and_runs_on_the_smoke_suite(tmp_path: Path, meta: bool) -> None:
    written = call("new-learner", "fading-mean", *(["--meta"] if meta else []))
    assert written.code == 0 and "vsml-bench check fading_mean.py" in written.out
    entry = registry.find_learner(str(Path("fading_mean.py").resolve()))
    assert (entry.name, entry.cls.__name__) == ("fading-mean", "FadingMean")
    assert bool(entry.cls.recipe) == meta and bool(entry.cls.tuning) != meta
    report = check_learner(entry)
    assert report.failed == ()
    assert {r.check for r in report.results if r.outcome == "skipped"} == (
        set() if meta else {"save and load", "population", "meta-gradient"}
    )
    command = ["--suite", "smoke", "--split", "digits-held-out", "--seed", 0]
    command += ["--learner", "fading_mean.py"]
    ran = call("run", *command, "--jobs", 1, "--device", "cpu", "--json")
    assert ran.code == 0, ran
    assert {cell["status"] for cell in ran.json["cells"]} == {"ok"}
    assert "fading-mean" in call("leaderboard", *command).out


@pytest.mark.parametrize("meta", [False, True])
def test_a_template_is_short_and_says_what_to_change(meta: bool) -> None:
    lines = template(meta).read_text("utf-8").splitlines()
    assert len(lines) < 80
    (entry,) = registry.find_learners(str(template(meta)))
    assert entry.name == "my-learner"


def test_out_and_a_file_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.py"
    assert call("new-learner", "mine", "--out", path).code == 0
    path.write_text("precious")
    assert "exists already" in refusal(call("new-learner", "mine", "--out", path))
    assert path.read_text() == "precious"
    assert "end its name in .py" in refusal(call("new-learner", "mine", "--out", tmp_path / "mine"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Mine", "small letters and digits"),
        ("my learner", "small letters and digits"),
        ("../mine", "small letters and digits"),
        ("2-fast", "small letters and digits"),
        ("ridge", r"exists already (baselines/ridge.py)"),
        ("none", "class None"),
        ("learner", "class Learner"),
        ("tensor", "class Tensor"),
    ],
)
def test_names_that_cannot_be_used(name: str, words: str) -> None:
    assert words in refusal(call("new-learner", name))
    assert not list(Path.cwd().iterdir())
