"""What learners say of themselves, as plain data, so that planning, listing, pricing and boards
need neither their code nor PyTorch.

A card is read from the learner's file in a child process (`card_reader`), which imports
the file, tries the learner on made-up data, and sees which of the author's own files that loaded.
Cards are kept in the user's cache folder and count as long as all of these files have the same
bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vsml_bench import paths
from vsml_bench.config import STORED_IF_SAID, as_plain, build
from vsml_bench.errors import VsmlBenchError, closest, warn
from vsml_bench.owners import sweep, temporary_folder
from vsml_bench.plugins import is_place, missing_package, points
from vsml_bench.recipes import Recipe, Shape, TuningGrid
from vsml_bench.storage import canonical_json, file_hash, seal, sha256_hex, unseal, write_atomically
from vsml_bench.studies import ENTRY_POINT_GROUP as STUDIES

ENTRY_POINTS = "vsml_bench.learners"
"""Group of the entry points by which packages bring learners."""
SECONDS = 300.0
"""In which the child has to read the cards of one file; what takes longer never ends."""


@dataclass(frozen=True)
class Card:
    """One named configuration of a learner class; see `Learner` for what the fields mean."""

    name: str
    version: int
    config: dict[str, Any]
    """Every field, defaults included."""
    family: str
    source: str
    protocols: tuple[str, ...]
    input_kinds: tuple[str, ...]
    invariances: tuple[str, ...]
    fixed_shape: Shape | None
    recipe: Recipe | None
    tuning: TuningGrid | None
    requires: dict[str, str]
    origin: str
    """Where it was found: "baselines/ridge.py", "package NAME", "module NAME", or a file's name."""
    reference: str
    """What finds it again in another process: its name, "path/to/file.py:ClassName:NAME", or the
    same with "package.module"."""
    class_name: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """The author's files that it loads, from their folder on -> SHA-256 of their bytes; none where
    vsml-bench's own `version` counts."""
    package: str = ""
    """Name and version of the package that it comes in; "" where that is vsml-bench, or none."""
    meta_parameters: int | None = None
    """Numbers in its meta-parameters; None where an instance cannot be made here."""
    state_floats: int | None = None
    """Numbers in the state of one lifetime, at 28x28 pixels and 10 classes or its fixed shape."""
    state_growth: int | None = None
    """How many more with each example."""
    doc: str = ""
    external_data: str = field(default="", metadata=STORED_IF_SAID)

    def identity(self) -> dict[str, Any]:
        """What a result of this learner depends on."""
        return {
            "name": self.name,
            "version": self.version,
            "config": self.config,
            "code": sha256_hex(canonical_json(self.files)) if self.files else "",
            "package": self.package,
        }

    def published(self) -> Card:
        """Without the path at which its file was found."""
        return replace(self, reference=paths.published(self.reference))

    @property
    def unavailable(self) -> str:
        """Which package it lacks here, and how to install it; "" where it can run."""
        return missing_package(self.requires, f"learner '{self.name}' ({self.origin})")


def unknown(name: str, protocol: str) -> Card:
    """What stands for a learner of which only the protocol is known that it is run under."""
    return Card(name, 0, {}, "", "", (protocol,), (), (), None, None, None, {}, "", name)


def shipped() -> dict[str, Card]:
    """Cards of all learners that are found without being pointed at, by name, in the order found.
    VsmlBenchError where two have the same name."""
    return {card.name: card for card in _read("", {})}


def find(
    reference: str,
    overrides: Mapping[str, Any] | None = None,
    known: Mapping[str, Card] | None = None,
) -> list[Card]:
    """The learner of that name or, for `path/to/file.py`, `path/to/file.py:ClassName`,
    `package.module` or `package.module:ClassName`, all variants that the file or class defines; a
    further `:NAME` picks one.

    overrides: configuration fields to change. known: what `shipped` has given. VsmlBenchError
    where there is no such learner, where its code cannot be imported, fails on made-up data, or
    does not end.
    """
    if is_place(reference):
        return _read(reference, overrides or {})
    known = known or shipped()
    if reference not in known:
        raise VsmlBenchError(f"unknown learner '{reference}'; {closest(reference, known)}")
    return _read(reference, overrides) if overrides else [known[reference]]


def find_one(reference: str, overrides: Mapping[str, Any] | None = None) -> Card:
    """Like `find` where exactly one is wanted."""
    return only(reference, find(reference, overrides))


class _Referable(Protocol):
    @property
    def reference(self) -> str: ...


F = TypeVar("F", bound=_Referable)


def only(reference: str, found: Sequence[F]) -> F:
    """The one card, or the like, that was found; VsmlBenchError where there are more or none."""
    if len(found) != 1:
        names = ", ".join(one.reference for one in found) or "none"
        raise VsmlBenchError(f"'{reference}' stands for several learners; name one of: {names}.")
    return found[0]


def find_all(
    references: Iterable[str], overrides: Mapping[str, Any] | None = None
) -> dict[str, list[Card]]:
    """Reference -> cards, of these and of the learners that their recipes start from."""
    wanted = list(references)
    known = None if all(map(is_place, wanted)) else shipped()
    found = {reference: find(reference, overrides, known) for reference in wanted}
    return with_beginners(found, lambda name: find(name, None, known))


