"""The record of one cell, the unit that is run, stored, resumed and verified.

A cell is one (suite, split, learner, meta-train seed). Its file is JSON that carries a SHA-256 of
itself and keeps the raw outcome of every step, not only means. It names no host, user or absolute
path, so that it can be published as it is.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vsml_bench.config import build
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.outcomes import Outcomes, decode_outcomes, encode_outcomes
from vsml_bench.evaluation.privacy import scrub
from vsml_bench.storage import seal, sha256_hex, unseal, write_atomically

__all__ = [
    "Cell",
    "CellId",
    "Outcomes",
    "Problem",
    "Provenance",
    "Status",
    "cell_path",
    "content_hash",
    "load_cell",
    "load_cells",
    "manner",
    "save_cell",
    "scrub",
]

Status: TypeAlias = Literal["ok", "diverged", "timeout", "crashed", "out_of_memory", "unavailable"]
"""ok: it has scores. diverged: a loss was NaN or infinite. timeout: killed when its time was up.
unavailable: this machine lacks the data or a package."""

_FORMAT = 1
_USUAL = {"processor": "cpu", "precision": "float32"}  # of a cell's provenance, and so left out


@dataclass(frozen=True)
class CellId:
    """Which cell it is."""

    suite: str
    split: str
    learner: str
    seed: int
    """The meta-train seed; 0 for a learner without meta-parameters."""

    def __str__(self) -> str:
        return f"{self.learner} on {self.split}, seed {self.seed}"


@dataclass(frozen=True)
class Provenance:
    """Where a cell comes from and what it took."""

    hashes: dict[str, str]
    """What the cell depends on, part by part (split, data, learner, config, ...) -> SHA-256."""
    meta_train_hash: str
    """Of the meta-train side's specification and data: equal between splits that share it."""
    data_hashes: dict[str, str]
    """"meta_train/NAME" or "meta_test/NAME" -> content hash of that partition of the dataset."""
    learner_config: dict[str, Any]
    recipe: dict[str, Any] | None
    """How it was meta-trained; None for a learner without meta-parameters."""
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

    @property
    def hardware(self) -> str:
        """What scores and times are labelled with: the device, and the precision if reduced."""
        return self.device if self.precision == "float32" else f"{self.device}, {self.precision}"

    @property
    def manner(self) -> str:
        """What its file's name ends with, see `cell_path`."""
        return manner(self.processor, self.precision)


@dataclass(frozen=True)
class Cell:
    """One cell's outcome, or why it has none."""

    id: CellId
    status: Status
    reason: str
    """The tail of the error; "" where the status is ok."""
    key: str
    """SHA-256 of everything that the outcome depends on."""
    relation: str
    protocol: str
    lifetimes: int
    steps: int
    outcomes: Outcomes | None
    """None for every status but ok: a cell that failed has no number."""
    provenance: Provenance

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.key):
            raise VsmlBenchError(
                f"cell {self.id}: the key {self.key!r} is not a SHA-256 of 64 hexadecimal digits."
            )
        if (self.status == "ok") != (self.outcomes is not None):
            has = "no outcomes" if self.outcomes is None else "outcomes"
            raise VsmlBenchError(
                f"cell {self.id}: status '{self.status}' with {has}; a cell has outcomes exactly "
                "if its status is 'ok'."
            )
        if bool(self.reason.strip()) == (self.status == "ok"):
            raise VsmlBenchError(
                f"cell {self.id}: status '{self.status}' with the reason {self.reason!r}; a cell "
                "has a reason exactly if its status is not 'ok'."
            )
        expected = (self.lifetimes, self.steps)
        if self.outcomes is not None and self.outcomes.correct.shape != expected:
            raise VsmlBenchError(
                f"cell {self.id}: outcomes of shape {self.outcomes.correct.shape}; expected "
                f"[lifetimes, steps] = {expected}."
            )


@dataclass(frozen=True)
class Problem:
    """A file that should hold a cell and does not."""

    file: str
    reason: str
    """One sentence: what is wrong and what to do."""


def manner(processor: str, precision: str) -> str:
    """How a cell is run: kind of device and precision, with what is usual left out, so "", "cuda",
    "bfloat16" or "cuda-bfloat16"."""
    found = {"processor": processor, "precision": precision}
    return "-".join(value for name, value in found.items() if value != _USUAL[name])


def cell_path(folder: Path, id: CellId, key: str, how: str = "") -> Path:
    """Where the cell with this key is kept: a file name that people can read.

    how: its `manner`; the same cell run in two manners is two files.
    """
    names = (re.sub(r"[^\w.+=@-]", "_", name) for name in (id.split, id.learner))
    suffix = f"--{how}" if how else ""
    return folder / f"{'--'.join(names)}--seed{id.seed}--{key[:8]}{suffix}.json"


def save_cell(folder: Path, cell: Cell) -> Path:
    """Writes the cell atomically and returns its path; VsmlBenchError where that is impossible."""
    path = cell_path(folder, cell.id, cell.key, cell.provenance.manner)
    write_atomically(path, seal(_document(cell)))
    return path


def load_cell(path: Path) -> Cell:
    """Reads and verifies one cell.

    Raises VsmlBenchError where the file is missing, torn, tampered with or another cell's.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VsmlBenchError(f"cannot read cell {path.name}: {error.strerror}.") from error
    document = unseal(data, f"cell {path.name}")
    if document.pop("format", None) != _FORMAT:
        raise VsmlBenchError(
            f"cell {path.name} has a format that this version cannot read; delete it and run it "
            "again."
        )
    if document.get("outcomes") is not None:
        document["outcomes"] = decode_outcomes(document["outcomes"], f"cell {path.name}")
    cell = build(Cell, document, f"cell {path.name}")
    own = cell_path(path.parent, cell.id, cell.key, cell.provenance.manner).name
    if own != path.name:
        raise VsmlBenchError(f"cell {path.name} holds the record of {own}; rename or delete it.")
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
    """SHA-256 of everything that the cell's file would say."""
    return sha256_hex(seal(_document(cell)))


def _document(cell: Cell) -> dict[str, Any]:
    fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
    provenance = dataclasses.asdict(cell.provenance)
    for name, usual in _USUAL.items():
        if provenance[name] == usual:  # records that are older than this field keep their hashes
            del provenance[name]
    return {
        **fields,
        "format": _FORMAT,
        "id": dataclasses.asdict(cell.id),
        "reason": scrub(cell.reason),
        "outcomes": None if cell.outcomes is None else encode_outcomes(cell.outcomes),
        "provenance": {**provenance, "note": scrub(cell.provenance.note)},
    }
