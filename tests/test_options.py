"""Options that several verbs share, and that none is without a test."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Finished
from tests.harness import call, refusal, write_suite
from vsml_bench.cli import build_parser
from vsml_bench.verbs.options import COUNT, PATH, SEED

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("verb", ["run", "meta-train"])
def test_device_cuda_without_one(finished: Finished, tmp_path: Path, verb: str) -> None:
    commands: dict[str, list[object]] = {
        "run": ["run", "--suite", finished.suite],
        "meta-train": ["meta-train", "--split", "digits-held-out", "--learner", "vsml"],
    }
    out = tmp_path / "out"
    said = refusal(call(*commands[verb], "--device", "cuda", "--out", out))
    assert "no usable CUDA GPU; use cpu or auto" in said
    assert not list(out.glob("*"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_device_cuda(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["vsml"])
    run = call("run", "--suite", suite, "--device", "cuda", "--out", tmp_path / "out", "--quiet")
    assert run.code == 0, run
    rows = call(
        "leaderboard", "--suite", suite, "--results", tmp_path / "out", "--format", "json"
    ).json
    assert rows["rows"][0]["device"] == torch.cuda.get_device_name()


def actions() -> Iterator[tuple[list[str], argparse.Action]]:
    """The verb, or the two, and each of its arguments."""
    parsers: list[tuple[list[str], Any]] = [([], build_parser())]
    while parsers:
        verbs, parser = parsers.pop()
        for action in parser._actions:
            yield verbs, action
            if isinstance(action.choices, dict):
                parsers += [([*verbs, name], of) for name, of in action.choices.items()]


NUMBERS = [(verbs, a) for verbs, a in actions() if a.type in (SEED["type"], COUNT["type"])]
PATHS = [(verbs, action) for verbs, action in actions() if action.type is PATH["type"]]


@pytest.mark.parametrize("text", ["", "1_0", "٣", "+1", " 1", "1.0", "0x1", "-1", "9" * 19, "1\n"])
def test_a_number_is_plain_digits(text: str) -> None:
    assert len(NUMBERS) >= 9 and int not in {action.type for _, action in actions()}
    for verbs, action in NUMBERS:
        said = refusal(call(*verbs, f"{action.option_strings[0]}={text}"))
        assert "expected a whole number from" in said, (verbs, action.dest)


def test_a_count_is_at_least_one_and_a_seed_may_be_zero() -> None:
    assert [SEED["type"](text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on, found '0'"):
        COUNT["type"]("0")


def test_a_path_that_is_empty_is_refused() -> None:
    """It is what a shell makes of a variable that is not set."""
    assert len(PATHS) > 20
    for verbs, action in PATHS:
        several = action.nargs if isinstance(action.nargs, int) else 1
        given = [*action.option_strings[:1], *[""] * several]
        assert "expected a name or a path" in refusal(call(*verbs, *given)), (verbs, action.dest)


def test_every_option_is_used_in_a_test() -> None:
    """A new option fails here until some test calls the command line with it."""
    used = {
        node.value
        for file in Path(__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    options = (option for _, action in actions() for option in action.option_strings)
    offered = {option for option in options if option.startswith("--")}
    assert "--policy" in offered
    assert offered - used == set()