def with_beginners(
    found: Mapping[str, list[Card]], find_more: Callable[[str], list[Card]]
) -> dict[str, list[Card]]:
    """Also the learners that recipes start from, those that theirs start from, and so on; find_more
    finds the cards of a name."""
    whole = dict(found)
    waiting = [card for cards in found.values() for card in cards]
    while waiting:
        recipe = waiting.pop(0).recipe
        if recipe is not None and recipe.starts_from and recipe.starts_from not in whole:
            whole[recipe.starts_from] = find_more(recipe.starts_from)
            waiting += whole[recipe.starts_from]
    return whole


def _read(reference: str, overrides: Mapping[str, Any]) -> list[Card]:
    """From the cache where nothing has changed, else from a child process."""
    file, _ = paths.parts(reference)
    groups = (ENTRY_POINTS, STUDIES)
    brought = [p for group in groups for p in points(group)]
    depends = [
        *(reference, os.path.abspath(file) if file else "", as_plain(dict(overrides))),
        *(sys.prefix, os.environ.get("PYTHONPATH", ""), platform.python_version(), own_code()),
        [*filter(None, sys.path)] if reference else [],
        sorted(f"{p.value} {p.dist.version if p.dist else ''}" for p in brought),
    ]
    place = paths.cache() / "cards" / f"{sha256_hex(canonical_json(depends))}.json"
    answer = _stored(place)
    if answer is None:
        answer = _ask(reference, overrides)
        warnings = answer.pop("warnings")
        for text in warnings:
            warn(text)
        needed = {package for card in answer["cards"] for package in card["requires"]}
        answer["lacking"] = sorted(p for p in needed if importlib.util.find_spec(p) is None)
        if not warnings:  # what was wrong may be mended where nobody looks
            with contextlib.suppress(VsmlBenchError):  # a cache that cannot be written is none
                sweep(place.parent)
                write_atomically(place, seal(answer))
    return [build(Card, card, f"card of {reference or 'a learner'}") for card in answer["cards"]]


@lru_cache(maxsize=1)
def own_code() -> str:
    """SHA-256 of vsml-bench itself, on which every card depends."""
    digest = hashlib.sha256()
    for folder in (paths.PACKAGE, paths.baselines()):
        for file in sorted(folder.rglob("*.py")):  # file_hash: of a link to nothing it is ""
            digest.update(f"{file.relative_to(folder)}\0{file_hash(file)}".encode())
    return digest.hexdigest()


def _stored(place: Path) -> dict[str, Any] | None:
    """The answer kept there, where all that it was read from is as it was."""
    try:
        answer = unseal(place.read_bytes(), place.name)
    except (OSError, VsmlBenchError):
        return None
    same = (
        answer.keys() == {"cards", "files", "folders", "lacking"}
        and all(importlib.util.find_spec(package) is None for package in answer["lacking"])
        and all(file_hash(file) == digest for file, digest in answer["files"].items())
        and all(neighbours(folder) == names for folder, names in answer["folders"].items())
        and all(_is_installed(card["package"]) for card in answer["cards"])
    )
    return answer if same else None


def _is_installed(package: str) -> bool:
    """Whether the package is here in this version; `package` is a card's."""
    name, _, version = package.rpartition(" ")
    try:
        return not package or importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def neighbours(folder: Path | str) -> list[str]:
    """The Python files in a folder and in those right below it: a new one may be what an import
    that is guarded by `try` now finds."""
    found = (path for form in ("*.py", "*/*.py") for path in Path(folder).glob(form))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _ask(reference: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What `card_reader` says in a process of its own."""
    what = f"learner '{reference}'" if reference else "the learners"
    # This process's path, without the working folder, which "-c" puts first: whatever lies there
    # is no part of PyTorch.
    program = (
        f"import sys; sys.path[:] = {[*filter(None, sys.path)]!r}; "
        "from vsml_bench.orphans import end_with_parent; "
        f"end_with_parent({int(signal.SIGKILL)}, {os.getpid()}); "
        "from vsml_bench.card_reader import write_cards; write_cards()"
    )
    with temporary_folder() as folder:
        answer = folder / "answer.json"
        request = json.dumps({"reference": reference, "overrides": overrides, "to": str(answer)})
        said = folder / "said"  # no pipe, which a child of the learner's would keep open
        try:
            with said.open("wb") as errors:
                done = subprocess.run(
                    [sys.executable, "-c", program, request],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    timeout=SECONDS,
                    check=False,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},  # tiny tensors need no more
                )
        except subprocess.TimeoutExpired as error:
            raise VsmlBenchError(
                f"{what}: two steps on made-up data took more than {SECONDS:g} s; does a loop "
                "never end?"
            ) from error
        if not answer.is_file():
            text = said.read_text(encoding="utf-8", errors="replace")
            lines = text.strip().splitlines() or ["no message"]
            raise VsmlBenchError(
                f"{what}: its process ended with exit code {done.returncode} before it was read "
                f"({lines[-1][:200]})."
            )
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise VsmlBenchError(found["error"])
    return found
