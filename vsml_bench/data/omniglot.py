"""Omniglot, read from its authors' zip archives without unpacking them.

Images keep their native 105x105 pixels (one byte each, 213 MB for the full background set); a class
is one character, a group of classes is an alphabet. The authors publish their characters twice: in
full, a background set to train on and an evaluation set; and as two small background sets, parts of
the full one, both of which have the alphabets Greek and Latin. Each way is a dataset of its own, so
that a name never means other data on another machine.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from vsml_bench.data.source import Array, Examples, Found, Source, worst_reason
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

FOLDERS = ("omniglot-py", "omniglot")
"""torchvision's folder, then that of the authors' own repository."""
SIDE = 105
"""Pixels along each side of an image."""
BY_HAND = "copy it from github.com/brendenlake/omniglot, folder `python`"


@dataclass(frozen=True)
class Archives:
    """Which archive is which partition, and how to get them."""

    train: str
    test: str
    remedy: str


FULL = Archives(
    "images_background.zip",
    "images_evaluation.zip",
    "get it with `vsml-bench data fetch omniglot`",
)
SMALL = Archives("images_background_small1.zip", "images_background_small2.zip", BY_HAND)


@dataclass(frozen=True)
class Omniglot(Source):
    """Handwritten characters of many alphabets, 20 drawings of each."""

    name: str
    archives: Archives

    def find(self, root: Path) -> Found:
        """Counts from the archives' tables of contents."""
        counts: dict[PartitionName, int | None] = {"train": None, "test": None}
        errors: list[VsmlBenchError] = []
        for partition in counts:
            try:
                counts[partition] = len(self._members(partition, root)[1])
            except VsmlBenchError as error:
                errors.append(error)
        return Found("data root", worst_reason(errors), counts["train"], counts["test"])

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 1, 105, 105], ink 0 on white 255, in the order of their names."""
        path, members = self._members(partition, root)
        images = np.empty((len(members), 1, SIDE, SIDE), np.uint8)
        try:
            with zipfile.ZipFile(path) as archive:
                for index, member in enumerate(members):
                    with archive.open(member) as file:
                        images[index, 0] = read_drawing(file)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise self._broken(path, f"a whole archive of PNG images of {SIDE}x{SIDE}") from error
        characters = [PurePosixPath(member).parent for member in members]
        number = {character: i for i, character in enumerate(dict.fromkeys(characters))}
        labels = np.array([number[character] for character in characters], np.int64)
        alphabets = tuple(character.parent.name for character in number)
        return Examples(images, labels, len(number), alphabets)

    def _members(self, partition: PartitionName, root: Path) -> tuple[Path, list[str]]:
        """The archive of a partition and the names of the images in it."""
        name = self.archives.train if partition == "train" else self.archives.test
        path = locate(root, name)
        if path is None:
            raise UnavailableError(
                f"the {partition} partition of dataset '{self.name}' is not here: no {name} in "
                f"{FOLDERS[0]}/ of the data root; {self.archives.remedy}."
            )
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(name for name in archive.namelist() if name.endswith(".png"))
        except (OSError, zipfile.BadZipFile) as error:
            raise self._broken(path, "a whole zip archive") from error
        if not members:
            raise self._broken(path, "PNG images in it")
        return path, members

    def _broken(self, path: Path, expected: str) -> VsmlBenchError:
        return VsmlBenchError(
            f"{path.parent.name}/{path.name} is broken: expected {expected}; delete it, then "
            f"{self.archives.remedy}."
        )


def locate(root: Path, name: str) -> Path | None:
    """The file or folder of that name in one of Omniglot's folders of the data root."""
    for folder in FOLDERS:
        if (root / folder / name).exists():
            return root / folder / name
    return None


def read_drawing(file: Path | IO[bytes]) -> Array:
    """One PNG image as uint8 [105, 105]; OSError or ValueError where it is something else."""
    from PIL import Image

    with Image.open(file) as image:
        drawing = np.asarray(image.convert("L"))
    if drawing.shape != (SIDE, SIDE):
        raise ValueError(f"an image of {drawing.shape[1]}x{drawing.shape[0]} pixels")
    return drawing
