"""Omniglot: its authors' zip archives, read without unpacking them, and their one-shot task.

Images keep their native 105x105 pixels (one byte each, 213 MB for the full background set); a class
is one character, a group of classes is an alphabet. The authors publish their characters twice: in
full, a background set to train on and an evaluation set; and as two small background sets, parts of
the full one, both of which have the alphabets Greek and Latin. Each way is a dataset of its own, so
that a name never means other data on another machine.

Lake's 20-way one-shot classification task is a third: twenty fixed episodes. The authors' folder
`all_runs` holds `run01` to `run20`. Each run has one drawing of each of twenty characters in
`training/`, another in `test/`, and a `class_labels.txt` whose lines name a test image and the
training image of the same character, "run01/test/item01.png run01/training/class06.png". Source:
Lake, Salakhutdinov & Tenenbaum 2015, Science 350, 1332-1338.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from vsml_bench.data.fetch import Torchvision
from vsml_bench.data.source import (
    BROKEN_ZIP,
    Array,
    Download,
    Examples,
    Found,
    FromFiles,
    Source,
)
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

FOLDERS = ("omniglot-py", "omniglot")
"""torchvision's folder, then that of the authors' own repository."""
SIDE = 105
"""Pixels along each side of an image."""
RUNS = "all_runs"
LABELS = "class_labels.txt"
BY_HAND = "copy it from github.com/brendenlake/omniglot, folder `python`"


@dataclass(frozen=True, eq=False)
class Omniglot(FromFiles):
    """Handwritten characters of many alphabets, 20 drawings of each."""

    name: str
    train: str
    """The archive that is the train partition."""
    test: str
    remedy: str
    """How to get them, as the end of a sentence."""
    downloads: tuple[Download, ...] = ()

    def look(self, partition: PartitionName, root: Path) -> tuple[int, str]:
        """Counts from the archives' tables of contents."""
        return len(self._members(partition, root)[1]), "data root"

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 1, 105, 105], ink 0 on white 255, in the order of their names."""
        path, members = self._members(partition, root)
        images = np.empty((len(members), 1, SIDE, SIDE), np.uint8)
        try:
            with zipfile.ZipFile(path) as archive:
                for index, member in enumerate(members):
                    with archive.open(member) as file:
                        images[index, 0] = read_drawing(file)
        except BROKEN_ZIP as error:
            raise self._broken(path, f"a whole archive of PNG images of {SIDE}x{SIDE}") from error
        characters = [PurePosixPath(member).parent for member in members]
        number = {character: i for i, character in enumerate(dict.fromkeys(characters))}
        labels = np.array([number[character] for character in characters], np.int64)
        alphabets = tuple(character.parent.name for character in number)
        return Examples(images, labels, len(number), alphabets)

    def _members(self, partition: PartitionName, root: Path) -> tuple[Path, list[str]]:
        """The archive of a partition and the names of the images in it."""
        name = self.train if partition == "train" else self.test
        path = locate(root, name)
        if path is None:
            raise UnavailableError(
                f"the {partition} partition of dataset '{self.name}' is not here: no {name} in "
                f"{FOLDERS[0]}/ of the data root; {self.remedy}."
            )
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(filter(_is_drawing, archive.namelist()))
        except BROKEN_ZIP as error:
            raise self._broken(path, "a whole zip archive") from error
        if not members:
            raise self._broken(path, "PNG images in it")
        return path, members

    def _broken(self, path: Path, expected: str) -> VsmlBenchError:
        return VsmlBenchError(
            f"{path.parent.name}/{path.name} is broken: expected {expected}; delete it, then "
            f"{self.remedy}."
        )


@dataclass(frozen=True, eq=False)
class OmniglotRuns(Source):
    """The runs in the order of their names, as a test partition; there is no train partition."""

    name: str = "omniglot_runs"

    def find(self, root: Path) -> Found:
        """Counts lines of labels: each stands for a training and a test image."""
        try:
            count = 2 * sum(len(_pairs(run)) for run in self._runs(root))
        except VsmlBenchError as error:
            return Found("data root", str(error))
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
                        where = f"{run.name}/{file.parent.name}/{file.name}"
                        expected = f"a PNG image of {SIDE}x{SIDE} pixels"
                        raise _broken_run(where, expected) from error
        return Examples(
            np.stack(images)[:, None],
            np.repeat(np.arange(len(groups)), 2),
            len(groups),
            tuple(groups),
            np.arange(len(images)) % 2 == 0,
        )

    def _runs(self, root: Path) -> list[Path]:
        folder = locate(root, RUNS)
        if folder is None:
            raise UnavailableError(
                f"dataset '{self.name}' is not here: no {FOLDERS[0]}/{RUNS} in the data root; "
                f"{BY_HAND}, where it is zipped."
            )
        runs = sorted(path.parent for path in folder.glob(f"*/{LABELS}"))
        if not runs:
            raise _broken_run("", f"folders with a {LABELS}")
        return runs


def locate(root: Path, name: str) -> Path | None:
    """The file or folder of that name in one of Omniglot's folders of the data root."""
    for folder in FOLDERS:
        if (root / folder / name).exists():
            return root / folder / name
    return None


def read_drawing(file: Path | IO[bytes]) -> Array:
    """One PNG image as uint8 [105, 105]; OSError or ValueError where it is something else."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.size != (SIDE, SIDE):  # before it is unpacked, which may take all memory
                raise ValueError(f"an image of {image.size[0]}x{image.size[1]} pixels")
            return np.asarray(image.convert("L"))
    except (OSError, ValueError):
        raise
    except Exception as error:  # Pillow raises many kinds
        raise ValueError(f"no image: {error}") from error


def _is_drawing(member: str) -> bool:
    """Whether a file of an archive is one; macOS packs another beside each."""
    path = PurePosixPath(member)
    return path.suffix == ".png" and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _pairs(run: Path) -> list[tuple[Path, Path]]:
    """(test image, training image) of each character, in the order of the training images."""
    try:
        lines = (run / LABELS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken_run(f"{run.name}/{LABELS}", "a text file") from error
    pairs = []
    for line in filter(None, map(str.strip, lines)):
        names = line.split()
        if len(names) != 2:
            raise _broken_run(f"{run.name}/{LABELS}", "a test and a training image on each line")
        pairs.append((run.parent / names[0], run.parent / names[1]))
    trainings = {training for _, training in pairs}
    if len(trainings) != len(pairs) or not pairs:
        raise _broken_run(f"{run.name}/{LABELS}", "one test image for each training image")
    return sorted(pairs, key=lambda pair: pair[1])


def _broken_run(what: str, expected: str) -> VsmlBenchError:
    place = "/".join(filter(None, (RUNS, what)))
    return VsmlBenchError(
        f"{place} is broken: expected {expected}; delete the folder {RUNS}, then {BY_HAND}."
    )


BOTH = ({"background": True}, {"background": False})
SOURCES: tuple[Source, ...] = (
    Omniglot(
        "omniglot",
        "images_background.zip",
        "images_evaluation.zip",
        "get it with `vsml-bench data fetch omniglot`",
        downloads=(Torchvision("Omniglot", BOTH, "omniglot-py/*.zip", "omniglot-py"),),
    ),
    Omniglot(
        "omniglot_small", "images_background_small1.zip", "images_background_small2.zip", BY_HAND
    ),
    OmniglotRuns(),
)
