"""What the documents promise: commands that exist, links that lead somewhere, a learner that
learns, and a board that is the published one."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.leaderboard.factory import make_cell, make_plan
from tools import update_readme
from vsml_bench import registry
from vsml_bench.cli import build_parser
from vsml_bench.data import datasets
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.conformance import probe
from vsml_bench.evaluation.online import evaluate, lifetime_seeds
from vsml_bench.execution import Execution
from vsml_bench.leaderboard.board import build_board
from vsml_bench.leaderboard.render import to_markdown
from vsml_bench.specs import TaskDistribution

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
] + sorted((ROOT / "docs").glob("*.md"))
EXAMPLE = ROOT / "examples" / "my_learner.py"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def commands(text: str, program: str) -> list[list[str]]:
    """Words of every call of `program` in shell blocks and in inline code, without variables set
    in front of it and without the program's own name."""
    lines = [
        line
        for block in blocks(text, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(rf"`({program} [^`]+)`", FENCE.sub("", text).replace("\n", " "))
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words and words[0] == program:
            found.append(words[1:])
    return found


def all_commands(program: str) -> Iterator[object]:
    for document in DOCUMENTS:
        for words in commands(document.read_text("utf-8"), program):
            yield pytest.param(words, id=f"{document.name}: {program} {' '.join(words)}")


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("words", all_commands("vsml-bench"))
def test_every_command_is_understood_and_names_things_that_exist(words: list[str]) -> None:
    try:
        options = build_parser().parse_args(words)
    except SystemExit as stop:
        pytest.fail(f"vsml-bench {shlex.join(words)}: refused with exit code {stop.code}")
    check_names(options)


def check_names(options: argparse.Namespace) -> None:
    given = vars(options)
    finders: dict[str, Callable[[str], object]] = {
        "suite": registry.find_suite,
        "split": registry.find_split,
        "learner": lambda name: registry.find_learners(_from_root(name)),
        "add_learner": lambda name: registry.find_learners(_from_root(name)),
        "names": datasets.source,
    }
    for option, find in finders.items():
        value = given.get(option) or []
        for name in [value] if isinstance(value, str) else value:
            find(name)
    for name in given.get("learner") or []:
        entries = registry.find_learners(_from_root(name)) if given.get("set") else []
        for entry in entries:
            for pair in given["set"]:
                assert pair.partition("=")[0] in entry.plain_config()
    if "what" in given and given["verb"] == "explain":
        finds = (registry.find_split, registry.find_suite, registry.find_learners)
        assert any(_finds(find, _from_root(given["what"])) for find in finds), given["what"]


def _from_root(name: str) -> str:
    """Paths in commands are relative to the repository."""
    return str(ROOT / name) if ".py" in name or name.endswith(".toml") else name


def _finds(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except VsmlBenchError:
        return False
    return True


@pytest.mark.parametrize("words", all_commands("make"))
def test_every_make_target_exists(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    for word in words:
        if ASSIGNMENT.fullmatch(word):
            assert word.partition("=")[0] in variables
        else:
            assert word in targets
