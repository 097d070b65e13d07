"""The picture of the modules, and the one direction in which they import each other."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from vsml_bench.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]


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
    assert " · ".join(VERBS) in words


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
