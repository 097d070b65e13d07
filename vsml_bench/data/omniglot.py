"""Omniglot, read from its authors' zip archives without unpacking them.

Images keep their native 105x105 pixels (one byte each, 213 MB for the whole train partition); a
class is one character. Partitions are the authors': background to train on, evaluation to test.
Where only the authors' two small background archives are present, the first is the train
partition and the second, without the two alphabets that both contain, the test partition.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vsml_bench.data.source import Examples, Found, Source, worst_reason
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.specs import PartitionName

FOLDERS = ("omniglot-py", "omniglot")
"""torchvision's folder, then that of the authors' own repository."""
OFFICIAL = {"train": "images_background.zip", "test": "images_evaluation.zip"}
SMALL = {"train": "images_background_small1.zip", "test": "images_background_small2.zip"}
IN_BOTH_SMALL = frozenset({"Greek", "Latin"})
SIDE = 105
"""Pixels along each side of an image."""


@dataclass(frozen=True)
class Omniglot(Source):
    """Handwritten characters of many alphabets, 20 drawings of each."""

    name: str = "omniglot"

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
        from PIL import Image, UnidentifiedImageError

        path, members = self._members(partition, root)
        images = np.empty((len(members), 1, SIDE, SIDE), np.uint8)
        try:
            with zipfile.ZipFile(path) as archive:
                for index, member in enumerate(members):
                    with archive.open(member) as file, Image.open(file) as image:
                        images[index, 0] = np.asarray(image.convert("L"))
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            kind = "PNG images" if isinstance(error, UnidentifiedImageError) else "a whole archive"
            raise _broken(path, f"{kind} of {SIDE}x{SIDE} pixels") from error
        characters = [PurePosixPath(member).parent for member in members]
        number = {character: i for i, character in enumerate(dict.fromkeys(characters))}
        labels = np.array([number[character] for character in characters], np.int64)
        return Examples(images, labels, len(number))

    def _members(self, partition: PartitionName, root: Path) -> tuple[Path, list[str]]:
        """The archive of a partition and the names of the images in it that belong to it."""
        path = _archive(root, OFFICIAL[partition])
        left_out: frozenset[str] = frozenset()
        # The small archives are part of the full background set: never mix the two kinds.
        if path is None and all(_archive(root, name) is None for name in OFFICIAL.values()):
            path = _archive(root, SMALL[partition])
            left_out = IN_BOTH_SMALL if partition == "test" else left_out
        if path is None:
            raise UnavailableError(
                f"the {partition} partition of dataset '{self.name}' is not here: no "
                f"{OFFICIAL[partition]} in {FOLDERS[0]}/ of the data root; "
                f"`vsml-bench data fetch {self.name}` gets it."
            )
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        except (OSError, zipfile.BadZipFile) as error:
            raise _broken(path, "a whole zip archive") from error
        members = [n for n in names if not left_out.intersection(PurePosixPath(n).parts)]
        if not members:
            raise _broken(path, "PNG images in it")
        return path, members


def _archive(root: Path, name: str) -> Path | None:
    for folder in FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    return None


def _broken(path: Path, expected: str) -> VsmlBenchError:
    return VsmlBenchError(
        f"{path.parent.name}/{path.name} is broken: expected {expected}; delete it and run "
        "`vsml-bench data fetch omniglot`."
    )
