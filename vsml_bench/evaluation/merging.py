"""Results of several machines, or of shards of one run, in one folder.

A record is known by its file's name, which has its key and the manner it was run in. Of records
with one name the same outcome is kept once. Another outcome, beyond what rounding explains (see
`replay`), is a conflict, which nobody but a person can decide: then nothing is written at all.
What is kept does not depend on the order of the folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import torch

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import Cell, content_hash, load_cell
from vsml_bench.evaluation.integrity import misfits
from vsml_bench.evaluation.replay import DECISIONS, compared
from vsml_bench.evaluation.runner import RETRIED
from vsml_bench.meta_training.checkpoint import Checkpoint, load_artifact
from vsml_bench.storage import check_writable, write_atomically

CELLS, CHECKPOINTS = "cells", "checkpoints"
R = TypeVar("R", Cell, Checkpoint)


@dataclass(frozen=True, eq=False)
class _Record(Generic[R]):
    """A file and what it holds."""

    path: Path
    of: R


_Rivals: TypeAlias = "dict[str, list[_Record[R]]]"
"""Records by the name of their file."""


@dataclass
class Merged:
    """What became of a merge."""

    cells: int = 0
    """That the folder has in the end."""
    artifacts: int = 0
    """Checkpoints and tuning records, likewise."""
    written: int = 0
    """Files of these that it did not have."""
    given_way: list[str] = field(default_factory=list)
    """Files with failures that may have been a machine's fault; another has a score or verdict."""
    problems: dict[str, str] = field(default_factory=dict)
    """File -> why it cannot be merged. Nothing is written where there is one."""


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Brings the cells, checkpoints and tuning records of `folders` into `out`, which may have some
    already. What is there stays as it is.

    VsmlBenchError for a folder without any, and where `out` cannot be written.
    """
    for folder in folders:
        if not any((folder / part).is_dir() for part in (CELLS, CHECKPOINTS)):
            raise VsmlBenchError(
                f"{folder} has neither {CELLS}/ nor {CHECKPOINTS}/; name a folder that `run --out` "
                "has written."
            )
    merged = Merged()
    places = list({folder.resolve(): folder for folder in (out, *folders)}.values())
    cells = _read(places, CELLS, load_cell, merged.problems)
    artifacts = _read(places, CHECKPOINTS, load_artifact, merged.problems)
    kept: dict[Path, _Record[Cell] | _Record[Checkpoint]] = {}  # where to -> what
    for name, of_cell in sorted(cells.items()):
        if cell := _one_cell(of_cell, out, merged):
            kept[out / CELLS / name] = cell
    named = {record.of.provenance.checkpoint for of in cells.values() for record in of}
    for name, of_artifact in sorted(artifacts.items()):
        for index, artifact in enumerate(_artifacts(of_artifact, out, merged)):
            if index == 0:
                kept[out / CHECKPOINTS / name] = artifact
            elif artifact.of.sha256 in named:
                kept[out / CHECKPOINTS / _besides(name, artifact.of)] = artifact
    if not merged.problems:
        whole = {record.path: record.of for record in kept.values()}
        found = misfits(
            {path: of for path, of in whole.items() if isinstance(of, Cell)},
            {path: of for path, of in whole.items() if isinstance(of, Checkpoint)},
        )
        merged.problems |= {str(path): reason for path, reason in found.items()}
    if not merged.problems:
        _write(kept, out, merged)
    return merged


def _read(
    places: Iterable[Path], part: str, load: Callable[[Path], R], problems: dict[str, str]
) -> _Rivals[R]:
    """All records in these folders; unfinished meta-trainings are none."""
    found: _Rivals[R] = {}
    for folder in places:
        for path in sorted((folder / part).glob("*")):
            if path.name.startswith(".") or ".partial." in path.name:
                continue
            if path.suffix not in (".json", *([".safetensors"] if part == CHECKPOINTS else [])):
                continue
            try:
                record = _Record(path, load(path))
            except VsmlBenchError as error:
                problems[str(path)] = str(error)
                continue
            found.setdefault(path.name, []).append(record)
    return found


def _one_cell(rivals: Sequence[_Record[Cell]], out: Path, merged: Merged) -> _Record[Cell] | None:
    """The record that stays; None where there is a conflict."""
    certain = [rival for rival in rivals if rival.of.status not in RETRIED] or list(rivals)
    order = sorted(certain, key=lambda r: (r.of.provenance.created, content_hash(r.of)))
    for first, second in combinations(order, 2):
        if reason := _difference(first.of, second.of):
            merged.problems[str(second.path)] = _conflict(first.path, reason)
            return None
    own = [rival for rival in rivals if rival.path.parent.parent == out]
    lost = [rival for rival in rivals if rival not in certain]
    if own and own[0] in lost:
        merged.problems[str(own[0].path)] = (
            f"it is {own[0].of.status}, and {order[-1].path} is {order[-1].of.status}; delete it, "
            "since nothing is overwritten."
        )
        return None
    merged.given_way += [str(rival.path) for rival in lost]
    return own[0] if own else order[-1]


def _conflict(other: Path, reason: str) -> str:
    return f"conflict with {other}: {reason}; keep one of them, or find out which is right."


def _difference(one: Cell, other: Cell) -> str:
    """What is not the same of two records of a cell, beyond rounding; "" where nothing is."""
    if one.key != other.key:
        return "their keys begin alike and differ"
    kinds = sorted({one.provenance.kind, other.provenance.kind})
    if len(kinds) > 1:
        return f"they are of {' and '.join(kinds)}, which need folders of their own"
    if one.status in RETRIED and other.status in RETRIED:
        return ""
    if one.status != other.status:
        return "one is {}, the other {}".format(*sorted((one.status, other.status)))
    if one.outcomes is None or other.outcomes is None or one.outcomes == other.outcomes:
        return ""
    first, second = one.provenance, other.provenance
    devices = " and ".join(sorted({first.hardware, second.hardware}))
    if first.seeds.get("meta_test") != second.seeds.get("meta_test"):
        return "their lifetimes have other seeds"
    if first.data_hashes != second.data_hashes:
        return "their data are others"
    if one.correct.shape != other.correct.shape:
        return "they have other numbers of lifetimes or predictions"
    reason = compared(one.outcomes, other.outcomes).reason
    return f"{reason} (on {devices})" if reason else ""


def _artifacts(
    rivals: Sequence[_Record[Checkpoint]], out: Path, merged: Merged
) -> list[_Record[Checkpoint]]:
    """The record that stays, then others that say the same and are not the same file; none where
    there is a conflict."""
    order = sorted(rivals, key=lambda r: (r.path.parent.parent != out, r.of.sha256))
    distinct: dict[str, _Record[Checkpoint]] = {}
    for rival in order:
        distinct.setdefault(rival.of.sha256, rival)
    for first, second in combinations(distinct.values(), 2):
        if reason := _other_learner(first.of, second.of):
            merged.problems[str(second.path)] = _conflict(first.path, reason)
            return []
    return list(distinct.values())


def _other_learner(one: Checkpoint, other: Checkpoint) -> str:
    """Why two artifacts do not make the same learner; "" where they do."""
    for part, what in (("identity", "another meta-training"), ("data_hashes", "other data")):
        if one.document.get(part) != other.document.get(part):
            return f"it is of {what}"
    if "trials" in one.document:
        if one.document["best"] != other.document["best"]:
            return "tuning chose other values"
        trials = [each.document["trials"] for each in (one, other)]
        if len(trials[0]) != len(trials[1]):
            return "tuning tried other values"
        far = any(
            abs(a["accuracy"] - b["accuracy"]) > DECISIONS for a, b in zip(*trials, strict=True)
        )
        return "accuracies of its trials differ" if far else ""
    same = one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )
    return (
        "" if same else "its meta-parameters are others, so that cells of both do not go together"
    )


def _besides(name: str, artifact: Checkpoint) -> str:
    """A name for a record that cells know by its SHA-256, beside one that says the same."""
    path = Path(name)
    return f"{path.stem}.{artifact.sha256[:8]}{path.suffix}"


def _write(
    kept: Mapping[Path, _Record[Cell] | _Record[Checkpoint]], out: Path, merged: Merged
) -> None:
    """Checkpoints first, so that whatever ends this leaves no cell without its own."""
    for part in (CHECKPOINTS, CELLS):
        here = {path: record for path, record in kept.items() if path.parent.name == part}
        if here:
            check_writable(out / part)
        for path, record in here.items():
            if not path.exists():
                write_atomically(path, record.path.read_bytes())
                merged.written += 1
        if part == CELLS:
            merged.cells = len(here)
        else:
            merged.artifacts = len(here)
    replays.merge(list(dict.fromkeys(r.path.parents[1] for r in kept.values())), out)
