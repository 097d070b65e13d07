"""What a wheel holds, what it must not claim, and whether the pinned versions are complete."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import vsml_bench

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = shutil.ignore_patterns(
    ".*_cache", ".hypothesis", ".asv", "__pycache__", "runs", "dist"
)
COPIED = ("vsml_bench", "baselines", "tasks", "results", "tests", "docs", "benchmarks")
PLANTED = {
    "results/checkpoints/planted/vsml-seed0.safetensors": True,
    "results/planted/board.json": True,
    "results/planted/board.md": True,
    "results/planted/cells/one.json": False,
    "results/desk/cells/planted.txt": True,
    "runs/desk/cells/one.json": False,
    "baselines/__pycache__/chance.cpython-311.pyc": False,
    "scratch.py": False,
}
"""Files put into the copy that is built, and whether a wheel has to hold them."""


@dataclass(frozen=True)
class Built:
    """A copy of the project and what was built from it."""

    project: Path
    wheel: Path
    wheel_of_sdist: Path
    sdist: Path

    def wheel_names(self) -> list[str]:
        return sorted(zipfile.ZipFile(self.wheel).namelist())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    top = tmp_path_factory.mktemp("packaging")
    project = top / "project"
    project.mkdir()
    for folder in COPIED:
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, project / folder, ignore=NOT_COPIED)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy2(file, project)
    for name in PLANTED:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"planted: {name}", encoding="utf-8")
    _build(project, top / "direct", "--wheel")
    _build(project, top / "through-sdist")  # the wheel is then made from the sdist
    return Built(
        project,
        _only(top / "direct", "*.whl"),
        _only(top / "through-sdist", "*.whl"),
        _only(top / "through-sdist", "*.tar.gz"),
    )


def _build(project: Path, folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *options]
    done = subprocess.run(
        [*command, str(project)], cwd=folder.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def _project_table() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def _shipped(project: Path) -> dict[str, Path]:
    """Names that a wheel gives to the files it has to ship, and these files."""
    files = [*project.glob("baselines/*.py"), *project.glob("tasks/**/*.toml")]
    files += [path for path in project.glob("results/checkpoints/**/*") if path.is_file()]
    files += [p for p in project.glob("results/*/board.*") if p.suffix != ".html"]  # made anew
    for suite in ("desk", "introspection"):
        files += project.glob(f"results/{suite}/cells/*.json")
    return {f"vsml_bench/shipped/{path.relative_to(project).as_posix()}": path for path in files}


def test_a_wheel_claims_one_import_name(built: Built) -> None:
    top_level = {name.split("/")[0] for name in built.wheel_names()}
    assert top_level == {"vsml_bench", f"vsml_bench-{vsml_bench.__version__}.dist-info"}


def test_a_wheel_ships_baselines_tasks_and_published_results_unchanged(built: Built) -> None:
    expected = _shipped(built.project)
    folders = ("sides", "splits", "suites")
    for folder in ("baselines", *(f"tasks/{f}" for f in folders), "results/checkpoints"):
        assert any(name.startswith(f"vsml_bench/shipped/{folder}/") for name in expected), folder
    with zipfile.ZipFile(built.wheel) as wheel:
        shipped = {name for name in wheel.namelist() if name.startswith("vsml_bench/shipped/")}
        assert set(expected) <= shipped
        for name, path in expected.items():
            assert wheel.read(name) == path.read_bytes(), name


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_wheel_holds_what_is_published_and_nothing_else(built: Built, name: str) -> None:
    held = [held for held in built.wheel_names() if held.endswith(name)]
    assert held == ([f"vsml_bench/shipped/{name}"] if PLANTED[name] else [])


def test_a_wheel_holds_every_module_and_the_typing_marker(built: Built) -> None:
    modules = {
        path.relative_to(built.project).as_posix()
        for path in (built.project / "vsml_bench").rglob("*.py")
    }
    assert modules | {"vsml_bench/py.typed"} <= set(built.wheel_names())


def test_the_sdist_is_complete_and_free_of_runs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "CITATION.cff"} <= names
    assert "tests/test_packaging.py" in names
    assert not [name for name in names if name.startswith((".venv/", "runs/", "scratch"))]
    assert zipfile.ZipFile(built.wheel_of_sdist).namelist() == (
        zipfile.ZipFile(built.wheel).namelist()
    )


def test_metadata(built: Built) -> None:
    info = f"vsml_bench-{vsml_bench.__version__}.dist-info"
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = email.message_from_string(wheel.read(f"{info}/METADATA").decode())
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert metadata["Name"] == "vsml-bench"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "vsml-bench = vsml_bench.cli:main" in entry_points
    learners = entry_points.partition("[vsml_bench.learners]\n")[2]
    assert "vsml = vsml_bench.vsml.variants\n" in learners


def test_versions_agree_and_the_readme_is_the_description() -> None:
    project = _project_table()
    assert project["version"] == vsml_bench.__version__
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [project["version"]]
    assert ("readme" in project) == (ROOT / "README.md").is_file()


def test_an_unpacked_wheel_finds_its_tasks_and_learners(built: Built, tmp_path: Path) -> None:
    zipfile.ZipFile(built.wheel).extractall(tmp_path / "site")
    script = (
        "import json; from vsml_bench import paths, registry, suites;"
        "origins = sorted({entry.origin for entry in registry.learners().values()});"
        "print(json.dumps([str(paths.home()), suites.suite_names(), origins]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    home, suites, origins = json.loads(done.stdout)
    assert Path(home) == (tmp_path / "site" / "vsml_bench" / "shipped").resolve()
    assert suites == sorted(path.stem for path in (ROOT / "tasks/suites").glob("*.toml"))
    files = [path.name for path in (ROOT / "baselines").glob("*.py") if path.name[0] != "_"]
    assert origins == sorted(["package vsml-bench", *(f"baselines/{name}" for name in files)])


def test_published_cells_are_shown_and_verified_from_a_wheel(built: Built, tmp_path: Path) -> None:
    assert built.wheel.stat().st_size < 50_000_000
    zipfile.ZipFile(built.wheel).extractall(tmp_path / "site")

    def vsml_bench_says(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "vsml_bench", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    rows = vsml_bench_says("leaderboard", "--suite", "desk", "--format", "json")["rows"]
    assert rows and {row["status"] for row in rows} == {"ok"}
    verified = vsml_bench_says("verify", "--json")
    cells = list((ROOT / "results/desk/cells").glob("*.json"))
    assert verified["intact"] > len(cells) > 0 and not verified["damaged"]


STRANGER = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "stranger"
version = "1.0"

[project.entry-points."vsml_bench.learners"]
prototypes = "stranger.prototypes"
"""


