"""Reads TOML into frozen dataclasses, strictly: a key or value that does not fit is an error that
names the file, the key and what would be right.

Fields may be bool, int, float, str, Path, None, Any, an Enum, a Literal, a dataclass, unions of
these, and lists, sequences, tuples, sets and mappings from str of all of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vsml_bench.errors import VsmlBenchError, closest, shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

NOT_STORED: Mapping[str, Any] = {"vsml_bench.stored": False}
"""Metadata of a dataclass field that files do not give, and that is neither stored nor hashed."""
STORED_IF_SAID: Mapping[str, Any] = {"vsml_bench.if_said": True}
"""Metadata of a dataclass field that is stored where it is not at its default, so that records from
before there was the field stay what they are. Its default must never change."""
_DEEPEST = 50
"""Levels of tables and lists that a file may have within each other."""
_LARGEST = 2**63
"""TOML's integers are less than this."""
_COLLECTIONS: Mapping[Any, type[Any]] = {
    list: list,
    tuple: tuple,
    Sequence: tuple,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
}
"""What a list in a file becomes, by the type of the field."""


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dictionary; VsmlBenchError where it cannot be read or is not TOML."""
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"))  # Windows' editors put a mark first
    except OSError as error:
        raise VsmlBenchError(f"cannot read {path.name}: {error.strerror}.") from error
    except ValueError as error:
        raise VsmlBenchError(f"{path.name} is not valid TOML: {error}.") from error


def read_toml_value(text: str) -> Any:
    """One value written as in TOML; anything that is not TOML is taken as a bare string.

    Raises VsmlBenchError for a number or nesting beyond all bounds.
    """
    try:
        return _parsed(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:
        raise VsmlBenchError(f"the value {shortened(text, 40)} cannot be read: {error}.") from error


def _parsed(text: str) -> dict[str, Any]:
    """ValueError where it is no TOML, or TOML that nobody means."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError(f"lists or tables are nested more than {_DEEPEST} deep") from None
    except ValueError:  # Python's own bound on the digits of a number
        raise ValueError("an integer has more than 64 bits") from None
    level: list[Any] = [values]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    if level:
        raise ValueError(f"lists or tables are nested more than {_DEEPEST} deep")
    return values


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from a mapping of its fields.

    where: what to call the source in errors, e.g. "smoke.toml".
    """
    converted = _converted(cls, values, where)
    for name, f in _fields(cls).items():  # type: ignore[arg-type]
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise VsmlBenchError(f"{where}: the key '{name}' is missing.")
    return cls(**converted)


def replace(instance: T, values: Mapping[str, Any], where: str) -> T:
    """A copy of a dataclass instance with some fields overridden, checked as in `build`."""
    changed = _converted(type(instance), values, where)
    return dataclasses.replace(instance, **changed)  # type: ignore[type-var]


@cache
def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that files give, by name."""
    return {
        f.name: f
        for f in dataclasses.fields(cls)
        if f.init and f.metadata.get("vsml_bench.stored", True)
    }


_hints = lru_cache(maxsize=None)(get_type_hints)


