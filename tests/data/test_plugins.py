"""How datasets are found that this package does not have: by path, module and entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import STRIPES, call, write, write_split, write_suite
from vsml_bench import api
from vsml_bench.data import datasets
from vsml_bench.data.distributions import by_name, check_disjoint, task_identity
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Split

TOP = Path(__file__).resolve().parents[2]

DOWNLOADED = """
from pathlib import Path
from vsml_bench.data.own_data import NpzArrays
from vsml_bench.data.source import Download


class Copied(Download):
    folder = "stones"

    def get(self, staging, report):
        import numpy as np

        report("making them")
        x, y = np.arange(20.0).reshape(10, 2, 1) / 20, np.arange(10) % 2
        np.savez(staging / "s.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        return [staging / "s.npz"]


class Stones(NpzArrays):
    name, file = "stones", "stones/s.npz"
    downloads = (Copied(),)
"""


def stripes(folder: Path, text: str = STRIPES) -> Path:
    return write(folder / "stripes.py", text)


def test_by_path_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stripes(tmp_path)
    entry = datasets.find(str(file))
    assert (entry.name, entry.origin, len(entry.code)) == ("stripes", "stripes.py", 64)
    assert datasets.find(f"{file}:Stripes") is entry
    monkeypatch.chdir(tmp_path)
    assert datasets.find("stripes.py") is entry
    assert datasets.find("stripes.py:Stripes").name == "stripes"
    assert datasets.find("digits").code == ""
    status = datasets.status("stripes.py")
    assert (status.available, status.origin) == (True, "generated")


def test_by_module() -> None:
    reference = "tests.data.my_datasets:Flowers"
    assert datasets.find(reference).name == "flowers"
    with pytest.raises(
        VsmlBenchError, match=r"module tests\.data\.my_datasets defines Blobs, .*colon"
    ):
        datasets.find("tests.data.my_datasets")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine\.py defines no dataset class, and one is wanted; subclass Source, see"),
        ("x = 1 / 0", "dataset file mine.py cannot be imported: ZeroDivisionError"),
        (STRIPES.replace("def generate", "def make"), r"class Stripes lacks generate\(\); see"),
        (STRIPES.replace("    name =", "    title ="), "class Stripes lacks the attribute 'name'"),
        (STRIPES.replace("    classes =", "    ways ="), "lacks the attribute 'classes'"),
        (STRIPES.replace('"stripes"', '"a/b"'), "name: expected letters, .* found 'a/b'"),
        (
            STRIPES.replace('"stripes"', '"digits"'),
            "is called 'digits', as one of vsml-bench's own",
        ),
        (STRIPES + "    version = '2'\n", "version: expected an integer, found '2'"),
        (STRIPES + "    def __init__(self, n): ...\n", "cannot be made without arguments"),
    ],
)
def test_what_breaks_the_rules_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", text)
    with pytest.raises(VsmlBenchError, match=message) as caught:
        datasets.find(str(file))
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


READS = """
import numpy as np
from vsml_bench.data.source import Examples, Found, Source


class Mine(Source):
    name = "mine"

    def find(self, root):
        return Found("data root")

    def read(self, partition, root):
        return Examples({inputs}, {labels}, 2)
"""


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (
            "np.zeros((4, 1, 2, 2))",
            "np.arange(4) % 2",
            r"images are uint8 of 4 axes, found float64",
        ),
        ("np.zeros((4, 2), 'u1')", "np.arange(4) % 2", r"found uint8 \(4, 2\)"),
        (
            "np.zeros((4, 1, 2, 2), 'u1')",
            "np.arange(3) % 2",
            r"labels are int64 \(4,\) here, found",
        ),
        ("np.zeros((4, 1, 2, 2), 'u1')", "np.ones(4)", "found float64"),
        ("np.zeros((4, 1, 2, 2), 'u1')", "np.arange(4)", "labels are from 0 to 1, found 0 to 3"),
        ("np.zeros((0, 1, 2, 2), 'u1')", "np.arange(0)", "expected examples, found none"),
    ],
)
def test_what_a_source_reads_is_looked_at(
    inputs: str, labels: str, message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "mine.py", READS.format(inputs=inputs, labels=labels))
    with pytest.raises(VsmlBenchError, match=rf"^dataset 'mine' \(test\): .*{message}"):
        datasets.load(str(file), "test")


def test_what_a_generator_makes_is_looked_at(tmp_path: Path) -> None:
    file = stripes(tmp_path, STRIPES.replace(', dtype="float32"', ""))
    sampler = EpisodeSampler(TaskDistribution((str(file),), "train"))
    with pytest.raises(
        VsmlBenchError, match=r"'stripes': generate: expected float32 \(5, 1, 4, 4\)"
    ):
        sampler.sample([0], 5)


def test_what_is_not_there(tmp_path: Path) -> None:
    for reference, message in (
        (str(tmp_path / "no.py"), "dataset file no.py does not exist"),
        (
            f"{stripes(tmp_path)}:Strips",
            "defines no dataset class 'Strips'; did you mean 'Stripes'",
        ),
        ("no_such.module:Class", "dataset module no_such.module cannot be imported"),
        ("dgits", "unknown dataset 'dgits'; did you mean 'digits'"),
    ):
        with pytest.raises(VsmlBenchError, match=message):
            datasets.find(reference)


def test_a_base_class_beside_it_is_no_dataset(tmp_path: Path) -> None:
    text = STRIPES.replace("Stripes(Generated)", "Stripes(Base)")
    base = "class Base(Generated):\n    scale = 1.0\n\n\nclass Stripes"
    file = stripes(tmp_path, text.replace("class Stripes", base, 1))
    assert datasets.find(str(file)).name == "stripes"


def test_the_code_of_a_generator_is_part_of_its_hash_and_its_place_is_not(tmp_path: Path) -> None:
    def content(folder: str, text: str) -> str:
        return datasets.load(str(stripes(tmp_path / folder, text)), "test").content_hash

    assert content("a", STRIPES) == content("b", STRIPES)
    assert content("c", STRIPES.replace("4 * labels", "3 * labels")) != content("a", STRIPES)
    assert content("d", STRIPES + "    version = 2\n") != content("a", STRIPES)


def test_lifetimes_and_cells_do_not_depend_on_the_place(tmp_path: Path) -> None:
    keys, episodes = [], []
    for place in ("here", "there"):
        file = stripes(tmp_path / place)
        split = write_split(tmp_path / place / "s.toml", str(file), more="diversity = 2")
        suite = write_suite(tmp_path / place / "suite.toml", [split], ["chance"])
        (plan,) = api.plan(str(suite))
        ((name, _, _),) = plan.identity()["meta_test"]["datasets"]
        keys.append((plan.key, plan.meta_test_seeds(), name))
        side = plan.split.meta_test
        assert by_name(side).datasets == ("stripes",) and "stripes.py" not in task_identity(side)
        episodes.append(EpisodeSampler(side).sample([1, 2], 6))
    assert keys[0] == keys[1] and keys[0][2] == "stripes"
    assert episodes[0].inputs.equal(episodes[1].inputs)


def test_shared_tasks_are_found_whatever_they_are_called_by(tmp_path: Path) -> None:
    one = TaskDistribution((str(stripes(tmp_path / "a")),), "train", diversity=3)
    other = TaskDistribution((str(stripes(tmp_path / "b")),), "test", diversity=3)
    with pytest.raises(VsmlBenchError, match="same points of stripes"):
        check_disjoint(Split("s", "", "unseen_tasks", one, other))


def test_fetching_a_plug_in(tmp_path: Path) -> None:
    reference = str(write(tmp_path / "stones.py", DOWNLOADED))
    fetched = call("data", "fetch", reference, "--data-root", tmp_path / "root")
    assert fetched.code == 0 and "stones: making them" in fetched.out
    assert len(datasets.load(reference, "test", tmp_path / "root").example_hashes) == 10
    assert "already here" in call("data", "fetch", reference, "--data-root", tmp_path / "root").out


def says(site: Path, program: str) -> Any:
    """What a Python program prints as JSON where `site` holds installed packages."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{program}"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP), str(site)])},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def install(site: Path, package: str, points: str, text: str) -> None:
    """What an installer leaves of a package with one module."""
    write(site / package / "__init__.py", "")
    write(site / package / "stripes.py", text)
    info = site / f"{package}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(info / "entry_points.txt", f"[vsml_bench.datasets]\n{points}\n")


