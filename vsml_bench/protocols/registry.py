"""From a suite's `protocol` to the class: a name, or a place. Imports no torch."""

from __future__ import annotations

from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.plugins import installed, is_place, load
from vsml_bench.protocols.protocol import Protocol
from vsml_bench.studies import studies
from vsml_bench.suites import Suite

ENTRY_POINT_GROUP = "vsml_bench.protocols"
_SHIPPED = {
    "online": "vsml_bench.protocols.online:Online",
    "few_shot": "vsml_bench.protocols.few_shot:FewShot",
}


def protocol_places() -> dict[str, str]:
    """Name -> "package.module:ClassName" of all that are found without being pointed at: shipped
    ones, those of studies, and entry points. VsmlBenchError where two have the same name."""
    places = dict(_SHIPPED)
    of_studies = {name: study.protocol for name, study in studies().items() if study.protocol}
    for found in (of_studies, installed(ENTRY_POINT_GROUP)):
        for name, place in found.items():
            if places.setdefault(name, place) != place:
                raise VsmlBenchError(
                    f"two protocols are called '{name}': {places[name]} and {place}."
                )
    return places


def find_protocol(reference: str) -> type[Protocol]:
    """The protocol of that name, or at `path/to/file.py:ClassName` or `package.module:ClassName`.

    Raises VsmlBenchError where there is none, or where it lacks what a protocol must have.
    """
    place = reference
    if not is_place(reference):
        places = protocol_places()
        if reference not in places:
            raise VsmlBenchError(f"unknown protocol '{reference}'; {closest(reference, places)}")
        place = places[reference]
    cls = _checked(load(place, "protocol"), reference)
    if place != reference and cls.name != reference:
        raise VsmlBenchError(
            f"protocol '{reference}' calls itself '{cls.name}'; give both the same name."
        )
    return cls


def protocol_of(suite: Suite) -> type[Protocol]:
    """The suite's protocol; errors name the suite."""
    try:
        return find_protocol(suite.protocol)
    except VsmlBenchError as error:
        raise VsmlBenchError(f"suite '{suite.name}': {error}") from error


def _checked(found: object, reference: str) -> type[Protocol]:
    """VsmlBenchError where it is no protocol, or lacks what one must have."""
    if not (isinstance(found, type) and issubclass(found, Protocol)):
        raise VsmlBenchError(
            f"protocol '{reference}' is {found!r}; it must be a subclass of "
            "vsml_bench.protocols.protocol.Protocol."
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if not getattr(found, "name", ""):
        missing.append("name")
    if not hasattr(found, "__dataclass_fields__"):
        missing.append("@dataclass(frozen=True)")
    if missing:
        raise VsmlBenchError(
            f"protocol '{reference}': class {found.__name__} lacks {', '.join(missing)}; see "
            "vsml_bench/protocols/protocol.py."
        )
    return found
