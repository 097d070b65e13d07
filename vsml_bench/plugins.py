"""From a reference to the class or function that it names, in a file or a module: how learners,
datasets, protocols and studies of other people are imported. Imports no torch by itself."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Set
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError, closest, costs_itself
from vsml_bench.storage import file_hash

T = TypeVar("T")

_PREFIX = "vsml_bench_plugin_"
_OF_LEARNERS = ("learner", "source")
imported_for_others: set[str] = set()
"""Names of modules that were imported by datasets, protocols and the like, or by the program that
runs all: they are in the process of a learner, and no part of it."""


def is_place(reference: str) -> bool:
    """Whether this says where something is, by a file or a module, instead of naming it."""
    return ":" in reference or "." in reference


def missing_package(requires: Mapping[str, str], who: str) -> str:
    """Which of the packages is not installed, and how to install it; "" where all are."""
    for package, remedy in requires.items():
        if importlib.util.find_spec(package) is None:
            return f"{who} needs the package {package}, which is not installed: {remedy}."
    return ""


def import_place(reference: str, kind: str) -> tuple[ModuleType, str, str] | None:
    """What `path/to/file.py`, `package.module` or either with `:NAME` stands for: the module, its
    file or name, and NAME or ""; None for a name. VsmlBenchError as of `import_file`."""
    place, inside = paths.parts(reference)
    if place.endswith(".py"):
        return import_file(Path(place), kind), place, inside
    place, _, inside = reference.partition(":")
    if "." in place and all(part.isidentifier() for part in place.split(".")):
        return import_module(place, kind), place, inside
    return None


def load(reference: str, kind: str, home: str = "") -> Any:
    """What `path/to/file.py:Name` or `package.module:Name` names.

    kind: what to call it in errors, "protocol" say. home: a loaded module, in which `:Name` is
    looked for. VsmlBenchError where there is no such thing.
    """
    place, _, name = reference.rpartition(":")
    if home and not place:
        return _named(sys.modules[home], name, kind, "the file")
    if not place or not name:
        raise VsmlBenchError(
            f"{kind} '{reference}': expected path/to/file.py:Name or package.module:Name."
        )
    is_file = place.endswith(".py")
    module = import_file(Path(place), kind) if is_file else import_module(place, kind)
    return _named(module, name, kind, Path(place).name if is_file else place)


def _named(module: ModuleType, name: str, kind: str, where: str) -> Any:
    if not hasattr(module, name):
        raise VsmlBenchError(f"{where} defines no {kind} '{name}'; {closest(name, vars(module))}")
    return getattr(module, name)


def reference_to(cls: type) -> str:
    """What `load` finds the class by in another process."""
    module = cls.__module__
    if module.startswith(_PREFIX):
        module = str(sys.modules[module].__file__)
    return f"{module}:{cls.__qualname__}"


def installed(group: str) -> dict[str, str]:
    """The entry points of a group, name -> "package.module:Name", in alphabetical order."""
    return {point.name: point.value for point in sorted(points(group))}


def points(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, searched for once in all that is on Python's path."""
    return _points(group, tuple(sys.path))


@cache
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def with_installed(own: Mapping[str, T], group: str, kind: str, type_: type[T]) -> dict[str, T]:
    """`own`, then what the entry points of the group name. One that cannot be loaded, or is no
    `type_`, costs itself, with a warning.

    VsmlBenchError where one has a name that there is already.
    """
    found = dict(own)
    for name, reference in installed(group).items():
        if name in found:
            raise VsmlBenchError(f"two {kind}s are called '{name}'; rename {reference}.")
        with costs_itself(f"{kind} '{name}'"):
            loaded = load(reference, kind)
            if not isinstance(loaded, type_):
                raise VsmlBenchError(
                    f"{reference} is {loaded!r}; it must be a {type_.__name__}(...)."
                )
            found[name] = loaded
    return found


def import_file(file: Path, kind: str) -> ModuleType:
    """The module in a file, imported once. Files beside it can be imported as well, as beside a
    script. kind: what errors call it, "learner" say.

    VsmlBenchError where it is not there or cannot be imported.
    """
    # the absolute path, since modules are kept and the working folder may change
    file = file.absolute()
    if not file.is_file():
        raise VsmlBenchError(f"{kind} file {file.name} does not exist where it was looked for.")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"{_PREFIX}{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(file.parent)
    if folder not in sys.path and file.parent != paths.baselines():
        sys.path.insert(0, folder)
    try:
        with _noted(kind, name):
            sys.modules[name] = module
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise VsmlBenchError(
            f"{kind} file {file.name} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module


def import_module(name: str, kind: str) -> ModuleType:
    """The module of that name; VsmlBenchError where it cannot be imported."""
    try:
        with _noted(kind, name):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise VsmlBenchError(
            f"{kind} module {name} cannot be imported: {type(error).__name__}: {error}."
        ) from error


@contextlib.contextmanager
def _noted(kind: str, name: str) -> Iterator[None]:
    """Notes what is not imported for a learner: what is inside, if it is of another kind, else what
    was there before, such as the modules of a program that runs it."""
    before = set(sys.modules)
    yield
    if name not in before:
        is_learners = kind in _OF_LEARNERS
        imported_for_others.update(before if is_learners else set(sys.modules) - before)


def classes_in(module: ModuleType, base: type[T]) -> list[type[T]]:
    """The subclasses of `base` that a module defines, not those that it imports."""
    return [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__ and issubclass(cls, base)
    ]


def real(file: str | Path) -> Path:
    """The file in the folder that its folder really is. A link to a file stays one: what it imports
    is looked for beside the link."""
    folder, name = os.path.split(os.path.abspath(file))
    return _real_folder(folder) / name


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> Path:
    return Path(folder).resolve()


def loaded_files(home: Path | None, leave_out: Set[str] = frozenset()) -> dict[Path, str]:
    """The files below `home` that this process has imported -> SHA-256 of their bytes. Packages
    that are installed there, as in a virtual environment, are not the author's.

    leave_out: names of modules.
    """
    if home is None:
        return {}
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name in leave_out:
            continue
        path = real(file)
        if not path.is_relative_to(home) or path.is_relative_to(paths.PACKAGE):
            continue
        if not path.is_file():  # some of PyTorch's modules say that they are in the working folder
            continue
        if not {"site-packages", "dist-packages"} & set(path.relative_to(home).parts):
            found[path] = file_hash(path)
    return dict(sorted(found.items()))


def relative_files(home: Path | None, leave_out: Set[str] = frozenset()) -> dict[str, str]:
    """`loaded_files`, named from `home` on."""
    files = loaded_files(home, leave_out)
    return {path.relative_to(home or "").as_posix(): digest for path, digest in files.items()}
