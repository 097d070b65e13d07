"""Strict reading of TOML: what fits is read, what does not is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsml_bench.config import (
    NOT_STORED,
    STORED_IF_SAID,
    as_plain,
    build,
    compact,
    convert,
    read_toml,
    read_toml_value,
    replace,
)
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import Phase, Recipe
from vsml_bench.sides import TaskDistribution


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


def test_compact_leaves_out_defaults_only():
    assert compact(Example(1.0)) == {"rate": 1.0}
    assert compact(Example(1.0, size=3)) == {"rate": 1.0, "size": 3}
    assert as_plain(Example(1.0)) == {"rate": 1.0, "names": [], "size": None, "table": {}}


class Rule(Enum):
    HEBB = "hebb"
    OJA = "oja"


class Shape(Enum):
    """Its values cannot be written in TOML, so that files have the names."""

    SMALL = (8, 8)
    LARGE = (28, 28)


class Number(Enum):
    ONE = 1
    TWO = 2


@dataclass(frozen=True)
class Inner:
    rule: Rule = Rule.HEBB
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Other:
    pairs: int


@dataclass(frozen=True)
class Everything:
    flag: bool
    count: int
    rate: float
    word: str
    maybe: int | None
    also: Optional[str]  # noqa: UP045
    number: int | float
    mixed: int | str | bool | None
    rule: Rule
    shape: Shape
    small: Number
    path: Path
    choice: Literal["a", 1, True]
    items: list[int]
    sequence: Sequence[str]
    pair: tuple[int, str]
    many: tuple[float, ...]
    none: tuple[()]
    names: frozenset[str]
    rules: frozenset[Rule]
    kinds: set[int]
    inner: Inner
    engine: Inner | Other
    inners: list[Inner]
    table: Mapping[str, tuple[Path, ...]]
    nested: dict[str, dict[str, int | float]]


INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(Inner, st.sampled_from(Rule), st.lists(FLOATS, max_size=3).map(tuple))
WORDS = st.text(max_size=5)
PATHS = st.lists(st.text("abc.", min_size=1, max_size=3), max_size=3).map(lambda p: Path(*p))
VALUES = st.builds(
    Everything,
    flag=st.booleans(),
    count=INTEGERS,
    rate=FLOATS,
    word=WORDS,
    maybe=st.none() | INTEGERS,
    also=st.none() | WORDS,
    number=INTEGERS | FLOATS,
    mixed=st.none() | INTEGERS | WORDS | st.booleans(),
    rule=st.sampled_from(Rule),
    shape=st.sampled_from(Shape),
    small=st.sampled_from(Number),
    path=PATHS,
    choice=st.sampled_from(["a", 1, True]),
    items=st.lists(INTEGERS, max_size=3),
    sequence=st.lists(WORDS, max_size=3).map(tuple),
    pair=st.tuples(INTEGERS, WORDS),
    many=st.lists(FLOATS, max_size=3).map(tuple),
    none=st.just(()),
    names=st.frozensets(WORDS, max_size=3),
    rules=st.frozensets(st.sampled_from(Rule)),
    kinds=st.sets(INTEGERS, max_size=3),
    inner=INNERS,
    engine=INNERS | st.builds(Other, INTEGERS),
    inners=st.lists(INNERS, max_size=2),
    table=st.dictionaries(WORDS, st.lists(PATHS, max_size=2).map(tuple), max_size=2),
    nested=st.dictionaries(
        WORDS, st.dictionaries(WORDS, INTEGERS | FLOATS, max_size=2), max_size=2
    ),
)


def typed(value: Any) -> Any:
    """The value with the types of all its parts, since True equals 1 and 1.0."""
    if dataclasses.is_dataclass(value):
        return type(value), {f: typed(v) for f, v in vars(value).items()}
    if isinstance(value, Mapping):
        return dict, {k: typed(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [typed(v) for v in value]
    return type(value), value


@given(VALUES)
def test_what_is_stored_is_read_back(value):
    text = json.dumps(as_plain(value), allow_nan=False)
    assert typed(build(Everything, json.loads(text), "x")) == typed(value)
    assert typed(replace(value, vars(value), "x")) == typed(value)


def test_sets_are_stored_in_one_order():
    assert as_plain(frozenset("cab")) == ["a", "b", "c"]
    assert as_plain({Rule.OJA, Rule.HEBB}) == ["hebb", "oja"]


@dataclass(frozen=True)
class Unreadable:
    function: Callable[[int], int]
    bare: list  # type: ignore[type-arg]
    counts: dict[int, str]
    sets: frozenset[list[int]]
    raw: bytes


@pytest.mark.parametrize(
    ("name", "value"),
    [("function", "f"), ("bare", [1]), ("counts", {"1": "a"}), ("sets", [[1]]), ("raw", "b")],
)
def test_other_types_of_fields_are_refused(name, value):
    with pytest.raises(VsmlBenchError, match=rf"^x: {name}: fields of the type .* cannot be read"):
        build(Unreadable, {name: value}, "x")


@dataclass(frozen=True)
class Unknown:
    rate: NotImported  # type: ignore[name-defined]  # noqa: F821


def test_types_that_a_module_does_not_have_are_refused():
    with pytest.raises(VsmlBenchError, match=r"Unknown's fields cannot be read: .*NotImported"):
        build(Unknown, {"rate": 1}, "x")


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 2**64, len, b"x", object()])
def test_what_cannot_be_stored_is_refused(value):
    with pytest.raises(VsmlBenchError, match="stored"):
        as_plain({"a": [value]})
    with pytest.raises(VsmlBenchError, match="stored"):
        compact({"a": [value]})


def test_endless_nesting_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(VsmlBenchError, match="nested too deep"):
        as_plain(endless)


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (float, float("nan"), "expected a finite float, found nan"),
        (float, float("inf"), "expected a finite float, found inf"),
        (float, 10**400, "expected a finite float, found 1000"),
        (list[float], [16**9000], "expected a finite float, found something too large"),
        (int, 2**63, "expected an int of 64 bits, found 9223372036854775808"),
        (list[int], [16**9000], r"x\[0\]: expected an int of 64 bits, found something too large"),
        (str, "a" * 10, ""),
        (int, "a" * 1000, r"expected int, found 'a{76}\.\.\.\."),
        (tuple[int, str], [1], "expected 2 values, found 1"),
        (tuple[()], [1], "expected 0 values, found 1"),
        (tuple[int, str], [1, 2], r"x\[1\]: expected str, found 2"),
        (Sequence[str], "abc", "expected .*Sequence.*, found 'abc'"),
        (Rule, "heb", "'heb' is not a choice; did you mean 'hebb'"),
        (Rule, "HEBB", "not a choice; known: hebb, oja"),
        (Shape, "SMAL", "did you mean 'SMALL'"),
        (Number, True, "True is not a choice"),
        (Number, [1], r"\[1\] is not a choice"),
        (Literal[1, 2], 1.0, "1.0 is not a choice"),
        (int | str, 1.5, r"expected int \| str, found 1.5"),
        (int | None, 1.5, "expected int, found 1.5"),
        (Inner | int, {"rul": "oja"}, "x: unknown key 'rul'; did you mean 'rule'"),
        (Inner | Other, {"pair": 1}, r"fits no part of Inner \| Other \(x: unknown key 'pair'"),
        (None, 1, "expected None"),
    ],
)
def test_values_that_do_not_fit_are_one_sentence(hint, value, words):
    if not words:
        assert convert(hint, value, "x") == value
        return
    with pytest.raises(VsmlBenchError, match=words) as refusal:
        convert(hint, value, "x")
    assert len(str(refusal.value)) < 300 and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9" * 5000, "an integer has more than 64 bits"),
        ("[" * 3000 + "]" * 3000, "nested more than 50 deep"),
        ("[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("{a = " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        (".".join("a" * 3000), "nested more than 50 deep"),
    ],
    ids=["digits", "lists", "some lists", "tables", "dots"],
)
def test_files_beyond_all_bounds(tmp_path, text, words):
    path = tmp_path / "x.toml"
    path.write_text(f"{text} = 1" if text[0] == "a" else f"a = {text}")
    with pytest.raises(VsmlBenchError, match=rf"x\.toml is not valid TOML: .*{words}"):
        read_toml(path)
    if text[0] != "a":
        with pytest.raises(VsmlBenchError, match=words) as refusal:
            read_toml_value(text)
        assert len(str(refusal.value)) < 200


@dataclass(frozen=True)
class Placed:
    name: str
    place: str = field(default="", compare=False, metadata=NOT_STORED)


def test_fields_that_are_not_stored():
    placed = Placed("a", "/somewhere")
    assert as_plain(placed) == compact(placed) == {"name": "a"}
    assert replace(placed, {"name": "b"}, "x").place == "/somewhere"
    with pytest.raises(VsmlBenchError, match="unknown key 'place'"):
        build(Placed, {"name": "a", "place": "b"}, "x")


@dataclass(frozen=True)
class Said:
    name: str = "a"
    more: str = field(default="", metadata=STORED_IF_SAID)


def test_fields_that_are_stored_where_they_say_something():
    assert as_plain(Said()) == {"name": "a"} and build(Said, {"name": "a"}, "x") == Said()
    said = Said(more="b")
    assert as_plain(said) == {"name": "a", "more": "b"} and build(Said, as_plain(said), "x") == said
