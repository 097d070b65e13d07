"""Are stored results what was written, and do they fit one another?

A seal shows that a file is whole. Here, what a file says is held against what follows from it: a
board's means from its cells, a cell's decisions from its losses, a tuning's choice from its trials.
Whoever writes all of it anew, consistently, is found by replay alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation import replays
from vsml_bench.evaluation.cell import Cell, load_cell
from vsml_bench.meta_training.checkpoint import Checkpoint, load_artifact

ROUNDING = 2e-3
"""Of a loss that is kept as float16, relative to 1 + itself."""
MEAN_ROUNDING = 1e-6
"""Of a mean on a board."""


def stored(folder: Path) -> list[tuple[str, Path]]:
    """Every cell, checkpoint and tuning record below `folder`: its kind, "cell" or "artifact", and
    its path. VsmlBenchError where it is no folder."""
    if not folder.is_dir():
        raise VsmlBenchError(f"{folder} is not a folder; name one that holds results.")
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith("."):
            continue
        if path.parent.name == "checkpoints" and path.suffix in (".safetensors", ".json"):
            found.append(("artifact", path))
        elif path.parent.name == "cells" and path.suffix == ".json":
            found.append(("cell", path))
    return found


def damaged(folder: Path) -> tuple[int, dict[str, str]]:
    """How many records are what was written and fit the others, and what is wrong with the rest, by
    their paths. Boards and notes of replays count where their cells are beside them."""
    cells: dict[Path, Cell] = {}
    artifacts: dict[Path, Checkpoint] = {}
    bad: dict[Path, str] = {}
    torn = False
    records = stored(folder)
    for kind, path in records:
        try:
            if kind == "cell":
                cells[path] = load_cell(path)
            else:
                artifacts[path] = load_artifact(path)
        except VsmlBenchError as error:
            bad[path] = str(error)
            torn |= kind == "artifact"
    bad |= misfits(cells, artifacts, torn)
    noted = sorted(folder.rglob(replays.FILE))
    for path in noted:
        try:
            replays.read(path.parent)
        except VsmlBenchError as error:
            bad[path] = str(error)
    with_cells = {path.parent for path in cells}
    found = sorted(folder.rglob("board.json"))
    boards = [path for path in found if path.parent / "cells" in with_cells]
    for path in boards:
        if reason := _miscounted(path, cells.values()):
            bad[path] = reason
    named = {path.relative_to(folder).as_posix(): reason for path, reason in bad.items()}
    return len(records) + len(boards) + len(noted) - len(bad), named


def misfits(
    cells: Mapping[Path, Cell], artifacts: Mapping[Path, Checkpoint], torn: bool = False
) -> dict[Path, str]:
    """What of intact records does not follow from the rest of them.

    torn: whether there are artifacts besides that cannot be read, so that cells of these miss none.
    """
    bad = {path: reason for path, found in artifacts.items() if (reason := _chosen_wrongly(found))}
    seeds = _Seeds(artifacts.values())
    for path, cell in cells.items():
        if reason := _misfit(cell, seeds, torn):
            bad[path] = reason
    return bad


class _Seeds:
    """Which meta-train seed the checkpoint or tuning record with a SHA-256 has."""

    def __init__(self, artifacts: Iterable[Checkpoint]) -> None:
        self._known: dict[str, Any] = {}  # by the beginning of the SHA-256
        published = paths.results()
        of_suites = sorted(published.glob("*/checkpoints"))
        self._elsewhere = [published / "checkpoints", *of_suites, paths.made()]
        for artifact in artifacts:
            self._add(artifact)

    def _add(self, artifact: Checkpoint) -> None:
        seed = artifact.document["identity"]["seed"]
        self._known[artifact.sha256[:16]] = seed
        for line in artifact.document.get("adopted", ()):
            self._known[line["formerly"]] = seed

    def of(self, sha256: str) -> Any:
        """None where it is nowhere. Checkpoints elsewhere are not checked, but cells may be of
        them."""
        while sha256[:16] not in self._known and self._elsewhere:
            folder = self._elsewhere.pop(0)
            for _, path in stored(folder) if folder.is_dir() else ():
                with suppress(VsmlBenchError):  # somebody else's fault
                    self._add(load_artifact(path))
        return self._known.get(sha256[:16])


def _misfit(cell: Cell, seeds: _Seeds, torn: bool) -> str:
    """What of a cell does not follow from the rest; "" where all does."""
    if cell.outcomes is None:
        return ""
    sha256, made = cell.provenance.checkpoint, cell.plan.job.makes_artifact
    if sha256 is None or not made:
        if sha256 is None and not made:
            return _impossible(cell)
        said, is_made = ("none" if sha256 is None else "one"), ("is" if made else "is not")
        return f"it names {said} for a checkpoint, and its learner {is_made} made ready by any."
    seed = seeds.of(sha256)
    if seed is None:
        return (
            "" if torn else f"its checkpoint or tuning record (SHA-256 {sha256[:16]}) is not here."
        )
    if seed != cell.plan.job.seed:
        return "its checkpoint or tuning record is that of another seed."
    return _impossible(cell)


def _impossible(cell: Cell) -> str:
    """Which numbers cannot be together."""
    assert cell.outcomes is not None
    correct, loss = cell.outcomes.correct, cell.outcomes.loss.astype(np.float64)
    lifetimes, steps = correct.shape
    if len(cell.provenance.seeds.get("meta_test", ())) != lifetimes:
        return "it does not name one seed for each of its lifetimes."
    if lifetimes > cell.plan.lifetimes or steps > cell.plan.protocol.predictions:
        return "it has more lifetimes or predictions than were planned."
    # What is not the likeliest has at most half of the probability, and the likeliest has one share
    # of them at least. A learner of a fixed shape may have more outputs than there are classes.
    off = ROUNDING * (1 + loss)
    if (~correct & (loss < math.log(2) - off)).any():
        return "a prediction counts as wrong whose loss says that it is right."
    classes, fixed = cell.plan.split.meta_test.classes, cell.plan.job.learner.fixed_shape
    outputs = classes if fixed is None else fixed.classes
    if classes and outputs and (correct & (loss > math.log(outputs) + off)).any():
        return "a prediction counts as right whose loss says that it is wrong."
    return ""


def _chosen_wrongly(artifact: Checkpoint) -> str:
    """Whether what tuning chose is not the best of what it tried."""
    trials = artifact.document.get("trials")
    if trials is None:
        return ""
    scores = [(math.isfinite(float(t["loss"])), t["accuracy"]) for t in trials]
    best = trials[scores.index(max(scores))]["values"]
    return "" if best == artifact.document["best"] else "the best of its trials is another one."


def _miscounted(path: Path, cells: Iterable[Cell]) -> str:
    """Which mean of a board is not that of the cells that it names; "" where all are. Cells that
    are not here, since the published ones stand beside one's own, are not looked at."""
    means: dict[str, list[tuple[str, float]]] = {}
    for cell in cells:
        if cell.outcomes is not None:
            means.setdefault(cell.key, []).append(
                (cell.provenance.hardware, float(cell.correct.mean()))
            )
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        for row in rows:
            own = [_of(means.get(key, []), row.get("device", "")) for key in row["keys"]]
            if row["status"] != "ok" or row["mean"] is None or not all(own):
                continue
            low, high = (sum(map(end, own)) / len(own) for end in (min, max))
            if not low - MEAN_ROUNDING <= row["mean"] <= high + MEAN_ROUNDING:
                return (
                    f"{path.name}: the mean of '{row['learner']}' on '{row['split']}' is not that "
                    "of its cells; write the board again."
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path.name} is no board ({type(error).__name__}); write it again."
    return ""


def _of(found: list[tuple[str, float]], device: str) -> list[float]:
    """The means of the cells of that device, or of all where none is."""
    return [mean for on, mean in found if on == device] or [mean for _, mean in found]
