"""What the documents promise: commands that exist, links that lead somewhere, a learner that
learns, and a board that is the published one."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from tools import update_readme
from vsml_bench import registry, suites
from vsml_bench.cli import build_parser, main
from vsml_bench.config import as_plain
from vsml_bench.data import datasets
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.recipes import BPTT, ES
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Relation
from vsml_bench.vsml.variants import VSML, VSMLConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
EXAMPLE = ROOT / "examples" / "my_learner.py"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def commands(text: str, program: str) -> list[list[str]]:
    """Words of every call of `program` in shell blocks and in inline code, without variables set
    in front of it and without the program's own name."""
    lines = [
        line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(rf"`({program} [^`]+)`", FENCE.sub("", text).replace("\n", " "))
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words[:1] == ["srun"]:
            words = [re.sub(r"\$SLURM_\w+", "1", word) for word in words[1:]]
        if program == "vsml-bench" and "vsml_bench" in words[1:]:  # torchrun ... -m vsml_bench
            words = ["vsml-bench", *words[words.index("vsml_bench") + 1 :]]
        if words and words[0] in (program, f".venv/bin/{program}"):
            found.append(words[1:])
    return found


def all_commands(program: str) -> list[Any]:
    return [
        pytest.param(words, id=f"{document.name}: {program} {' '.join(words)}")
        for document in DOCUMENTS
        for words in commands(document.read_text("utf-8"), program)
    ]


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
    """Every name and configuration key in the command stands for something."""
    finders: dict[str, Callable[[str], object]] = {
        "suite": suites.find_suite,
        "split": suites.find_split,
        "learner": registry.find_learners,
        "add_learner": registry.find_learners,
        "names": datasets.find,
    }
    for option, find in finders.items():
        for name in _given(options, option):
            find(_from_root(name))
    for learner in _given(options, "learner"):
        for entry in registry.find_learners(_from_root(learner)):
            configuration = as_plain(entry.config)
            engines = {field.name for engine in (ES, BPTT) for field in fields(engine)}
            recipe = {*engines, *as_plain(entry.cls.recipe or {})}
            for option, known in (("set", {*configuration}), ("recipe", recipe)):
                for pair in _given(options, option):
                    assert pair.partition("=")[0] in known, pair
    compared = _given(options, "compare") if options.verb == "plan" else []
    if options.verb == "compare":
        compared = [options.first, options.second]
    for name in compared:
        assert _finds(registry.find_learners, _from_root(name)) or "/desk" in name, name
    if options.verb == "explain":
        finds = (
            *(suites.find_split, suites.find_suite, registry.find_learners),
            lambda name: load_checkpoint(Path(name)),
        )
        assert any(_finds(find, _from_root(options.what)) for find in finds), options.what


def _given(options: argparse.Namespace, option: str) -> list[str]:
    value = vars(options).get(option) or []
    return [value] if isinstance(value, str) else list(value)


def _from_root(name: str) -> str:
    """Paths in commands are relative to the repository."""
    return str(ROOT / name) if re.search(r"\.py|\.(toml|safetensors)$", name) else name


def _finds(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except VsmlBenchError:
        return False
    return True


@pytest.mark.parametrize("words", all_commands("make"))
def test_every_make_target_exists(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    for word in words:
        if ASSIGNMENT.fullmatch(word):
            assert word.partition("=")[0] in variables
        else:
            assert word in targets


def test_the_commands_are_found_where_they_are_written() -> None:
    block = "```bash\nA=b make x Y=z  # why\nvsml-bench run \\\n  --suite s\n```\n"
    text = block + "so `make\nsure` of it\n"
    assert commands(text, "make") == [["x", "Y=z"], ["sure"]]
    assert commands(text, "vsml-bench") == [["run", "--suite", "s"]]
    readme = commands((ROOT / "README.md").read_text("utf-8"), "vsml-bench")
    assert {words[0] for words in readme} >= {"list", "data", "plan", "meta-train", "run", "verify"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_the_readme_shows_the_example_as_it_is() -> None:
    source = EXAMPLE.read_text("utf-8")
    assert source in blocks((ROOT / "README.md").read_text("utf-8"), "python")
    assert len(source.splitlines()) < 40


def test_the_example_keeps_the_contract_and_beats_chance(tmp_path: Path) -> None:
    shown = blocks((ROOT / "README.md").read_text("utf-8"), "python")
    (code,) = [block for block in shown if "(Learner)" in block]
    file = tmp_path / "from_the_readme.py"
    file.write_text(code, encoding="utf-8")
    (example,) = registry.find_learners(f"{file}:FadingMean")
    example.probe()
    (chance,) = registry.find_learners("chance")
    sampler = EpisodeSampler(TaskDistribution(("digits",), "test"))
    seeds = lifetime_seeds(4, "test of the documents")
    execution = Execution(torch.device("cpu"), 1)
    accuracy = {
        entry.name: evaluate(entry.create(), sampler, seeds, Online(200), execution).correct.mean()
        for entry in (example, chance)
    }
    assert accuracy["fading-mean"] > 0.5 > 2 * accuracy["chance"]


@pytest.mark.slow
def test_the_python_api_works_as_shown(tmp_path: Path) -> None:
    shown = blocks((ROOT / "README.md").read_text("utf-8"), "python")
    (code,) = [block for block in shown if "vsml_bench.run(" in block]
    script = tmp_path / "script.py"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    script.write_text(f'if __name__ == "__main__":\n{body}', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 cells, 0 failed" in done.stdout
    assert (tmp_path / "runs" / "smoke" / "cells").is_dir()


def test_the_readme_shows_the_published_board() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert update_readme.updated(readme, update_readme.published()) == readme, "run `make readme`"
    assert update_readme.PICTURE.read_text("utf-8") == update_readme.picture(), "run `make readme`"
    assert f"](docs/{update_readme.PICTURE.name})" in readme


def row(learner: str, split: str, rank: int | None, mean: float | None, **more: Any) -> Any:
    low, high = (None, None) if mean is None else (mean - 0.01, mean + 0.02)
    return {
        **{"learner": learner, "split": split, "rank": rank, "mean": mean, "rank_low": rank},
        **{"ci_low": low, "ci_high": high, "kind": "cpu", "status": "ok"},
        **{"seed_variance": "measured", **more},
    }


def test_four_columns_of_a_board_by_hand() -> None:
    held_out, fashion = update_readme.SPLITS
    rows = [
        row("a", held_out, 1, 0.9),
        row("b", held_out, 2, 0.8, rank_low=1, seed_variance="not measured"),
        row("a", fashion, None, None, status="crashed"),
        row("b", fashion, 1, 0.7),
        row("a", "another", 3, 0.1),
        row("b", "another", 1, 0.2),
        row("a", "of nobody", None, None),
    ]
    ends = {"mean_low": 0.2, "mean_high": 0.22}
    learners = [
        {"label": "b", "mean": 0.21, **ends},
        {"label": "a", "mean": None, "mean_low": None, "mean_high": None},
    ]
    board = {"rows": rows, "learners": learners, "board_hash": "x1"}
    shown = update_readme.shown(board)
    lines = [re.split(r" *\| *", line)[1:-1] for line in shown.splitlines() if "|" in line]
    assert lines[2:] == [
        ["b", "21.0 ± 1.0", "**80.0 ± 1.5 †**", "**70.0 ± 1.5**"],
        ["a", "", "**90.0 ± 1.5**", "crashed"],
    ]
    assert "All 4 splits" in shown and "Board hash: `x1`" in shown
    readme = "before\n<!-- board:desk -->\nold\n<!-- /board:desk -->\nafter\n"
    once = update_readme.updated(readme, board)
    assert shown in once and "old\n" not in once
    assert once.startswith("before\n") and once.endswith("\nafter\n")
    assert update_readme.updated(once, board) == once
    assert update_readme.NO_BOARD in update_readme.updated(once, None)
    with pytest.raises(ValueError, match="0 blocks"):
        update_readme.updated("no block", board)


def functions(path: Path) -> set[str]:
    """Functions and methods that a file defines, as `function` and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def equations() -> list[Any]:
    """Of each line in the README's table: file and function of the equation, and of its test."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## The paper's equations")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    place = r"\[[^]]+\]\((\S+)\) `([\w.]+)`"
    return [pytest.param(re.findall(place, line), id=line.split(" | ")[0][2:]) for line in lines]


@pytest.mark.parametrize("places", equations())
def test_every_equation_has_its_function_and_its_test(places: list[tuple[str, str]]) -> None:
    (code, function), (test, name) = places
    assert function in functions(ROOT / code), f"{code} has no {function}"
    assert name in functions(ROOT / test), f"{test} has no {name}"
    assert name.startswith("test_") and not code.startswith("tests/")


def prose(text: str) -> int:
    """Words of a page without code, formulas and tables."""
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("", text), flags=re.DOTALL)
    text = re.sub(r"^(\||    ).*$", "", text, flags=re.MULTILINE)
    return len(re.sub(r"\]\([^)]*\)", "]", text).split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_pages_have_at_most_1000_words_of_prose(document: Path) -> None:
    assert prose("one [two](three four)\n\n    code\n| a | b |\n```bash\nx\n```\nthree") == 3
    if document.name != "CHANGELOG.md":
        assert prose(document.read_text("utf-8")) <= 1000


def test_the_options_of_vsml_are_documented_with_their_defaults() -> None:
    text = (ROOT / "docs" / "vsml.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.MULTILINE)
    defaults = {name: str(value) for name, value in vars(VSMLConfig()).items()}
    assert {name: shown.strip("`") for name, shown in rows} == {
        name: value.lower() if value in ("True", "False") else value
        for name, value in defaults.items()
    }


def test_the_recipe_is_the_one_described() -> None:
    text = " ".join((ROOT / "docs" / "vsml.md").read_text("utf-8").split())
    recipe = VSML.recipe
    first, second, third, fourth = (f"{phase.lifetime:,}" for phase in recipe.phases)
    grow = f"start at {first} examples and grow to {second}, {third} and {fourth}"
    assert f"{grow} ({recipe.phases[-1].lifetimes} a step, then)" in text
    assert f"{recipe.lifetimes} lifetimes a step" in text
    assert f"norm clipped at {recipe.clip:g}" in text
    assert f"Images are {recipe.size}x{recipe.size} in meta-training" in text
    assert recipe.phases[0].learning_rate == 1e-2 and "starts at 1e-2" in text
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"**{recipe.size}x{recipe.size}**" in readme and "**28x28**" in readme


def test_the_relations_are_all_explained() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert tuple(rows) == get_args(Relation)


def test_every_dataset_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## Data")[1].split("## ")[0]
    assert set(datasets.names()) <= set(re.findall(r"`(\w+)`", section))


def test_both_ways_of_citing_agree(capsys: pytest.CaptureFixture[str]) -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    (title,) = re.findall(r'^title: "(.*)"$', citation, re.MULTILINE)
    assert main(["cite"]) == 0
    assert f"title = {{{title}}}" in capsys.readouterr().out
