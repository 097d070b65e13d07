"""Imports the code of somebody else's plug-in: a file by its path, or a module by its name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from vsml_bench.errors import VsmlBenchError

T = TypeVar("T")


@lru_cache(maxsize=256)
def import_file(file: Path, kind: str) -> ModuleType:
    """The module in a file, imported once. kind: what errors call it, "learner" say.

    VsmlBenchError where it is not there or cannot be imported.
    """
    if not file.is_file():
        raise VsmlBenchError(f"{kind} file {file.name} does not exist where it was looked for.")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"vsml_bench_{kind}_{file.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise VsmlBenchError(
            f"{kind} file {file.name} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module


def import_module(name: str, kind: str) -> ModuleType:
    """The module of that name; VsmlBenchError where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise VsmlBenchError(
            f"{kind} module {name} cannot be imported: {type(error).__name__}: {error}."
        ) from error


def classes_in(module: ModuleType, base: type[T]) -> list[type[T]]:
    """The subclasses of `base` that a module defines, not those that it imports."""
    return [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__ and issubclass(cls, base)
    ]
