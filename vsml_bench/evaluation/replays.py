"""Which stored cells came out the same when somebody ran lifetimes of them again, and by what code:
a sealed file beside the folder of cells, since a cell itself stays as it was written."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vsml_bench.config import as_plain, build
from vsml_bench.evaluation.cell import Cell, content_hash, load_cell, path_of
from vsml_bench.provenance import git_state
from vsml_bench.storage import seal, unseal, write_atomically

FILE = "replays.json"


@dataclass(frozen=True)
class Replayed:
    """A cell that gave the same again."""

    cell: str
    """SHA-256 of everything that its file says."""
    date: str
    """ISO, UTC."""
    git_commit: str
    git_dirty: bool
    lifetimes: int
    """That were run again."""
    steps: int
    """Of each, its first ones."""

    def said(self) -> str:
        """As a badge."""
        return replayed_on(self.date, self.git_commit, self.git_dirty)


def replayed_on(date: str, commit: str, dirty: bool = False) -> str:
    """The badge of what was run again."""
    changed = " with local changes" if dirty else ""
    return f"replayed on {date}, {commit[:10] or 'no commit'}{changed}"


def read(folder: Path) -> dict[str, Replayed]:
    """What is known of the cells in `folder`/cells, by the names of their files; {} where nothing
    is. Raises VsmlBenchError where the file is damaged."""
    path = folder / FILE
    if not path.is_file():
        return {}
    document = unseal(path.read_bytes(), path.name)
    return {
        name: build(Replayed, found, f"{path.name}, {name}")
        for name, found in document.items()
        if isinstance(found, dict)
    }


def of(cell: Cell, known: Mapping[str, Replayed]) -> Replayed | None:
    """What is known of just this cell, and of no other under its name."""
    found = known.get(path_of(Path(), cell).name)
    return found if found is not None and found.cell == content_hash(cell) else None


def note(
    folder: Path, same: Mapping[str, tuple[int, int | None]], other: Collection[str] = ()
) -> None:
    """Keeps that cells of `folder` were run again, today and by this code.

    same: name of a file in `folder`/cells that came out the same -> lifetimes, and steps of each,
    None for all.
    other: names of those that did not, of which nothing is known any more.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    commit, dirty = git_state()
    known = read(folder)
    for name, (lifetimes, steps) in same.items():
        cell = load_cell(folder / "cells" / name)
        steps = cell.correct.shape[1] if steps is None else steps
        known[name] = Replayed(content_hash(cell), today, commit, dirty, lifetimes, steps)
    _write(folder, {name: found for name, found in known.items() if name not in other})


def merge(folders: Collection[Path], out: Path) -> None:
    """Brings into `out` what is known of those cells that it has; of several the newest."""
    known: dict[str, Replayed] = {}
    for folder in (*folders, out):
        for name, found in read(folder).items():
            path = out / "cells" / name
            if not path.is_file() or content_hash(load_cell(path)) != found.cell:
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
