"""Lake's 20-way one-shot classification task: twenty fixed episodes of Omniglot.

The authors' folder `all_runs` holds `run01` to `run20`. Each run has one drawing of each of twenty
characters in `training/`, another in `test/`, and a `class_labels.txt` whose lines name a test
image and the training image of the same character, "run01/test/item01.png
run01/training/class06.png". Source: Lake, Salakhutdinov & Tenenbaum 2015, Science 350, 1332-1338.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml_bench.data.omniglot import BY_HAND, FOLDERS, SIDE, locate, read_drawing
from vsml_bench.data.source import Examples, Found, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

FOLDER = "all_runs"
LABELS = "class_labels.txt"


@dataclass(frozen=True)
class OmniglotRuns(Source):
    """The runs in the order of their names, as a test partition; there is no train partition."""

    name: str = "omniglot_runs"

    def find(self, root: Path) -> Found:
        """Counts lines of labels: each stands for a training and a test image."""
        try:
            count = 2 * sum(len(_pairs(run)) for run in self._runs(root))
        except VsmlBenchError as error:
            return Found("data root", str(error), None, None)
        return Found("data root", "", None, count)

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 1, 105, 105]; a class is a character of a run, a group is a run, and its
        support are the training images."""
        if partition == "train":
            raise UnavailableError(
                f"dataset '{self.name}' has no train partition: its fixed episodes are for "
                "meta-testing."
            )
        images, groups = [], []
        for run in self._runs(root):
            for test, training in _pairs(run):
                groups.append(run.name)
                for file in (training, test):
                    try:
                        images.append(read_drawing(file))
                    except (OSError, ValueError) as error:
                        expected = f"a PNG image of {SIDE}x{SIDE} pixels"
                        raise _broken(f"{run.name}/{file.parent.name}/{file.name}", expected) from (
                            error
                        )
        return Examples(
            np.stack(images)[:, None],
            np.repeat(np.arange(len(groups)), 2),
            len(groups),
            tuple(groups),
            np.arange(len(images)) % 2 == 0,
        )

    def _runs(self, root: Path) -> list[Path]:
        folder = locate(root, FOLDER)
        if folder is None:
            raise UnavailableError(
                f"dataset '{self.name}' is not here: no {FOLDERS[0]}/{FOLDER} in the data root; "
                f"{BY_HAND}, where it is zipped."
            )
        runs = sorted(path.parent for path in folder.glob(f"*/{LABELS}"))
        if not runs:
            raise _broken("", f"folders with a {LABELS}")
        return runs


def _pairs(run: Path) -> list[tuple[Path, Path]]:
    """(test image, training image) of each character, in the order of the training images."""
    try:
        lines = (run / LABELS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(f"{run.name}/{LABELS}", "a text file") from error
    pairs = []
    for line in filter(None, map(str.strip, lines)):
        names = line.split()
        if len(names) != 2:
            raise _broken(f"{run.name}/{LABELS}", "a test and a training image on each line")
        pairs.append((run.parent / names[0], run.parent / names[1]))
    trainings = {training for _, training in pairs}
    if len(trainings) != len(pairs) or not pairs:
        raise _broken(f"{run.name}/{LABELS}", "one test image for each training image")
    return sorted(pairs, key=lambda pair: pair[1])


def _broken(what: str, expected: str) -> VsmlBenchError:
    place = "/".join(filter(None, (FOLDER, what)))
    return VsmlBenchError(
        f"{place} is broken: expected {expected}; delete the folder {FOLDER}, then {BY_HAND}."
    )
