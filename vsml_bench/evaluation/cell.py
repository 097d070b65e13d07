"""The record of one cell, the unit that is run, stored, resumed and verified.

A cell is one (suite, split, learner, meta-train seed). Its file is JSON that carries a SHA-256 of
itself and keeps the raw outcome of every step, not only means. It names no host, user or absolute
path, so that it can be published as it is.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.config import as_plain, build
from vsml_bench.errors import VsmlBenchError, check_name, check_path_name
from vsml_bench.evaluation.outcomes import (
    Outcomes,
    decode_outcomes,
    encode_outcomes,
    outcomes_hash,
)
from vsml_bench.evaluation.plan import Plan
from vsml_bench.identity import agrees
from vsml_bench.provenance import scrub
from vsml_bench.storage import canonical_json, seal, sha256_hex, unseal, write_atomically

Status: TypeAlias = Literal[
    "ok", "cheated", "diverged", "timeout", "crashed", "out_of_memory", "unavailable"
]
"""ok: it has scores. cheated: a lifetime that was run again, alone and without labels to peek at,
gave something else (`audit`). diverged: a loss was NaN or infinite. timeout: killed when its time
was up. unavailable: this machine lacks the data or a package."""

_FORMAT = 2


@dataclass(frozen=True)
class Adoption:
    """A record filed under another identity than it was made under, since it replays."""

    date: str
    """ISO, UTC."""
    git_commit: str
    lifetimes: int
    """That were run again; 0 for a meta-training or a tuning."""
    steps: int
    """Of each lifetime, or meta-updates."""
    largest_difference: float
    """Of a loss, in nats, of a decision's share, or of a meta-loss."""
    device: str
    """That it was replayed on."""
    formerly: str
    """The key that it had, its first 16 digits."""


@dataclass(frozen=True)
class Provenance:
    """Where a cell comes from and what it took."""

    data_hashes: dict[str, str]
    """"meta_train/NAME" or "meta_test/NAME" -> content hash of that partition of the dataset."""
    checkpoint: str | None
    """SHA-256 of the meta-parameters or of the tuning record; None where there is neither."""
    tuned: dict[str, Any]
    """The hyper-parameters that tuning chose."""
    tuning_effort: dict[str, float]
    """"trials" and "seconds"."""
    seeds: dict[str, Any]
    """Stream -> its seed or seeds."""
    git_commit: str
    git_dirty: bool
    versions: dict[str, str]
    device: str
    """The model of the CPU or GPU."""
    threads: int
    seconds: dict[str, float]
    """Wall time of "meta_train", "compile" and "meta_test", apart."""
    peak_memory_bytes: int
    meta_parameters: int
    state_floats: int
    """Size of one lifetime's state."""
    note: str
    """What a reader of the board must know, e.g. "meta-trained on images of 8x8"."""
    created: str
    """ISO date, UTC."""
    precision: str = "float32"
    """What matrix products were computed in."""
    processor: str = "cpu"
    """The kind of device, "cpu" or "cuda"."""
    adopted: tuple[Adoption, ...] = ()

    @property
    def hardware(self) -> str:
        """What scores and times are labelled with: the device, and the precision if reduced."""
        return self._labelled(self.device)

    @property
    def kind(self) -> str:
        """What scores are pooled over: "cpu" for every model of CPU, as these differ in how they
        round alone, or the model of the GPU; and the precision if reduced."""
        return self._labelled("cpu" if self.processor == "cpu" else self.device)

    def _labelled(self, device: str) -> str:
        return device if self.precision == "float32" else f"{device}, {self.precision}"

    @property
    def manner(self) -> str:
        """What its file's name ends with, see `cell_path`."""
        return manner(self.processor, self.precision)


@dataclass(frozen=True)
class Cell:
    """One cell: what was planned, what came out or why nothing did, and how."""

    plan: Plan
    status: Status
    reason: str
    """The tail of the error; "" where the status is ok."""
    outcomes: Outcomes | None
    """None for every status but ok: a cell that failed has no number."""
    provenance: Provenance
    identity: dict[str, Any] = field(default_factory=dict)
    """`plan.identity()` as it was when the cell was run; {} takes today's."""

    def __post_init__(self) -> None:
        if not self.identity:
            object.__setattr__(self, "identity", self.plan.identity())
        if (self.status == "ok") != (self.outcomes is not None):
            has = "no outcomes" if self.outcomes is None else "outcomes"
            raise VsmlBenchError(
                f"cell {self.plan}: status '{self.status}' with {has}; a cell has outcomes exactly "
                "if its status is 'ok'."
            )
        if bool(self.reason.strip()) == (self.status == "ok"):
            raise VsmlBenchError(
                f"cell {self.plan}: status '{self.status}' with the reason {self.reason!r}; a cell "
                "has a reason exactly if its status is not 'ok'."
            )

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return sha256_hex(canonical_json(self.identity))

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """[lifetimes, steps], of a cell that is ok."""
        assert self.outcomes is not None
        return self.outcomes.correct


