"""Which stored records came out the same when somebody ran parts of them again, and by what code: a
sealed file beside the folders of cells and checkpoints, since a record stays as it was written."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench.config import as_plain, build
from vsml_bench.evaluation.cell import Cell, content_hash, load_cell, path_of
from vsml_bench.provenance import git_state
from vsml_bench.storage import seal, unseal, write_atomically

if TYPE_CHECKING:
    from vsml_bench.meta_training.checkpoint import Checkpoint

FILE = "replays.json"


@dataclass(frozen=True)
class Replayed:
    """A cell, checkpoint or tuning record that gave the same again."""

    content: str
    """SHA-256 of everything that its file says."""
    date: str
    """ISO, UTC."""
    git_commit: str
    git_dirty: bool
    lifetimes: int
    """Of a cell, that were run again."""
    steps: int
    """Of each, its first ones; of a meta-training, its first meta-updates."""

    def said(self) -> str:
        """As a badge."""
        return replayed_on(self.date, self.git_commit, self.git_dirty)


def replayed_on(date: str, commit: str, dirty: bool = False) -> str:
    """The badge of what was run again."""
    changed = " with local changes" if dirty else ""
    return f"replayed on {date}, {commit[:10] or 'no commit'}{changed}"


def name_of(path: Path) -> str:
    """What a record is called here: the file `path` below the folder that the notes lie in."""
    return f"{path.parent.name}/{path.name}"


def read(folder: Path) -> dict[str, Replayed]:
    """What is known of the records in `folder`/cells and `folder`/checkpoints, by their names; {}
    where nothing is. Raises VsmlBenchError where the file is damaged."""
    path = folder / FILE
    if not path.is_file():
        return {}
    document = unseal(path.read_bytes(), path.name)
    return {
        name: build(Replayed, found, f"{path.name}, {name}")
        for name, found in document.items()
        if isinstance(found, dict) and name == name_of(Path(name))
    }


def of(cell: Cell, known: Mapping[str, Replayed]) -> Replayed | None:
    """What is known of just this cell, and of no other under its name."""
    found = known.get(name_of(path_of(Path("cells"), cell)))
    return found if found is not None and found.content == content_hash(cell) else None


def by_this_code(folder: Path, lifetimes: int, steps: int | None) -> set[str]:
    """Names of the records of `folder` of which this very commit has run that much again: so many
    `lifetimes` of a cell, and so many `steps` of each, None for all. Empty where the working tree
    has changes, of which a commit says nothing. Nor does it of a learner's own files, so that what
    is of these is never among them."""
    commit, dirty = git_state()
    return {
        name
        for name, found in (read(folder) if commit and not dirty else {}).items()
        if (found.git_commit, found.git_dirty) == (commit, False)
        and (folder / name).is_file()
        and _covers(found, folder / name, lifetimes, steps)
    }


def _covers(found: Replayed, path: Path, lifetimes: int, steps: int | None) -> bool:
    if path.parent.name != "cells":
        record = _artifact(path)
        return found.content == record.sha256 and not record.document["job"]["learner"]["files"]
    cell = load_cell(path)
    if found.content != content_hash(cell) or cell.plan.job.learner.files:
        return False
    count, length = cell.correct.shape
    wanted = length if steps is None else min(steps, length)
    return bool(found.lifetimes >= min(lifetimes, count) and found.steps >= wanted)


def note(
    folder: Path, same: Mapping[str, tuple[int, int | None]], other: Collection[str] = ()
) -> None:
    """Keeps that records of `folder` were run again, today and by this code.

    same: name of a record that came out the same -> lifetimes, and steps of each, None for all of a
    cell's.
    other: names of those that did not, of which nothing is known any more.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    commit, dirty = git_state()
    known = read(folder)
    for name, (lifetimes, steps) in same.items():
        path = folder / name
        steps = load_cell(path).correct.shape[1] if steps is None else steps
        known[name] = Replayed(_content(path), today, commit, dirty, lifetimes, steps)
    _write(folder, {name: found for name, found in known.items() if name not in other})


def _content(path: Path) -> str:
    """SHA-256 of everything that a record says."""
    return content_hash(load_cell(path)) if path.parent.name == "cells" else _artifact(path).sha256


def _artifact(path: Path) -> Checkpoint:
    from vsml_bench.meta_training.checkpoint import load_artifact  # boards need no PyTorch

    return load_artifact(path)


def merge(folders: Collection[Path], out: Path) -> None:
    """Brings into `out` what is known of those records that it has; of several the newest."""
    known: dict[str, Replayed] = {}
    for folder in (*folders, out):
        for name, found in read(folder).items():
            path = out / name
            if not path.is_file() or _content(path) != found.content:
                continue
            if name not in known or _order(known[name]) < _order(found):
                known[name] = found
    if known != read(out):
        _write(out, known)


def _order(found: Replayed) -> tuple[str, int, int, str]:
    return found.date, found.lifetimes, found.steps, found.git_commit


def _write(folder: Path, known: Mapping[str, Replayed]) -> None:
    if known or (folder / FILE).is_file():
        write_atomically(folder / FILE, seal(as_plain(dict(sorted(known.items())))))
