"""Strict reading of TOML: what fits is read, what does not is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from vsml_bench.config import as_plain, build, identity, read_toml, read_toml_value, replace
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Phase, Recipe
from vsml_bench.specs import TaskDistribution


@dataclass(frozen=True)
class Example:
    rate: float
    names: tuple[str, ...] = ()
    size: int | None = None
    table: dict[str, int] = field(default_factory=dict)


def test_reads_nested_dataclasses_and_widens_integers():
    recipe = build(
        Recipe, {"phases": [{"steps": 3, "lifetime": 10, "learning_rate": 1}], "clip": 2}, "x.toml"
    )
    assert recipe == Recipe(phases=(Phase(3, 10, 1.0),), clip=2.0)
    assert isinstance(recipe.clip, float) and recipe.steps == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate": 1.0, "sise": 3}, ["x.toml", "'sise'", "did you mean 'size'"]),
        ({"rate": "fast"}, ["x.toml: rate", "float", "'fast'"]),
        ({"rate": True}, ["rate", "float"]),
        ({"rate": 1.0, "names": ["a", 3]}, ["names[1]", "str", "3"]),
        ({"rate": 1.0, "size": 2.5}, ["size", "int", "2.5"]),
        ({"rate": 1.0, "table": {"a": "b"}}, ["table.a", "int"]),
        ({}, ["'rate'", "missing"]),
    ],
)
def test_what_does_not_fit_is_named(values, words):
    with pytest.raises(VsmlBenchError) as caught:
        build(Example, values, "x.toml")
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_choices_are_checked():
    with pytest.raises(VsmlBenchError, match="did you mean 'train'"):
        build(TaskDistribution, {"datasets": ["digits"], "partition": "trian"}, "x.toml")


def test_replace_checks_like_build():
    assert replace(Example(1.0), {"size": 4}, "x") == Example(1.0, size=4)
    with pytest.raises(VsmlBenchError, match="unknown key 'speed'"):
        replace(Example(1.0), {"speed": 4}, "x")


def test_malformed_and_missing_toml(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = [1,")
    with pytest.raises(VsmlBenchError, match=r"bad\.toml is not valid TOML"):
        read_toml(path)
    with pytest.raises(VsmlBenchError, match=r"cannot read none\.toml"):
        read_toml(tmp_path / "none.toml")


def test_values_on_the_command_line():
    assert read_toml_value("0.5") == 0.5
    assert read_toml_value("[1, 2]") == [1, 2]
    assert read_toml_value("adam") == "adam"


def test_identity_leaves_out_defaults_only():
    assert identity(Example(1.0)) == {"rate": 1.0}
    assert identity(Example(1.0, size=3)) == {"rate": 1.0, "size": 3}
    assert as_plain(Example(1.0)) == {"rate": 1.0, "names": [], "size": None, "table": {}}
