"""Names to learners, and what is said of those that are wrong."""

from __future__ import annotations

import textwrap

import pytest

from vsml_bench import registry
from vsml_bench.errors import VsmlBenchError

LEARNER = """
from vsml_bench.learner import Learner, NoConfig


class Mine(Learner):
    variants = {"mine": NoConfig()}
    family = "test"
    source = "none"

    def init_state(self, lifetimes, shape, generator): ...

    def predict(self, state, inputs): ...
"""
COMPLETE = LEARNER + "\n    def observe(self, state, labels): ...\n"


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def test_all_shipped_learners_are_found_once():
    found = registry.learners()
    assert {"vsml", "sgd-linear", "sgd-mlp", "adam-linear", "adam-mlp", "ridge"} <= set(found)
    assert {"chance", "majority", "nearest-mean", "1-nn"} <= set(found)
    assert found["vsml"].origin == "package vsml-bench"
    assert found["ridge"].origin == "baselines/ridge.py"
    for name, entry in found.items():
        assert registry.find_learner(name).cls is entry.cls


def test_unknown_names_are_answered_with_the_closest():
    with pytest.raises(VsmlBenchError, match=r"unknown learner 'vmsl'; did you mean 'vsml'\?"):
        registry.find_learner("vmsl")


def test_a_learner_file_is_found_by_path(write):
    path = write("mine.py", COMPLETE)
    for reference in (path, f"{path}:Mine", f"{path}:Mine:mine"):
        entry = registry.find_learner(reference)
        assert entry.name == "mine" and entry.origin == "mine.py"
        assert registry.find_learner(entry.reference).cls is entry.cls


def test_learners_of_a_module_are_found_by_its_name():
    entries = registry.find_learners("vsml_bench.studies.ablations.learner")
    assert len(entries) == 13 and "ablation-none" in {entry.name for entry in entries}
    for entry in entries:
        found = registry.find_learner(entry.reference)
        assert (found.name, found.cls, found.config) == (entry.name, entry.cls, entry.config)
    assert entries[0].origin == "module vsml_bench.studies.ablations.learner"
    (only,) = registry.find_learners("vsml_bench.studies.ablations.learner:SumAblation")
    assert only.name == "ablation-sum"
    with pytest.raises(VsmlBenchError, match="no learner class 'SumAblatio'; did you mean"):
        registry.find_learners("vsml_bench.studies.ablations.learner:SumAblatio")
    with pytest.raises(VsmlBenchError, match=r"module vsml_bench\.nothing cannot be imported"):
        registry.find_learners("vsml_bench.nothing")


def test_a_learner_without_a_method_says_which(write):
    entry = registry.find_learner(write("lacking.py", LEARNER))
    with pytest.raises(VsmlBenchError, match=r"'mine' \(lacking\.py\).*lacks observe\(\)"):
        entry.create()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_like_it", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:", "cannot be imported: SyntaxError"),
        (COMPLETE.replace('family = "test"', ""), "lacks the attribute 'family'"),
    ],
)
def test_broken_learner_files_are_named(write, text, words):
    with pytest.raises(VsmlBenchError, match=words):
        registry.find_learner(write("broken.py", text))


def test_missing_file_and_wrong_class(write):
    with pytest.raises(VsmlBenchError, match=r"nowhere\.py does not exist"):
        registry.find_learner("nowhere.py:Mine")
    with pytest.raises(VsmlBenchError, match=r"no learner class 'Mina'; did you mean 'Mine'"):
        registry.find_learner(write("other.py", COMPLETE) + ":Mina")


def test_several_variants_must_be_chosen_from(write):
    path = write(
        "two.py", COMPLETE.replace('"mine": NoConfig()', '"a": NoConfig(), "b": NoConfig()')
    )
    assert [e.name for e in registry.find_learners(path)] == ["a", "b"]
    with pytest.raises(VsmlBenchError, match="several learners") as refused:
        registry.find_learner(path)
    offered = str(refused.value).partition("name one of: ")[2].rstrip(".").split(", ")
    assert [registry.find_learner(reference).name for reference in offered] == ["a", "b"]
    assert registry.find_learner(f"{path}:Mine:b").name == "b"


def test_configuration_is_checked():
    entry = registry.find_learner("vsml")
    assert entry.configured({"ticks": 3}).config.ticks == 3
    with pytest.raises(VsmlBenchError, match="unknown key 'tick'; did you mean 'ticks'"):
        entry.configured({"tick": 3})


def test_a_tuned_field_cannot_be_set():
    entry = registry.find_learner("sgd-linear")
    with pytest.raises(VsmlBenchError, match="'learning_rate' is tuned"):
        entry.overridden({"learning_rate": 0.1})
    assert entry.overridden({"hidden": [3]}).config.hidden == (3,)
