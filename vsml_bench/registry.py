"""From names to learner classes. It imports learners' code, so that only child processes that run
learners use it; everybody else reads `cards`.

A learner comes from a Python file or module that defines `Learner` subclasses; each name in a
class's `variants` is one learner. Where such modules are looked for, all in one way:
`baselines/`, entry points of the group `vsml_bench.learners` (VSML itself is one, of this
package), what studies name, a file given as `path/to/file.py` or `path/to/file.py:ClassName`, and
a module that can be imported, given as `package.module` or `package.module:ClassName`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from vsml_bench import paths
from vsml_bench.cards import ENTRY_POINTS, Card, only
from vsml_bench.config import convert
from vsml_bench.errors import (
    VsmlBenchError,
    check_name,
    closest,
    costs_itself,
)
from vsml_bench.learner import Learner
from vsml_bench.learner_entry import LearnerEntry, Place
from vsml_bench.plugins import (
    classes_in,
    import_file,
    import_module,
    import_place,
    imported_for_others,
    is_place,
    points,
    real,
    relative_files,
)
from vsml_bench.storage import file_hash
from vsml_bench.studies import studies

OWN = "vsml-bench"
"""The distribution whose learners say with `version` that they compute something else; of all
others the bytes of their code count as well."""


def entry_of(card: Card) -> LearnerEntry:
    """The learner of a card, found again and configured as it says; VsmlBenchError where its code
    is not what the card was read from."""
    entry = None
    if not is_place(card.reference):
        named = (e for e in _discovered(card.origin) if e.reference == card.reference)
        entry = next(named, None)
    entry = entry or find_learner(card.reference)
    config = convert(type(entry.config), card.config, f"configuration of {entry.name}")
    found = dataclasses.replace(entry, config=config)
    check_code(found, card)
    return found


def check_code(entry: LearnerEntry, card: Card) -> None:
    """VsmlBenchError where the author's files, the version, or the package's, are not those of the
    card: a score must not be filed under what it is not of. Files that are imported late may not be
    loaded yet; a file that the card does not have must not be."""
    home = entry.place.home or Path()
    changed = [name for name, digest in card.files.items() if file_hash(home / name) != digest]
    declared = {"version": card.version, "package": card.package}
    now = {"version": entry.cls.version, "package": entry.place.package}
    changed += [
        f"its {n} is {now[n]} and was {was}" for n, was in declared.items() if now[n] != was
    ]
    if changed:
        raise VsmlBenchError(
            f"the code of learner '{card.name}' ({card.origin}) is not what was planned "
            f"({', '.join(changed)}); run the command again."
        )
    loaded = relative_files(entry.place.home, imported_for_others)
    late = sorted(loaded.keys() - card.files.keys())
    if late:
        raise VsmlBenchError(
            f"learner '{card.name}' ({card.origin}) imports {', '.join(late)} so late that no "
            "trial of it sees that; import it at the top of the file."
        )


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
    imported = import_place(reference, "learner")
    if imported is not None:
        module, where, inside = imported
        if not where.endswith(".py"):
            return _chosen(module, _place_of_module(where), inside)
        file = Path(where)
        return _chosen(module, Place(file.name, str(file), real(file).parent), inside)
    known = learners()
    if reference not in known:
        raise VsmlBenchError(f"unknown learner '{reference}'; {closest(reference, known)}")
    return [known[reference]]


def _place_of_module(name: str, by_name: bool = False, distribution: str = "") -> Place:
    """by_name: whether its learners are found by their names, as those of entry points are.
    distribution: what it comes in, where that is known."""
    top = name.partition(".")[0]
    where = "" if by_name else name
    if top == paths.PACKAGE.name:
        return Place(f"package {OWN}" if by_name else f"module {name}", where)
    module = sys.modules[top]
    folders = list(getattr(module, "__path__", ()))  # a namespace package has no file
    home = Path(folders[0]).resolve() if folders else real(module.__file__ or "")
    if not distribution:
        distribution = next(iter(importlib.metadata.packages_distributions().get(top, [])), "")
    package = f"{distribution} {importlib.metadata.version(distribution)}" if distribution else ""
    return Place(
        f"package {distribution or top}" if by_name else f"module {name}", where, home, package
    )


def _chosen(module: ModuleType, place: Place, inside: str) -> list[LearnerEntry]:
    """Learners of a module. inside: "", "ClassName" or "ClassName:NAME"."""
    entries = list(_entries(module, place))
    if not entries:
        raise VsmlBenchError(
            f"{place.origin} defines no learner: no subclass of Learner with `variants`; see "
            "vsml_bench/learner.py."
        )
    class_name, _, variant = inside.partition(":")
    for wanted, kind in ((class_name, "class"), (variant, "variant")):
        names = [e.cls.__name__ if kind == "class" else e.name for e in entries]
        if wanted and wanted not in names:
            hint = closest(wanted, set(names))
            raise VsmlBenchError(f"{place.origin} defines no learner {kind} '{wanted}'; {hint}")
        entries = [e for name, e in zip(names, entries, strict=True) if wanted in ("", name)]
    return entries


def find_learner(reference: str) -> LearnerEntry:
    """Like `find_learners` where exactly one is wanted."""
    return only(reference, find_learners(reference))


def _discovered(origin: str = "") -> Iterator[LearnerEntry]:
    """What cannot be imported or breaks the rules costs itself, with a warning. origin: import only
    what is found there, so that no other package's code runs."""

    def imported(module: str, distribution: str = "", attr: str = "") -> list[LearnerEntry]:
        found = import_module(module, "learner")
        loaded = attrgetter(attr)(found) if attr else found
        return list(_entries(loaded, _place_of_module(module, True, distribution)))

    for point in points(ENTRY_POINTS):
        distribution = point.dist.name if point.dist is not None else ""
        if origin in ("", f"package {distribution or point.module.partition('.')[0]}"):
            with costs_itself(f"entry point '{point.name}' of {distribution or 'a package'}"):
                yield from imported(point.module, distribution, point.attr)
    for study in studies().values() if not origin.startswith("baselines/") else ():
        for module in study.learners:
            own = module.partition(".")[0] == paths.PACKAGE.name
            if not origin or own == (origin == f"package {OWN}"):
                with costs_itself(f"module {module}"):
                    yield from imported(module)
    for file in paths.shipped(paths.baselines(), "py"):
        place = Place(f"baselines/{file.name}", "")
        if origin in ("", place.origin):
            with costs_itself(place.origin):
                yield from list(_entries(import_file(file, "learner"), place))


def _entries(source: ModuleType | type, place: Place) -> Iterator[LearnerEntry]:
    """Learners that a module defines (not those it imports), or the one class given."""
    origin = place.origin
    classes: list[type[Learner]] = (
        [source] if isinstance(source, type) else classes_in(source, Learner)  # type: ignore[type-abstract]
    )
    for cls in classes:
        for attribute in ("variants", "family", "source"):
            if not hasattr(cls, attribute):
                raise VsmlBenchError(
                    f"{origin}: learner class {cls.__name__} lacks the attribute '{attribute}'; "
                    "see vsml_bench/learner.py."
                )
        for name, config in cls.variants.items():
            check_name(name, f"{origin}: learner class {cls.__name__}: name of a variant")
            if not dataclasses.is_dataclass(config) or isinstance(config, type):
                raise VsmlBenchError(
                    f"{origin}: learner class {cls.__name__}: the configuration of '{name}' is "
                    f"{config!r}; it must be an instance of a frozen dataclass, such as NoConfig()."
                )
            yield LearnerEntry(name, cls, config, place)
