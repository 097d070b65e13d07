"""Each thing that can be wrong with what a user gives: one sentence, exit code 2, nothing lost.

Damaged results are in `evaluation/test_runner.py`, damaged checkpoints in `meta_training/`.
"""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.data import idx_files
from tests.harness import LEARNER, call, refusal, write, write_split, write_suite
from vsml_bench import registry
from vsml_bench.errors import VsmlBenchError

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

TRAIN = ["meta-train", "--split", "digits-held-out", "--learner", "vsml"]

MINE = (
    LEARNER
    + """
class Mine(Base):
    variants = {"mine": Config("")}

    def predict(self, state, inputs):
        return state.logits, state
"""
)
LOGITS = "return state.logits, state\n"
FAULTS = {
    "missing method": (
        "class Mine(Base):",
        "class Mine(Learner):\n    family = source = 'none'",
        r"class Mine lacks init_state\(\), observe\(\)",
    ),
    "missing attribute": ('family = "test"', "", "lacks the attribute 'family'"),
    "too few classes": (
        LOGITS,
        "return state.logits[:, 1:], state\n",
        r"predict\(\).*\[3, 5\].*\[3, 4\]",
    ),
    "an axis too many": (LOGITS, "return state.logits[None], state\n", r"predict\(\).*\[1, 3, 5\]"),
    "one lifetime only": (LOGITS, "return state.logits[:1], state\n", r"predict\(\).*\[1, 5\]"),
    "integer logits": (LOGITS, "return state.logits.long(), state\n", r"predict\(\).*torch\.int64"),
    "no tensor": (LOGITS, "return [0.0], state\n", "as a tensor, not list"),
    "state without lifetimes": (
        LOGITS,
        "return state.logits, state\n\n    def observe(self, state, labels):\n"
        "        return state._replace(steps=torch.zeros(7))\n",
        r"observe\(\) must return a state.*\[7\]",
    ),
    "a method that fails": (LOGITS, "return 1 / 0\n", r"predict\(\) fails.*ZeroDivisionError"),
    "configuration of another kind": ('Config("")}', "{}}", "instance of a frozen dataclass"),
    "syntax": ("class Mine(Base):", "class Mine(Base:", "cannot be imported: SyntaxError"),
    "import": ("import multiprocessing", "import not_there", "ModuleNotFoundError"),
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--suite", "smokee"], "unknown suite 'smokee'; did you mean 'smoke'?"),
        (["run", "--suite", "none.toml"], "cannot read none.toml"),
        (
            ["run", "--suite", "smoke", "--split", "digits-heldout"],
            "did you mean 'digits-held-out'?",
        ),
        (["run", "--suite", "smoke", "--learner", "vmsl"], "did you mean 'vsml'?"),
        (["run", "--suite", "smoke", "--add-learner", "vmsl"], "did you mean 'vsml'?"),
        (["run", "--suite", "smoke", "--learner", "none.py"], "none.py does not exist"),
        (
            ["run", "--suite", "smoke", "--learner", "vsml", "--set", "tick=3"],
            "did you mean 'ticks'?",
        ),
        (["run", "--suite", "smoke", "--set", "ticks"], "write key=value"),
        (["run", "--suite", "smoke", "--learner", "vsml", "--set", "ticks=two"], "expected int"),
        (["run", "--suite", "smoke", "--jobs", "0"], "a whole number from 1 on, found '0'"),
        (["leaderboard", "--suite", "smokee"], "did you mean 'smoke'?"),
        (["plan", "--suite", "smoke", "--learner", "vmsl"], "did you mean 'vsml'?"),
        ([*TRAIN[:2], "digits-hold-out", *TRAIN[3:]], "did you mean 'digits-held-out'?"),
        ([*TRAIN, "--recipe", "step=3"], "unknown key 'step'"),
        ([*TRAIN, "--threads", "0"], "a whole number from 1 on, found '0'"),
        (["data", "fetch", "minst"], "did you mean 'mnist'?"),
        (["explain", "digits-heldout"], "unknown"),
        (["explain", "none.json"], "cannot read cell none.json"),
        (["verify", "nowhere"], "is not a folder"),
        (["verify", ".", "--steps", "3"], "give it with --replay"),
        ([*TRAIN, "--recipe", "starts_from=chance"], "learner's own recipe"),
    ],
)
def test_unknown_names_and_values(arguments: list[str], words: str) -> None:
    assert words in refusal(call(*arguments))
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lifetimes = ", "is not valid TOML"),
        ("lifetime = 3", "unknown key 'lifetime'; did you mean 'lifetimes'?"),
        ("lifetimes = 3.5", "lifetimes: expected int, found 3.5"),
        ("lifetimes = true", "lifetimes: expected int, found True"),
        ("protocol = 'offline'", "unknown protocol 'offline'; did you mean 'online'?"),
        ("study = 'cloing'", "unknown study 'cloing'; did you mean 'cloning'?"),
        ("lifetimes = 0", "lifetimes: expected more than 0, found 0"),
        ("steps = -1", "steps: expected more than 0, found -1"),
        ("[recipes.vmsl]", "'vmsl' is not among its learners"),
        ("[recipes.vsml]\nphase = []", "recipes.vsml: unknown key 'phase'; did you mean 'phases'?"),
    ],
)
def test_malformed_suites(tmp_path: Path, text: str, words: str) -> None:
    head = 'description = ""\nsplits = ["digits-held-out"]\nlearners = ["vsml"]\n'
    suite = write(tmp_path / "mine.toml", head + text + "\n")
    said = refusal(call("run", "--suite", suite, "--out", tmp_path / "out"))
    assert words in said and "mine" in said
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    assert "bytes.toml is not valid TOML" in refusal(
        call("run", "--suite", tmp_path / "bytes.toml")
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test": "digitz"}, "unknown dataset 'digitz'; did you mean 'digits'?"),
        ({"relation": "unseen"}, "'unseen' is not a choice"),
        ({"test_partition": "validation"}, "'validation' is not a choice"),
        ({"more": "projection = 2.0"}, "projection: expected a share of tasks from 0 to 1"),
        ({"more": "classes = 1"}, "classes: expected at least 2"),
        ({"more": "colour = 1"}, "unknown key 'colour'"),
        ({"test_partition": "train"}, "share 297 examples by content"),
    ],
)
def test_splits_that_make_no_sense(tmp_path: Path, change: dict[str, str], words: str) -> None:
    split = write_split(tmp_path / "mine.toml", **change)
    suite = write_suite(tmp_path / "suite.toml", [split], ["chance"])
    assert words in refusal(call("run", "--suite", suite, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def faulty(folder: Path, fault: str) -> tuple[Path, str]:
    """A learner with the fault, and the words in which it is refused."""
    old, new, words = FAULTS[fault]
    assert MINE.count(old) == 1
    return write(folder / "mine.py", MINE.replace(old, new)), words


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_learner_files(tmp_path: Path, fault: str) -> None:
    """What a process that reads cards finds."""
    learner, words = faulty(tmp_path, fault)
    with pytest.raises(VsmlBenchError, match=words) as refused:
        for entry in registry.find_learners(str(learner)):
            entry.probe()
    assert "mine.py" in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "command"),
    [
        ("a method that fails", ["run", "--suite", "smoke", "--split", "digits-held-out"]),
        ("missing attribute", TRAIN[:3]),
    ],
    ids=["run", "meta-train"],
)
def test_nothing_is_written_for_a_faulty_learner(
    tmp_path: Path, fault: str, command: list[str]
) -> None:
    learner, words = faulty(tmp_path, fault)
    said = refusal(call(*command, "--learner", learner, "--out", tmp_path / "out"))
    assert "mine.py" in said and re.search(words, said), said
    assert not (tmp_path / "out").exists()