@dataclass(frozen=True)
class Problem:
    """A file that should hold a cell and does not."""

    file: str
    reason: str
    """One sentence: what is wrong and what to do."""


def data_hashes(cell: Cell, side: str) -> dict[str, str]:
    """Content hashes of the data of a cell's "meta_train" or "meta_test" side."""
    found = cell.provenance.data_hashes.items()
    return {name: content for name, content in found if name.startswith(f"{side}/")}


def manner(processor: str, precision: str) -> str:
    """How a cell is run: kind of device and precision, with what is usual left out, so "", "cuda",
    "bfloat16" or "cuda-bfloat16"."""
    unusual = {processor: processor != "cpu", precision: precision != "float32"}
    return "-".join(name for name, said in unusual.items() if said)


def cell_path(folder: Path, plan: Plan, key: str, how: str = "") -> Path:
    """Where the cell with this key is kept: a file name that people can read.

    how: its `manner`; the same cell run in two manners is two files.
    """
    names = (re.sub(r"[^\w.+=@-]", "_", name) for name in (plan.split.name, plan.learner))
    suffix = f"--{how}" if how else ""
    return folder / f"{'--'.join(names)}--seed{plan.job.seed}--{key[:8]}{suffix}.json"


def path_of(folder: Path, cell: Cell) -> Path:
    """Where this cell is kept."""
    return cell_path(folder, cell.plan, cell.key, cell.provenance.manner)


def save_cell(folder: Path, cell: Cell) -> Path:
    """Writes the cell atomically and returns its path; VsmlBenchError where that is impossible."""
    path = path_of(folder, cell)
    write_atomically(path, seal(_document(cell)))
    return path


def load_cell(path: Path) -> Cell:
    """Reads and verifies one cell.

    Raises VsmlBenchError where the file is missing, torn, tampered with or another cell's.
    """
    where = f"cell {path.name}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VsmlBenchError(f"cannot read {where}: {error.strerror}.") from error
    document = unseal(data, where)
    if document.pop("format", None) != _FORMAT:
        raise VsmlBenchError(f"{where} is a record of another version; delete it and run it again.")
    if document.get("outcomes") is not None:
        document["outcomes"] = decode_outcomes(document["outcomes"], where)
    cell = build(Cell, document, where)
    check_name(cell.plan.suite, where)
    check_name(cell.plan.learner, where)
    check_path_name(cell.plan.split.name, where)
    for side in (cell.plan.split.meta_train, cell.plan.split.meta_test):
        side.check()
    own = path_of(path.parent, cell).name
    if {name: part for name, part in document.items() if name != "outcomes"} != _facts(cell):
        raise VsmlBenchError(
            f"{where} lacks fields, or has values that no run writes; delete it and run it again."
        )
    if own != path.name:
        raise VsmlBenchError(f"{where} holds the record of {own}; rename or delete it.")
    seeds = cell.provenance.seeds.get("meta_test", [])
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise VsmlBenchError(f"{where} names no list of seeds; delete it and run it again.")
    if not agrees(cell.identity, as_plain(cell.plan.identity(as_plain))):
        raise VsmlBenchError(
            f"{where} has the identity of another cell than it says was run; delete it and run it "
            "again."
        )
    return cell


def load_cells(folder: Path) -> tuple[list[Cell], list[Problem]]:
    """All cells in a folder, in the order of their file names, and what could not be read.

    A damaged file becomes a Problem: it never ends the loading and is never deleted.
    """
    cells, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            cells.append(load_cell(path))
        except VsmlBenchError as error:
            problems.append(Problem(path.name, str(error)))
    return cells, problems


def content_hash(cell: Cell) -> str:
    """SHA-256 of everything that the cell's file would say, independent of how that is
    compressed."""
    numbers = None if cell.outcomes is None else outcomes_hash(cell.outcomes)
    return sha256_hex(canonical_json([_facts(_scrubbed(cell)), numbers]))


def _document(cell: Cell) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        **_facts(_scrubbed(cell)),
        "outcomes": None if cell.outcomes is None else encode_outcomes(cell.outcomes),
    }


def _scrubbed(cell: Cell) -> Cell:
    provenance = dataclasses.replace(cell.provenance, note=scrub(cell.provenance.note))
    return dataclasses.replace(cell, reason=scrub(cell.reason), provenance=provenance)


def _facts(cell: Cell) -> dict[str, Any]:
    """All that its file says but for the outcomes."""
    return {
        "plan": as_plain(cell.plan.published()),
        "identity": cell.identity,
        "status": cell.status,
        "reason": cell.reason,
        "provenance": as_plain(cell.provenance),
    }
