"""What learners say of themselves, as plain data, so that planning, listing, pricing and boards
need neither their code nor PyTorch.

A card is read from the learner's file in a child process (`registry.write_cards`), which imports
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
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsml_bench import paths
from vsml_bench.config import as_plain, build
from vsml_bench.errors import VsmlBenchError, closest
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


def missing_package(requires: Mapping[str, str], who: str) -> str:
    """Which of the packages is not installed, and how to install it; "" where all are."""
    for package, remedy in requires.items():
        if importlib.util.find_spec(package) is None:
            return f"{who} needs the package {package}, which is not installed: {remedy}."
    return ""


def shipped() -> dict[str, Card]:
    """Cards of all learners that are found without being pointed at, by name, in the order found.
    VsmlBenchError where two have the same name."""
    return {card.name: card for card in _read("", {})}


def find(reference: str, overrides: Mapping[str, Any] | None = None) -> list[Card]:
    """The learner of that name or, for `path/to/file.py`, `path/to/file.py:ClassName`,
    `package.module` or `package.module:ClassName`, all variants that the file or class defines; a
    further `:NAME` picks one.

    overrides: configuration fields to change. VsmlBenchError where there is no such learner, where
    its code cannot be imported, fails on made-up data, or does not end.
    """
    if is_place(reference):
        return _read(reference, overrides or {})
    known = shipped()
    if reference not in known:
        raise VsmlBenchError(f"unknown learner '{reference}'; {closest(reference, known)}")
    if not overrides:
        return [known[reference]]
    return _read(reference, overrides)


def find_one(reference: str, overrides: Mapping[str, Any] | None = None) -> Card:
    """Like `find` where exactly one is wanted."""
    found = find(reference, overrides)
    if len(found) != 1:
        names = ", ".join(card.reference for card in found) or "none"
        raise VsmlBenchError(f"'{reference}' stands for several learners; name one of: {names}.")
    return found[0]


def find_all(
    references: Iterable[str], overrides: Mapping[str, Any] | None = None
) -> dict[str, list[Card]]:
    """Reference -> cards, of these and of the learners that their recipes start from."""
    found = {reference: find(reference, overrides) for reference in references}
    for cards in list(found.values()):
        for card in cards:
            beginner = card.recipe.starts_from if card.recipe is not None else ""
            if beginner and beginner not in found:
                found[beginner] = find(beginner)
    return found


def is_place(reference: str) -> bool:
    """Whether it says where the learner is, by file or module, instead of naming it."""
    return reference.endswith(".py") or ".py:" in reference or "." in reference.partition(":")[0]


def _read(reference: str, overrides: Mapping[str, Any]) -> list[Card]:
    """From the cache where nothing has changed, else from a child process."""
    file, _ = paths.parts(reference)
    depends = [
        *(reference, os.path.abspath(file) if file else "", as_plain(dict(overrides))),
        *(sys.prefix, os.environ.get("PYTHONPATH", ""), platform.python_version()),
        *(own_code(), _plugins()),
    ]
    place = cache("cards") / f"{sha256_hex(canonical_json(depends))}.json"
    answer = _stored(place)
    if answer is None:
        answer = _ask(reference, overrides)
        needed = {package for card in answer["cards"] for package in card["requires"]}
        answer["lacking"] = sorted(p for p in needed if importlib.util.find_spec(p) is None)
        with contextlib.suppress(VsmlBenchError):  # a cache that cannot be written is none
            write_atomically(place, seal(answer))
    return [build(Card, card, f"card of {reference or 'a learner'}") for card in answer["cards"]]


@lru_cache(maxsize=1)
def own_code() -> str:
    """SHA-256 of vsml-bench itself, on which every card depends."""
    digest = hashlib.sha256()
    for folder in (paths.PACKAGE, paths.baselines()):
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _plugins() -> list[str]:
    """What is installed that may bring learners, with its versions."""
    groups = (ENTRY_POINTS, STUDIES)
    points = [p for group in groups for p in importlib.metadata.entry_points(group=group)]
    return sorted(f"{p.value} {p.dist.version if p.dist else ''}" for p in points)


def cache(kind: str) -> Path:
    """The user's cache folder for what is known of learners."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vsml-bench" / kind


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
    """What `registry.write_cards` says in a process of its own."""
    what = f"learner '{reference}'" if reference else "the learners"
    program = "from vsml_bench.registry import write_cards; write_cards()"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        request = json.dumps({"reference": reference, "overrides": overrides, "to": str(answer)})
        said = Path(folder) / "said"  # no pipe, which a child of the learner's would keep open
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