def test_the_learner_is_fine_without_the_fault(tmp_path: Path) -> None:
    learner = write(tmp_path / "mine.py", MINE)
    planned = call("plan", "--suite", "smoke", "--learner", learner, "--json")
    assert planned.code == 0 and planned.json["learners"][0]["learner"] == "mine"


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    learner = write(tmp_path / "mine.py", MINE)
    said = refusal(call("run", "--suite", "smoke", "--learner", f"{learner}:Mina"))
    assert "mine.py defines no learner class 'Mina'; did you mean 'Mine'?" in said


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_dataset_file(tmp_path: Path, part: str, zipped: bool) -> None:
    suffix = ".gz" if zipped else ""
    raw = tmp_path / "root/KMNIST/raw"
    idx_files.write_pair(raw, "t10k", *idx_files.images_and_labels(20, 0), suffix)
    (path,) = raw.glob(f"t10k-{part}*")
    data = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    idx_files.write(path, data[:-5])
    kept = path.read_bytes()
    split = write_split(tmp_path / "to.toml", "kmnist", relation="unseen_dataset")
    suite = write_suite(tmp_path / "suite.toml", [split], ["chance"])
    command = ["run", "--suite", suite, "--data-root", tmp_path / "root"]
    said = refusal(call(*command, "--out", tmp_path / "out"))
    assert path.name in said
    assert path.read_bytes() == kept and not (tmp_path / "out").exists()
    idx_files.write(path, data)
    assert call("plan", *command[1:]).code == 0


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("kind", ["cells/*chance*", "checkpoints/*"])
def test_a_hostile_pickle_in_place_of_a_result(
    finished: Finished, tmp_path: Path, kind: str
) -> None:
    out, trace = tmp_path / "out", tmp_path / "executed"
    shutil.copytree(finished.folder, out)
    for path in out.glob("cells/*vsml*"):
        path.unlink()  # so that the checkpoints are wanted
    path = sorted(out.glob(kind))[0]
    path.write_bytes(pickle.dumps(Hostile(trace)))
    kept = {p: p.read_bytes() for p in out.rglob("*.*")}
    said = refusal(call("run", "--suite", finished.suite, "--out", out, "--quiet"))
    assert path.name in said and "restore" in said
    assert not trace.exists()
    assert {p: p.read_bytes() for p in out.rglob("*.*")} == kept
    assert call("verify", out).code == 1 and not trace.exists()


@pytest.mark.parametrize("verb", ["run", "meta-train", "leaderboard"])
def test_folders_that_cannot_be_written(finished: Finished, tmp_path: Path, verb: str) -> None:
    """Root may write anywhere but below a regular file."""
    file = write(tmp_path / "file", "kept")
    command: list[object]
    if verb == "leaderboard":
        shutil.copytree(finished.folder, tmp_path / "out")
        (tmp_path / "out/board.md").mkdir()
        command = [
            "leaderboard",
            "--suite",
            finished.suite,
            "--results",
            tmp_path / "out",
            "--write",
        ]
    else:
        named: list[object] = ["run", "--suite", "smoke"] if verb == "run" else [*TRAIN]
        command = [*named, "--out", file / "out"]
    outcome = call(*command)
    assert "cannot write" in refusal(outcome) and "choose another folder" in outcome.err
    assert file.read_text() == "kept"


def test_what_the_parser_refuses() -> None:
    outcome = call("runn")
    assert outcome.code == 2 and "invalid choice: 'runn'" in outcome.err
    assert call().code == 2
    assert call("run", "--suite", "smoke", "--policy", "sometimes").code == 2