def test_a_package_of_somebody_elses_appears_on_the_board(tmp_path: Path) -> None:
    """All it has is a learner and an entry point that names its module."""
    package, site = tmp_path / "project" / "stranger", tmp_path / "site"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(STRANGER, encoding="utf-8")
    (package / "__init__.py").touch()
    source = (ROOT / "baselines" / "nearest_mean.py").read_text("utf-8")
    renamed = source.replace('"nearest-mean"', '"strange-mean"')
    (package / "prototypes.py").write_text(renamed, encoding="utf-8")
    _build(package.parent, tmp_path / "dist", "--wheel")
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(_only(tmp_path / "dist", "*.whl"))], check=True, capture_output=True)

    def vsml_bench_says(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "vsml_bench", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = {row["name"]: row for row in vsml_bench_says("list", "learners", "--json")["learners"]}
    assert listed["strange-mean"]["origin"] == "package stranger"
    command = ["--suite", "smoke", "--split", "digits-held-out"]
    command += ["--learner", "chance", "--learner", "strange-mean"]
    cells = vsml_bench_says("run", *command, "--jobs", "1", "--json")["cells"]
    assert {(cell["learner"], cell["status"]) for cell in cells} == {
        ("chance", "ok"),
        ("strange-mean", "ok"),
    }
    rows = vsml_bench_says("leaderboard", *command, "--format", "json")["rows"]
    mean = {row["learner"]: row["mean"] for row in rows}
    assert mean["strange-mean"] > 2 * mean["chance"] > 0


def _pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_are_exact_public_and_free_of_places() -> None:
    pins = _pins()
    for pin in pins:
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is no exact version"
        assert "*" not in specifier.version, f"{pin} is no exact version"
        assert "+" not in specifier.version, f"{pin} is a local build"
        assert pin.url is None, f"{pin} names a place"
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text, flags=re.MULTILINE), "an option has no place in a lock"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_constraints_pin_every_dependency_once_within_its_bounds(python: str, system: str) -> None:
    environment = {key: str(value) for key, value in default_environment().items()}
    environment |= {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "sys_platform": system,
        "platform_machine": {"linux": "x86_64", "darwin": "arm64"}[system],
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }
    project = _project_table()
    wanted = [
        Requirement(line)
        for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ]
    pinned: dict[str, list[str]] = {}
    for pin in _pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            pinned.setdefault(pin.name.lower(), []).append(specifier.version)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name.lower() in pinned, f"{requirement} is not pinned"
            (version,) = pinned[requirement.name.lower()]
            assert requirement.specifier.contains(version), f"{requirement}, pinned {version}"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lists_its_targets_and_says_what_python_it_needs(built: Built) -> None:
    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=built.project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    listed = re.findall(r"^make ([\w-]+) ", make().stdout, re.MULTILINE)
    assert sorted(listed) == sorted(" ".join(phony).split())
    refused = make("test", "PYTHON=no-such-python")
    assert refused.returncode != 0
    assert "needs Python 3.10 or newer, which 'no-such-python' is not" in refused.stderr
    assert not (built.project / ".venv").exists()
