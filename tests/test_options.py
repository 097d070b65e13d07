"""Options that several verbs share, and that none is without a test."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Finished
from tests.harness import call, refusal, write_suite
from vsml_bench.cli import build_parser

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


def test_every_option_is_used_in_a_test() -> None:
    """A new option fails here until some test calls the command line with it."""
    used = {
        node.value
        for file in Path(__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    offered: set[str] = set()
    parsers: list[Any] = [build_parser()]
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            offered |= {option for option in action.option_strings if option.startswith("--")}
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
    assert "--policy" in offered
    assert offered - used == set()
