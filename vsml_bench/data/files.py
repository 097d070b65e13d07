"""Datasets from files in torchvision's layout: the MNIST family, CIFAR-10 and SVHN.

CIFAR-10 and SVHN go through torchvision's own readers, never downloading. The MNIST family's images
and labels are IDX files, as they are or gzipped; torchvision's reader wants them unpacked, and a
data root may be read-only, so the format (a big-endian header of magic number and sizes, then
bytes) is read here.
"""

from __future__ import annotations

import gzip
import math
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.fetch import DebianPackage, Torchvision
from vsml_bench.data.source import Download, Examples, Found, Source, worst_reason
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

UNSIGNED_BYTE = 0x08
"""The only type of value in the MNIST family's files."""
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
BOTH: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})
"""What torchvision's datasets are given for the two partitions."""


@dataclass(frozen=True, eq=False)
class IdxImages(Source):
    """A dataset of 28x28 grayscale images in torchvision's layout `ROOT/FOLDER/raw/...`."""

    name: str
    folder: str
    classes: int
    prefixes: tuple[str, str] = ("train", "t10k")
    """What the file names of the train and of the test partition start with."""
    system_folder: Path | None = None
    """Where an operating system's package puts the same files, gzipped."""
    system_origin: str = ""
    downloads: tuple[Download, ...] = ()

    def find(self, root: Path) -> Found:
        """Counts from the files' headers."""
        counts: dict[PartitionName, int | None] = {"train": None, "test": None}
        origins: list[str] = []
        errors: list[VsmlBenchError] = []
        for partition in counts:
            try:
                files, origin = self._locate(partition, root)
                counts[partition] = _count(*files)
                origins.append(origin)
            except VsmlBenchError as error:
                errors.append(error)
        return Found(
            origins[0] if origins else "data root",
            worst_reason(errors),
            counts["train"],
            counts["test"],
        )

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 1, H, W] and labels of one official partition."""
        (images_file, labels_file), _ = self._locate(partition, root)
        images = read_idx(images_file, dimensions=3)
        labels = read_idx(labels_file, dimensions=1).astype(np.int64)
        if len(images) != len(labels):
            raise _broken(
                images_file, f"{len(labels)} images, one for each label", f"{len(images)}"
            )
        if len(labels) == 0 or int(labels.max()) >= self.classes:
            raise _broken(
                labels_file,
                f"labels from 0 to {self.classes - 1}",
                "none" if len(labels) == 0 else f"the label {labels.max()}",
            )
        return Examples(images[:, None], labels, self.classes)

    def _locate(self, partition: PartitionName, root: Path) -> tuple[tuple[Path, Path], str]:
        """Images and labels file, from the first place that has both, and what to call it."""
        prefix = self.prefixes[0 if partition == "train" else 1]
        stems = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        places = [(root / self.folder / "raw", "data root")]
        if self.system_folder is not None:
            places.append((self.system_folder, self.system_origin))
        for folder, origin in places:
            found = [_plain_or_gzipped(folder / stem) for stem in stems]
            if found[0] is not None and found[1] is not None:
                return (found[0], found[1]), origin
        raise UnavailableError(
            f"the {partition} partition of dataset '{self.name}' is not here: no "
            f"{self.folder}/raw/{stems[0]}(.gz) with its labels in the data root; "
            f"`vsml-bench data fetch {self.name}` gets it."
        )


@dataclass(frozen=True, eq=False)
class Cifar10(Source):
    """32x32 colour images in ten classes, in `ROOT/cifar-10-batches-py`."""

    name: str = "cifar10"
    downloads = (Torchvision("CIFAR10", BOTH, f"{CIFAR10_FOLDER}/*", CIFAR10_FOLDER),)

    def find(self, root: Path) -> Found:
        """Whether the folder has all the files that torchvision checks."""
        missing = [name for name in CIFAR10_FILES if not (root / CIFAR10_FOLDER / name).is_file()]
        if not missing:
            return Found("data root", "", 50_000, 10_000)
        absent = _absent(self.name, f"{CIFAR10_FOLDER}/{missing[0]}")
        return Found("data root", str(absent))

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 3, 32, 32]; torchvision compares checksums before it unpickles."""
        from torchvision.datasets import CIFAR10

        found = self.find(root)
        if found.reason:
            raise UnavailableError(found.reason)
        try:
            data = CIFAR10(root, train=partition == "train", download=False)
        except (RuntimeError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise _checksums(self.name, CIFAR10_FOLDER) from error
        images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
        return Examples(images, np.asarray(data.targets, np.int64), 10)


@dataclass(frozen=True, eq=False)
class Svhn(Source):
    """32x32 colour photographs of house numbers, `ROOT/SVHN/*_32x32.mat` or `ROOT/*_32x32.mat`."""

    name: str = "svhn"
    downloads = (Torchvision("SVHN", ({"split": "train"}, {"split": "test"}), "*.mat", "SVHN"),)

    def find(self, root: Path) -> Found:
        """Which of the two files are there."""
        here = {p: _svhn_folder(root, p) is not None for p in ("train", "test")}
        missing = [f"SVHN/{p}_32x32.mat" for p, found in here.items() if not found]
        return Found(
            "data root",
            str(_absent(self.name, " and ".join(missing))) if missing else "",
            73_257 if here["train"] else None,
            26_032 if here["test"] else None,
        )

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 3, 32, 32]; torchvision compares checksums first."""
        from torchvision.datasets import SVHN

        folder = _svhn_folder(root, partition)
        if folder is None:
            raise _absent(self.name, f"SVHN/{partition}_32x32.mat")
        try:
            data = SVHN(folder, split=partition, download=False)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise _checksums(self.name, f"{partition}_32x32.mat") from error
        return Examples(np.ascontiguousarray(data.data), data.labels.astype(np.int64), 10)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file; VsmlBenchError where it is not one, or not whole."""
    try:
        with _open(path) as file:
            shape = _header(path, file, dimensions)
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(path, "a whole, readable file", str(error)) from error
    if len(data) != math.prod(shape):
        raise _broken(path, f"{math.prod(shape)} bytes after the header", f"{len(data)}")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)  # writable, as torch wants


