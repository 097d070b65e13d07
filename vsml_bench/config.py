"""Reads TOML into frozen dataclasses, strictly: a key or value that does not fit is an error that
names the file, the key and what would be right."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vsml_bench.errors import VsmlBenchError, closest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dictionary; VsmlBenchError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VsmlBenchError(f"cannot read {path.name}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise VsmlBenchError(f"{path.name} is not valid TOML: {error}.") from error


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from a mapping of its fields.

    where: what to call the source in errors, e.g. "smoke.toml".
    """
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise VsmlBenchError(f"{where}: unknown key '{key}'; {closest(key, fields)}")
    converted = {
        key: convert(hints[key], value, f"{where}: {key}") for key, value in values.items()
    }
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise VsmlBenchError(f"{where}: the key '{name}' is missing.")
    return cls(**converted)


def replace(instance: T, values: Mapping[str, Any], where: str) -> T:
    """A copy of a dataclass instance with some fields overridden, checked as in `build`."""
    current = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}  # type: ignore[arg-type]
    return build(type(instance), {**current, **values}, where)


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`; VsmlBenchError where it is something else."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        return convert(next(o for o in options if o is not type(None)), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            known = [str(option) for option in get_args(hint)]
            raise VsmlBenchError(
                f"{where}: {value!r} is not a choice; {closest(str(value), known)}"
            )
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        item = get_args(hint)[0]
        return tuple(convert(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        item = get_args(hint)[1]
        return {k: convert(item, v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return build(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    expected = getattr(hint, "__name__", str(hint))
    raise VsmlBenchError(f"{where}: expected {expected}, found {value!r}.")


def as_plain(value: Any) -> Any:
    """A dataclass (nested) as JSON-ready dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(v) for v in value]
    return value


def identity(value: Any) -> Any:
    """Like `as_plain`, but without fields at their default, so that an option added later, whose
    default means what the code did before, leaves the identity of older results alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {}
        for f in dataclasses.fields(value):
            current = getattr(value, f.name)
            if f.default is not dataclasses.MISSING and current == f.default:
                continue
            if f.default_factory is not dataclasses.MISSING and current == f.default_factory():
                continue
            kept[f.name] = identity(current)
        return kept
    if isinstance(value, Mapping):
        return {str(k): identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(v) for v in value]
    return value


def read_toml_value(text: str) -> Any:
    """One value written as in TOML; anything that is not TOML is taken as a bare string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