COMMANDS = """
from tests.harness import call
commands = ["list datasets", "data", "run --suite suite.toml --jobs 1"]
print(json.dumps([call(*command.split(), "--json").json for command in commands]))
"""
NAMES = """
from vsml_bench.data import datasets
from vsml_bench.errors import VsmlBenchError
try:
    print(json.dumps(datasets.names()))
except VsmlBenchError as error:
    print(json.dumps([str(error), datasets.find("digits").name]))
"""


def test_by_entry_point(tmp_path: Path) -> None:
    install(tmp_path, "stranger", "one = stranger.stripes", STRIPES)
    other = STRIPES.replace("stripes", "bars").replace("Stripes", "Bars")
    install(tmp_path, "another", "two = another.stripes:Bars", other + STRIPES)
    split = write_split(tmp_path / "s.toml", "bars", train="stripes")
    write_suite(tmp_path / "suite.toml", [split], ["chance"], lifetimes=2)
    listed, data, run = says(tmp_path, COMMANDS)
    for shown in (listed, data):
        rows = {row["name"]: row for row in shown["datasets"]}
        assert set(rows) == {*datasets.names(), "stripes", "bars"}
        assert rows["bars"]["available"] and rows["stripes"]["origin"] == "generated"
    assert [cell["status"] for cell in run["cells"]] == ["ok"]


def test_two_entry_points_of_one_name_are_refused_and_spoil_no_other(tmp_path: Path) -> None:
    for package in ("stranger", "another"):
        install(tmp_path, package, f"x = {package}.stripes", STRIPES)
    message, digits = says(tmp_path, NAMES)
    assert "two datasets are called 'stripes', from package " in message
    assert digits == "digits"


def test_neither_loading_nor_the_guard_needs_torch() -> None:
    code = (
        "import sys\n"
        "from vsml_bench.data import datasets, own_data\n"
        "from vsml_bench.data.distributions import check_disjoint\n"
        "from vsml_bench.suites import Split, TaskDistribution\n"
        "[datasets.status(name) for name in datasets.names()]\n"
        "sides = [TaskDistribution(('wine', 'random'), p) for p in ('train', 'test')]\n"
        "check_disjoint(Split('s', '', 'unseen_tasks', *sides))\n"
        "print(len(datasets.load('wine', 'test').example_hashes), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["133", "False"]