def _count(images_file: Path, labels_file: Path) -> int:
    try:
        with _open(images_file) as file:
            images = _header(images_file, file, 3)[0]
        with _open(labels_file) as file:
            labels = _header(labels_file, file, 1)[0]
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(images_file, "a whole, readable file", str(error)) from error
    if images != labels:
        raise _broken(images_file, f"{labels} images, one for each label", f"{images}")
    return images


def _header(path: Path, file: BinaryIO, dimensions: int) -> tuple[int, ...]:
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    start = file.read(4 + 4 * dimensions)
    if start[:4] != magic:
        raise _broken(path, f"the magic number {magic.hex()}", start[:4].hex() or "nothing")
    if len(start) != 4 + 4 * dimensions:
        raise _broken(path, f"a header of {4 + 4 * dimensions} bytes", f"{len(start)}")
    return tuple(int(n) for n in np.frombuffer(start, ">u4", offset=4))


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _plain_or_gzipped(path: Path) -> Path | None:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None


def _broken(path: Path, expected: str, found: str) -> VsmlBenchError:
    # Errors end up in cells, which hold no absolute paths: the folder's name tells enough.
    place = "/".join(path.parts[-3:])
    return VsmlBenchError(
        f"{place} is broken: expected {expected}, found {found}; delete it and fetch the dataset "
        "again with `vsml-bench data fetch`."
    )


def _svhn_folder(root: Path, partition: str) -> Path | None:
    for folder in (root / "SVHN", root):
        if (folder / f"{partition}_32x32.mat").is_file():
            return folder
    return None


def _absent(name: str, what: str) -> UnavailableError:
    return UnavailableError(
        f"dataset '{name}' is not here: no {what} in the data root; "
        f"`vsml-bench data fetch {name}` gets it."
    )


def _checksums(name: str, what: str) -> VsmlBenchError:
    return VsmlBenchError(
        f"{what} in the data root is broken: expected files with the checksums that torchvision "
        f"lists for {name}; delete it and run `vsml-bench data fetch {name}`."
    )


def _torchvision(folder: str, files: str = "*", **variant: str) -> Torchvision:
    """The download of one of the MNIST family, whose class and folder have one name."""
    parts = tuple({**variant, **part} for part in BOTH)
    return Torchvision(folder, parts, f"{folder}/raw/{files}-ubyte", f"{folder}/raw")


SOURCES: tuple[Source, ...] = (
    IdxImages("mnist", "MNIST", 10, downloads=(_torchvision("MNIST"),)),
    IdxImages(
        "fashion_mnist",
        "FashionMNIST",
        10,
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        system_origin="Debian package",
        downloads=(
            _torchvision("FashionMNIST"),
            DebianPackage(
                "dataset-fashion-mnist",
                "usr/share/datasets/fashion-mnist/*-ubyte.gz",
                "FashionMNIST/raw",
            ),
        ),
    ),
    IdxImages("kmnist", "KMNIST", 10, downloads=(_torchvision("KMNIST"),)),
    # "byclass": the paper's 62 outputs. Its images are transposed, as in every copy of EMNIST.
    IdxImages(
        "emnist",
        "EMNIST",
        62,
        prefixes=("emnist-byclass-train", "emnist-byclass-test"),
        downloads=(_torchvision("EMNIST", "emnist-byclass-*", split="byclass"),),
    ),
    Cifar10(),
    Svhn(),
)
