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
from typing import Any, get_args

import pytest
import torch

from tests.boards.factory import make_cell
from tools import update_readme
from vsml_bench import registry, suites
from vsml_bench.boards.board import build_board
from vsml_bench.boards.markdown import to_markdown
from vsml_bench.cli import build_parser, main
from vsml_bench.config import as_plain
from vsml_bench.data import datasets
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.protocols.evaluation import evaluate
from vsml_bench.protocols.online import Online
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Relation
from vsml_bench.vsml.learner import VSML, VSMLConfig

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
        if words and words[0] == program:
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
            configuration, recipe = as_plain(entry.config), as_plain(entry.cls.recipe)
            for option, fields in (("set", configuration), ("recipe", recipe)):
                for pair in _given(options, option):
                    assert pair.partition("=")[0] in fields, pair
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
    published = ROOT / "results" / "desk" / "board.md"
    text = published.read_text("utf-8") if published.is_file() else None
    assert update_readme.updated(readme, text) == readme, "run `make readme`"
    if text is not None:
        (block,) = update_readme.BLOCK.findall(readme)
        assert block.strip() == update_readme.matrix_part(text).strip()
        for line in text.split("\n## ")[0].splitlines():
            assert line in block or line.startswith("# ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_shows_sections_as_published(document: Path) -> None:
    text = document.read_text("utf-8")
    assert update_readme.with_sections(text, update_readme.published) == text, "run `make readme`"
    for block in update_readme.SECTION.finditer(text):
        suites.find_suite(block["suite"])


def test_sections_of_boards_are_copied_into_documents() -> None:
    board = "# Leaderboard: s\n\nmatrix\n\n## One\n\nText 1.\n\ntable 1\n\n"
    board += "## Two\n\nText 2.\n\ntable 2\n\nRun by.\n\nBoard hash: `x`\n"
    page = "a\n<!-- section:s Two -->\nold\n<!-- /section -->\nb\n<!-- section:s One -->\n"
    page += "<!-- /section -->\n"
    once = update_readme.with_sections(page, lambda suite: board if suite == "s" else None)
    assert once == update_readme.with_sections(once, lambda suite: board)
    assert once.startswith(
        "a\n<!-- section:s Two -->\n\nText 2.\n\ntable 2\n\n<!-- /section -->\nb\n"
    )
    assert "Text 1.\n\ntable 1\n" in once and "old" not in once and "Run by" not in once
    assert update_readme.section_part(board, "Leaderboard") == "matrix\n\nBoard hash: `x`\n"
    assert update_readme.NO_SECTION in update_readme.with_sections(page, lambda suite: None)
    with pytest.raises(ValueError, match="0 sections 'Two'"):
        update_readme.with_sections(page, lambda suite: "# Leaderboard: s\n")


def test_the_board_is_copied_without_its_details() -> None:
    names = ("vsml", "ridge")
    cells = [make_cell(learner=name, accuracies=[0.5, 0.6]) for name in names]
    board = build_board("desk", cells, [cell.plan for cell in cells])
    text = to_markdown(board)
    assert "\n## " in text
    part = update_readme.matrix_part(text)
    assert part.startswith("| learner ") and "#" not in part.split("`")[0]
    assert "| vsml " in part and "| ridge " in part and "Cumulative accuracy in %" in part
    assert part.endswith(f"\n\nBoard hash: `{board.board_hash}`\n")
    readme = "before\n<!-- board:desk -->\nold\n<!-- /board:desk -->\nafter\n"
    once = update_readme.updated(readme, text)
    assert part in once and "-->\nold" not in once
    assert once.startswith("before\n") and once.endswith("\nafter\n")
    assert update_readme.updated(once, text) == once
    assert update_readme.NO_BOARD in update_readme.updated(once, None)
    with pytest.raises(ValueError, match="0 blocks"):
        update_readme.updated("no block", text)


def test_the_picture_shows_every_package_and_nothing_that_is_not_there() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "architecture.svg")
    words = " ".join(picture.getroot().itertext())
    packages = [path.parent.name for path in (ROOT / "vsml_bench").glob("*/__init__.py")]
    assert len(packages) > 4
    for name in [*packages, "baselines", "tasks"]:
        assert f"{name}/" in words, name
    modules = re.findall(r"\w+\.py", words)
    assert "registry.py" in modules
    for name in modules:
        assert (ROOT / "vsml_bench" / name).is_file(), name


def test_imports_run_in_one_direction() -> None:
    graph = {path: set(_imported(path)) for path in (ROOT / "vsml_bench").rglob("*.py")}
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " -> ".join(p.name for p in (*above, path))
        if path not in done:
            for other in graph[path]:
                visit(other, (*above, path))
            done.add(path)

    for path in graph:
        visit(path, ())
    assert sum(map(len, graph.values())) > 100
    contract = {ROOT / "vsml_bench" / "learner.py"}
    for path in (ROOT / "baselines").glob("*.py"):
        assert set(_imported(path)) == contract
    own = set((ROOT / "vsml_bench" / "vsml").glob("*.py"))
    assert set().union(*(graph[path] for path in own)) - own == contract


def _imported(path: Path) -> Iterator[Path]:
    """Modules of this package that a file imports when it is itself imported."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            base = ROOT.joinpath(*node.module.split("."))
            found = [base / f"{alias.name}.py" for alias in node.names]
            found = [module for module in found if module.is_file()] or [base.with_suffix(".py")]
            yield from (module for module in found if module.is_file())


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
