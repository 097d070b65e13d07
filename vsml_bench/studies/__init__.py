"""Studies: questions that have a folder each, with all that belongs to them and to nothing else.

A study is a package here, or an entry point of the group `vsml_bench.studies`, with a `STUDY` that
says what it adds. A suite names the one that its board belongs to.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vsml_bench.errors import VsmlBenchError, closest, costs_itself
from vsml_bench.plugins import installed, load

if TYPE_CHECKING:
    from vsml_bench.boards.groups import Group

ENTRY_POINT_GROUP = "vsml_bench.studies"


Value: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Section:
    """A table of the board with what a reader must know of it."""

    title: str
    text: str
    """One paragraph: what the columns are, with their units."""
    headers: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    """None where there is no number. Floats are shown with three decimals."""


@dataclass(frozen=True)
class Study:
    """What a study adds. All are "package.module:name", imported when they are used and not before;
    each may be left out."""

    protocol: str = ""
    """Its `Protocol`, which bears the study's name."""
    learners: tuple[str, ...] = ()
    """Modules whose learners are found without being pointed at."""
    sections: str = ""
    """What makes its sections of a board, from the learners that finished. The module must not
    import torch."""
    pictures: str = ""
    """What draws these sections: file name -> content."""

    def sections_of(self, finished: Sequence[Group]) -> tuple[Section, ...]:
        """The sections that it adds to a board."""
        if not self.sections:
            return ()
        make: Callable[[Sequence[Group]], Sequence[Section]] = load(self.sections, "study")
        return tuple(make(finished))

    def pictures_of(self, sections: Sequence[Section]) -> Mapping[str, bytes]:
        """Pictures of a board's sections, by file name."""
        if not self.pictures:
            return {}
        draw: Callable[[Sequence[Section]], Mapping[str, bytes]] = load(self.pictures, "study")
        return draw(sections)


def studies() -> dict[str, Study]:
    """All studies by name: the shipped ones, then those of other packages. One that cannot be
    imported costs itself, with a warning.

    Raises VsmlBenchError where two have the same name.
    """
    found = {}
    for name, place in _places().items():
        with costs_itself(f"study '{name}'"):
            found[name] = _study(name, place)
    return found


def find_study(name: str) -> Study:
    """The study of that name; one that adds nothing for ""."""
    if not name:
        return Study()
    places = _places()
    if name not in places:
        raise VsmlBenchError(f"unknown study '{name}'; {closest(name, places)}")
    return _study(name, places[name])


def _places() -> dict[str, str]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    places = {name: f"{__name__}.{name}" for name in names}
    for name, value in installed(ENTRY_POINT_GROUP).items():
        if name in places:
            raise VsmlBenchError(f"two studies are called '{name}': {places[name]} and {value}.")
        places[name] = value
    return places


def _study(name: str, place: str) -> Study:
    found = load(place if ":" in place else f"{place}:STUDY", "study")
    if not isinstance(found, Study):
        raise VsmlBenchError(f"study '{name}': {place} is {found!r}; it must be a Study(...).")
    return found
