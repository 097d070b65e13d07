"""What `plan` and `run` say before work, and `verify` after it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.harness import LEARNER, call, refusal, write, write_split, write_suite
from vsml_bench import paths
from vsml_bench.evaluation.outcomes import Outcomes, decode_outcomes, encode_outcomes
from vsml_bench.storage import seal, unseal

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread", "quick_cards")


CONFIGURED = (
    "import enum\nfrom collections.abc import Callable\nfrom pathlib import Path\n"
    + LEARNER.replace("    how: str\n", "    FIELDS\n\nclass Way(enum.Enum):\n    A = 'a'\n")
    + "class Odd(Base):\n    variants = {'odd': Config()}\n"
)


def configured(folder: Path, fields: str) -> Path:
    """A suite with a learner whose configuration has these fields."""
    learner = write(folder / "odd.py", CONFIGURED.replace("FIELDS", fields))
    return write_suite(folder / "s.toml", ["digits-to-random"], [learner], steps=5)


def test_usual_values_of_a_configuration_are_saved(tmp_path: Path) -> None:
    fields = "a: 'Way' = 'a'; b: Path = Path('x'); c: frozenset[int] = frozenset({1, 2})"
    suite = configured(tmp_path, f"{fields}; d: tuple[int, float] = (1, 2.5)")
    done = call("run", "--suite", suite, "--quiet", "--jobs", 1, "--device", "cpu")
    assert done.code == 0, done
    (row,) = call("leaderboard", "--suite", suite, "--format", "json").json["rows"]
    assert row["status"] == "ok"


@pytest.mark.parametrize(
    "field",
    [
        *("a: torch.dtype = torch.float64", "a: Callable[[str], int] = len", "a: bytes = b'x'"),
        *("a: object = object()", "a: float = float('nan')", "a: complex = 1 + 2j"),
    ],
)
def test_a_configuration_that_cannot_be_saved_is_refused_before_work(
    tmp_path: Path, field: str
) -> None:
    done = call("run", "--suite", configured(tmp_path, field), "--policy", "never")
    assert "learner 'odd': a value of its configuration, Config: " in refusal(done)
    assert not Path("runs").exists()


def planned(*arguments: object) -> dict[str, Any]:
    (row,) = call("plan", *arguments, "--json").json["learners"]
    return dict(row)


def test_a_cost_that_is_not_known_is_not_0(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "s.toml", ["digits-to-random"], ["chance"])
    assert planned("--suite", suite)["core_seconds"] is None
    assert "0 core minutes" not in call("plan", "--suite", suite).out


def test_plan_says_why_cells_are_unavailable(tmp_path: Path) -> None:
    split = write_split(tmp_path / "to.toml", "kmnist", relation="unseen_dataset")
    suite = write_suite(tmp_path / "s.toml", [split], ["chance"])
    assert "kmnist" in call("plan", "--suite", suite).out


@pytest.mark.parametrize(
    ("was", "now", "what"),
    [
        ("lifetimes = 9", "lifetimes = 1000000000", "lifetimes x examples"),
        ("steps = 30", "steps = 1000000000000", "lifetimes x examples"),
        ("lifetimes = 2", "lifetimes = 1000000000", "phases[0]: lifetimes x lifetime"),
        ("lifetime = 10", "lifetime = 1000000000", "phases[0]: lifetimes x lifetime"),
        ("{steps = 3", "{steps = 1000000000", "steps of all phases"),
        ("validation_lifetimes = 2", "validation_lifetimes = 1000000000", "validation_lifetimes"),
        ("seeds = [0]", f"seeds = {list(range(10_001))}", "cells"),
    ],
    ids=lambda text: text[:30],
)
def test_sizes_that_nobody_means_are_refused_before_work(
    tmp_path: Path, was: str, now: str, what: str
) -> None:
    text = write_suite(tmp_path / "s.toml", ["digits-to-random"], ["vsml"]).read_text()
    assert was in text
    suite = write(tmp_path / "s.toml", text.replace(was, now))
    for verb in ("plan", "run"):
        said = refusal(call(verb, "--suite", suite))
        assert what in said and "at most" in said and len(said) < 300
    assert not Path("runs").exists()


def all_right(document: dict[str, Any]) -> None:
    """As a forger would who leaves the losses as they are."""
    outcomes = decode_outcomes(document["outcomes"], "")
    right = Outcomes(np.ones_like(outcomes.correct), outcomes.loss)
    document["outcomes"] = encode_outcomes(right)


def all_wrong(document: dict[str, Any]) -> None:
    outcomes = decode_outcomes(document["outcomes"], "")
    wrong = Outcomes(np.zeros_like(outcomes.correct), outcomes.loss)
    document["outcomes"] = encode_outcomes(wrong)


def of_another(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["provenance"].update({field: value})


def worst_point(document: dict[str, Any]) -> None:
    document["best"] = min(document["trials"], key=lambda t: t["accuracy"])["values"]


def without(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.pop(field)


def another_side(document: dict[str, Any]) -> None:
    document["identity"]["side"]["invert"] = True


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("desk/cells/*--vsml--seed0*", lambda document: None, ""),
        ("omniglot/cells/*.json", all_right, "counts as right"),
        ("desk/cells/*--vsml--seed0*", all_wrong, "counts as wrong"),
        ("desk/cells/*--vsml--seed0*", of_another("checkpoint", "0" * 64), "is not here"),
        ("desk/cells/*--vsml--seed0*", of_another("checkpoint", None), "names none"),
        ("desk/cells/*--chance--*", of_another("checkpoint", "0" * 64), "names one"),
        ("desk/cells/*--chance--*", of_another("seeds", {"meta_test": [1]}), "one seed for each"),
        ("desk/cells/*--chance--*", of_another("seeds", {"meta_test": 5}), "no list of seeds"),
        ("checkpoints/sgd-mlp*.json", worst_point, "best of its trials"),
        ("checkpoints/sgd-mlp*.json", without("trials"), "is no record of a meta-training"),
        ("checkpoints/sgd-mlp*.json", without("identity"), "is no record of a meta-training"),
        ("checkpoints/sgd-mlp*.json", another_side, "the identity of another one than it says"),
    ],
)
def test_records_that_do_not_fit_one_another_are_found(
    tmp_path: Path, file: str, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """Each resealed, so that the file itself is whole."""
    whole = next(
        path
        for path in sorted(paths.results().glob(file))
        if b'"unavailable"' not in path.read_bytes()
    )
    document = unseal(whole.read_bytes(), "")
    change(document)
    copy = write(tmp_path / whole.parent.name / whole.name, "")
    copy.write_bytes(seal(document))
    found = call("verify", tmp_path, "--json")
    assert found.code == (1 if said else 0)
    assert all(said in reason for reason in found.json["damaged"].values())
    assert len(found.json["damaged"]) == found.code


def test_means_on_a_board_that_are_not_those_of_its_cells(
    two_learners: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(two_learners.parent / "out", out)
    assert call("leaderboard", "--suite", two_learners, "--results", out, "--write").code == 0
    assert call("verify", out).code == 0
    board = json.loads((out / "board.json").read_text())
    board["rows"][0]["mean"] += 0.01
    (out / "board.json").write_text(json.dumps(board))
    found = call("verify", out, "--json")
    assert found.code == 1 and list(found.json["damaged"]) == ["board.json"]
