"""From names to learners.

A learner comes from a Python file or module that defines `Learner` subclasses; each name in a
class's `variants` is one learner. Where such modules are looked for, all in one way:
`baselines/`, entry points of the group `vsml_bench.learners` (VSML itself is one, of this
package), a file given as `path/to/file.py` or `path/to/file.py:ClassName`, and a module that can
be imported, given as `package.module` or `package.module:ClassName`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vsml_bench import paths
from vsml_bench.config import as_plain, replace
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.learner import Learner
from vsml_bench.source_hash import learner_hash

ENTRY_POINT_GROUP = "vsml_bench.learners"


@dataclass(frozen=True)
class LearnerEntry:
    """A named configuration of a learner class."""

    name: str
    cls: type[Learner]
    config: Any
    origin: str
    """Where it was found: "baselines/ridge.py", "package NAME", "module NAME", or the given file's
    name."""
    reference: str
    """What finds it again in another process: its name, "path/to/file.py:ClassName:NAME", or the
    same with "package.module"."""

    @property
    def has_meta_parameters(self) -> bool:
        """Whether there is anything to meta-train."""
        return self.cls.recipe is not None

    @property
    def unavailable(self) -> str:
        """Which package it lacks here, and how to install it; "" where it can run."""
        for package, remedy in self.cls.requires.items():
            if importlib.util.find_spec(package) is None:
                return (
                    f"learner '{self.name}' ({self.origin}) needs the package {package}, which is "
                    f"not installed: {remedy}."
                )
        return ""

    def configured(self, values: dict[str, Any]) -> LearnerEntry:
        """The same learner with some configuration fields overridden, checked against them."""
        config = replace(self.config, values, f"configuration of {self.name}")
        return LearnerEntry(self.name, self.cls, config, self.origin, self.reference)

    def overridden(self, values: dict[str, Any]) -> LearnerEntry:
        """`configured` with what a user asks for; VsmlBenchError for a field that is tuned anyway,
        where the wish would be lost."""
        grid = self.cls.tuning.values if self.cls.tuning is not None else {}
        tuned = sorted(set(values) & set(grid))
        if tuned:
            raise VsmlBenchError(
                f"configuration of {self.name}: '{tuned[0]}' is tuned on the meta-train side and "
                "cannot be set; leave it out, or change the learner's tuning grid."
            )
        return self.configured(values)

    def create(self, seed: int | None = None) -> Learner:
        """An instance; with a seed its meta-parameters are drawn afresh from it.

        Raises VsmlBenchError where the class does not fulfil the contract, UnavailableError where
        a package that it needs is not installed.
        """
        missing = sorted(getattr(self.cls, "__abstractmethods__", ()))
        if missing:
            raise VsmlBenchError(
                f"learner '{self.name}' ({self.origin}): class {self.cls.__name__} lacks "
                f"{', '.join(f'{m}()' for m in missing)}; see vsml_bench/learner.py."
            )
        if self.unavailable:
            raise UnavailableError(self.unavailable)
        learner = self.cls(self.config)
        if seed is not None:
            learner.init_meta_parameters(torch.Generator().manual_seed(seed))
        return learner

    def source_hash(self) -> str:
        """Hash of what its code does."""
        return learner_hash(self.cls)

    def plain_config(self) -> dict[str, Any]:
        """Its configuration as JSON-ready values."""
        plain: dict[str, Any] = as_plain(self.config)
        return plain


def learners() -> dict[str, LearnerEntry]:
    """All learners that are found without being pointed at, by name, in the order found.

    Raises VsmlBenchError where two have the same name.
    """
    found: dict[str, LearnerEntry] = {}
    for entry in _discovered():
        if entry.name in found and entry.cls is not found[entry.name].cls:
            raise VsmlBenchError(
                f"two learners are called '{entry.name}': {found[entry.name].origin} and "
                f"{entry.origin}; rename one in its `variants`."
            )
        found[entry.name] = entry
    return found


def find_learners(reference: str) -> list[LearnerEntry]:
    """The learner of that name or, for `path/to/file.py`, `path/to/file.py:ClassName` or the same
    with `package.module`, all variants that the file or class defines; a further `:NAME` picks
    one."""
    path, _, inside = reference.partition(".py:")
    if reference.endswith(".py") or inside:
        file = Path(path if reference.endswith(".py") else f"{path}.py")
        # the absolute path, since modules are kept and the working folder may change
        module = _load_file(file.absolute())
        return _chosen(module, file.name, str(file), inside)
    name, _, inside = reference.partition(":")
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return _chosen(_import_module(name), f"module {name}", name, inside)
    learner_names = learners()
    if reference not in learner_names:
        raise VsmlBenchError(f"unknown learner '{reference}'; {closest(reference, learner_names)}")
    return [learner_names[reference]]


def _chosen(module: ModuleType, origin: str, where: str, inside: str) -> list[LearnerEntry]:
    """Learners of a module. inside: "", "ClassName" or "ClassName:NAME"."""
    entries = list(_entries(module, origin, lambda cls: f"{where}:{cls.__name__}"))
    class_name, _, variant = inside.partition(":")
    for wanted, kind, name_of in (
        (class_name, "class", lambda entry: entry.cls.__name__),
        (variant, "variant", lambda entry: entry.name),
    ):
        known = {name_of(entry) for entry in entries}
        if wanted and wanted not in known:
            raise VsmlBenchError(
                f"{origin} defines no learner {kind} '{wanted}'; {closest(wanted, known)}"
            )
        entries = [entry for entry in entries if wanted in ("", name_of(entry))]
    return entries


def find_learner(reference: str) -> LearnerEntry:
    """Like `find_learners` where exactly one is wanted."""
    entries = find_learners(reference)
    if len(entries) != 1:
        names = ", ".join(entry.reference for entry in entries) or "none"
        raise VsmlBenchError(f"'{reference}' stands for several learners; name one of: {names}.")
    return entries[0]


def _discovered() -> Iterator[LearnerEntry]:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"package {point.dist.name}" if point.dist is not None else "an entry point"
        try:
            loaded = point.load()
        except Exception as error:
            raise VsmlBenchError(
                f"entry point '{point.name}' of {origin} cannot be loaded: {error}."
            ) from error
        yield from _entries(loaded, origin, lambda cls: "")
    for file in sorted(paths.baselines().glob("*.py")):
        if not file.name.startswith("_"):
            yield from _entries(_load_file(file), f"baselines/{file.name}", lambda cls: "")


def _entries(
    source: ModuleType | type, origin: str, reference: Callable[[type], str]
) -> Iterator[LearnerEntry]:
    """Learners that a module defines (not those it imports), or the one class given."""
    if isinstance(source, type):
        classes = [source]
    else:
        classes = [
            cls
            for _, cls in inspect.getmembers(source, inspect.isclass)
            if cls.__module__ == source.__name__
        ]
    for cls in classes:
        if not issubclass(cls, Learner):
            continue
        for attribute in ("variants", "family", "source"):
            if not hasattr(cls, attribute):
                raise VsmlBenchError(
                    f"{origin}: learner class {cls.__name__} lacks the attribute '{attribute}'; "
                    "see vsml_bench/learner.py."
                )
        for name, config in cls.variants.items():
            if not dataclasses.is_dataclass(config) or isinstance(config, type):
                raise VsmlBenchError(
                    f"{origin}: learner class {cls.__name__}: the configuration of '{name}' is "
                    f"{config!r}; it must be an instance of a frozen dataclass, such as NoConfig()."
                )
            where = reference(cls)
            yield LearnerEntry(name, cls, config, origin, f"{where}:{name}" if where else name)


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise VsmlBenchError(
            f"learner module {name} cannot be imported: {type(error).__name__}: {error}."
        ) from error


@lru_cache(maxsize=256)
def _load_file(file: Path) -> ModuleType:
    if not file.is_file():
        reason = paths.missing(str(file)) or "there is a folder of that name."
        raise VsmlBenchError(f"learner file {file.name} does not exist: {reason}")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"vsml_bench_learner_{file.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise VsmlBenchError(
            f"learner file {file.name} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module