def _converted(cls: type[Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields = _fields(cls)  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise VsmlBenchError(f"{where}: unknown key '{key}'; {closest(key, fields)}")
    try:
        hints = _hints(cls)  # type: ignore[arg-type]
    except (NameError, TypeError) as error:
        raise VsmlBenchError(
            f"{where}: the types of {cls.__name__}'s fields cannot be read: {error}; use types "
            "that its module defines or imports."
        ) from error
    return {key: convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`; VsmlBenchError where it is something else.

    where: what to call its place in errors.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint is None or hint is type(None):
        if value is None:
            return None
    elif origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value, where)
    elif origin is Literal:
        return _chosen([(as_plain(option), option) for option in arguments], value, where)
    elif origin in (dict, Mapping) and arguments[0] is str:
        if isinstance(value, Mapping):
            return {k: convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif origin in _COLLECTIONS:
        if isinstance(value, (list, tuple, AbstractSet)):
            return _collection(hint, value, where)
    elif origin is not None or not isinstance(hint, type):
        raise _unsupported(hint, where)
    elif issubclass(hint, Enum):
        return _chosen(_words(hint), value, where)
    elif dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return build(hint, value, where)
    elif issubclass(hint, Path):
        if isinstance(value, (str, Path)):
            return hint(value)
    elif hint is float:
        if type(value) in (int, float) and _is_bounded(value):
            return float(value)
    elif hint is int:
        if type(value) is int and _is_bounded(value):
            return value
    elif hint in (bool, str):
        if type(value) is hint:
            return value
    else:
        raise _unsupported(hint, where)
    expected = _name(hint)
    if type(value) in (int, float) and not _is_bounded(value):
        expected = {int: "an int of 64 bits", float: "a finite float"}.get(hint, expected)
    raise VsmlBenchError(f"{where}: expected {expected}, found {_shown(value)}.")


def _first_that_fits(options: Sequence[Any], value: Any, where: str) -> Any:
    refusals = {}
    for option in options:
        try:
            return convert(option, value, where)
        except VsmlBenchError as refusal:
            refusals[option] = refusal
    refusals.pop(type(None), None)
    tables = [option for option in refusals if dataclasses.is_dataclass(option)]
    if len(refusals) == 1 or (len(tables) == 1 and isinstance(value, Mapping)):
        raise refusals[(tables or list(refusals))[0]]
    expected = " | ".join(map(_name, options))
    if tables and isinstance(value, Mapping):
        reasons = "; ".join(str(refusals[option]).rstrip(".") for option in tables)
        raise VsmlBenchError(f"{where}: fits no part of {expected} ({reasons}).")
    raise VsmlBenchError(f"{where}: expected {expected}, found {_shown(value)}.")


def _collection(hint: Any, value: Any, where: str) -> Any:
    origin, items = get_origin(hint), list(get_args(hint))
    if origin is not tuple or items[1:] == [...]:
        items = items[:1] * len(value)
    elif items == [()]:  # what Python 3.10 says of tuple[()]
        items = []
    if len(items) != len(value):
        raise VsmlBenchError(f"{where}: expected {len(items)} values, found {len(value)}.")
    read = [
        convert(item, v, f"{where}[{i}]")
        for i, (item, v) in enumerate(zip(items, value, strict=True))
    ]
    try:
        return _COLLECTIONS[origin](read)
    except TypeError:  # a set of lists
        raise _unsupported(hint, where) from None


def _words(cls: type[Enum]) -> list[tuple[Any, Enum]]:
    """What files call an enum's members: their values, or their names where not all values are
    texts or whole numbers."""
    written = all(type(member.value) in (str, int, bool) for member in cls)
    return [(member.value if written else member.name, member) for member in cls]


def _chosen(options: Sequence[tuple[Any, Any]], value: Any, where: str) -> Any:
    """The option of that word; types count, since True equals 1 and 1.0."""
    plain = as_plain(value) if isinstance(value, Enum) else value
    for word, option in options:
        if type(word) is type(plain) and word == plain:
            return option
    known = [str(word) for word, _ in options]
    hint = closest(plain if isinstance(plain, str) else _shown(plain), known)
    raise VsmlBenchError(f"{where}: {_shown(value)} is not a choice; {hint}")


def _is_bounded(number: float) -> bool:
    """Whether TOML and JSON have the number, an int or a float."""
    return math.isfinite(number) if isinstance(number, float) else abs(number) < _LARGEST


def _unsupported(hint: Any, where: str) -> VsmlBenchError:
    return VsmlBenchError(
        f"{where}: fields of the type {_name(hint)} cannot be read from a file; see "
        "vsml_bench/config.py for the types that can."
    )


def _name(hint: Any) -> str:
    if hint is type(None):
        return "None"
    plain = isinstance(hint, type) and get_origin(hint) is None
    return hint.__name__ if plain else str(hint).replace("typing.", "")


def _shown(value: Any) -> str:
    """The value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, endless nesting
        return "something too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_plain(value: Any) -> Any:
    """A dataclass (nested) as JSON-ready dictionaries, lists and scalars, from which `build` makes
    it again. Sets become sorted lists, enums their values or names.

    Raises VsmlBenchError for what cannot be written so, such as NaN or a function.
    """
    try:
        return _plain(value)
    except RecursionError:
        raise VsmlBenchError("a value is nested too deep to be stored.") from None


def compact(value: Any) -> Any:
    """Like `as_plain`, but without fields at their default: what the seeds of pinned lifetimes are
    derived from, and for nothing else.

    A field added later, whose default means what the code did before, so leaves all lifetimes as
    they are; but a default that changes goes unseen, so that no key of a result may use this.
    """
    return _plain(value, defaults=False)


def _plain(value: Any, defaults: bool = True) -> Any:
    if isinstance(value, Enum):
        return next(word for word, member in _words(type(value)) if member is value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if not _is_bounded(value):
            raise VsmlBenchError(f"{_shown(value)} is not a number that can be stored.")
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f, getattr(value, name)) for name, f in _fields(type(value)).items())
        return {
            f.name: _plain(v, defaults)
            for f, v in fields
            if (defaults and "vsml_bench.if_said" not in f.metadata) or not _is_default(f, v)
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(v, defaults) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, defaults) for v in value]
    if isinstance(value, AbstractSet):
        return sorted((_plain(v, defaults) for v in value), key=json.dumps)
    raise VsmlBenchError(
        f"{_shown(value)} cannot be stored: it is of the type {type(value).__name__}; see "
        "vsml_bench/config.py for the types that can."
    )


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return field.default is not dataclasses.MISSING and bool(value == field.default)
