"""Datasets from files in torchvision's layout: the MNIST family, CIFAR-10 and SVHN.

CIFAR-10 and SVHN go through torchvision's own readers, never downloading. The MNIST family's images
and labels are IDX files, as they are or gzipped; torchvision's reader wants them unpacked, and a
data root may be read-only, so the format (a big-endian header of magic number and sizes, then
bytes) is read here.
"""

from __future__ import annotations

import gzip
import math
import os
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data.fetch import DebianPackage, Torchvision
from vsml_bench.data.source import PARTITIONS, Download, Examples, FromFiles, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

MOST_BYTES = 2**31
"""Of an IDX file; EMNIST, the largest, has a quarter of that."""
UNSIGNED_BYTE = 0x08
"""The only type of value in the MNIST family's files."""
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = tuple(
    f"{CIFAR10_FOLDER}/{name}"
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
)
SIZES = {
    "data_batch_1": 31_035_704,
    "data_batch_2": 31_035_320,
    "data_batch_3": 31_035_999,
    "data_batch_4": 31_035_696,
    "data_batch_5": 31_035_623,
    "test_batch": 31_035_526,
    "batches.meta": 158,
    "train_32x32.mat": 182_040_794,
    "test_32x32.mat": 64_275_384,
}
"""Bytes of the files of CIFAR-10 and SVHN, whose checksums take seconds."""
BOTH: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})
"""What torchvision's datasets are given for the two partitions."""


@dataclass(frozen=True, eq=False)
class IdxImages(FromFiles):
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

    def look(self, partition: PartitionName, root: Path) -> tuple[int, str]:
        """See `FromFiles.look`."""
        images_file, labels_file, origin = self._locate(partition, root)
        images, labels = _shape(images_file, 3)[0], _shape(labels_file, 1)[0]
        if images != labels:
            raise _broken(images_file, f"{labels} images, one for each label", images)
        return images, origin

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 1, H, W] and labels of one official partition."""
        self.look(partition, root)
        images_file, labels_file, _ = self._locate(partition, root)
        images = read_idx(images_file, dimensions=3)
        labels = read_idx(labels_file, dimensions=1).astype(np.int64)
        if len(labels) == 0 or int(labels.max()) >= self.classes:
            found = f"the label {labels.max()}" if len(labels) else "none"
            raise _broken(labels_file, f"labels from 0 to {self.classes - 1}", found)
        return Examples(images[:, None], labels, self.classes)

    def _locate(self, partition: PartitionName, root: Path) -> tuple[Path, Path, str]:
        """Images and labels file, from the first place that has both, and what to call it."""
        prefix = self.prefixes[PARTITIONS.index(partition)]
        stems = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        places = [(root / self.folder / "raw", "data root")]
        if self.system_folder is not None:
            places.append((self.system_folder, self.system_origin))
        for folder, origin in places:
            candidates = ([folder / stem, folder / f"{stem}.gz"] for stem in stems)
            images, labels = (next(filter(Path.is_file, files), None) for files in candidates)
            if images is not None and labels is not None:
                return images, labels, origin
        raise UnavailableError(
            f"the {partition} partition of dataset '{self.name}' is not here: no "
            f"{self.folder}/raw/{stems[0]}(.gz) with its labels in the data root; "
            f"`vsml-bench data fetch {self.name}` gets it."
        )


@dataclass(frozen=True, eq=False)
class TorchvisionImages(FromFiles):
    """32x32 colour images in ten classes that torchvision reads, after comparing checksums."""

    name: str
    counts: tuple[int, int]
    """Examples of the train and of the test partition."""
    folders: tuple[str, ...]
    """Below the data root, which torchvision may be given."""
    files: tuple[tuple[str, ...], tuple[str, ...]]
    """What torchvision needs for the train and for the test partition."""
    downloads: tuple[Torchvision]
    """The one whose `variants` are the two partitions."""

    def look(self, partition: PartitionName, root: Path) -> tuple[int, str]:
        """See `FromFiles.look`."""
        folder, which = self._folder(partition, root), PARTITIONS.index(partition)
        for file in self.files[which]:
            expected, found = SIZES[Path(file).name], (folder / file).stat().st_size
            if found != expected:
                place = (folder / file).relative_to(root)
                raise _broken(place, f"{expected} bytes", found)
        return self.counts[which], "data root"

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 3, 32, 32] and labels of one official partition."""
        import torchvision.datasets

        folder, which = self._folder(partition, root), PARTITIONS.index(partition)
        download = self.downloads[0]
        try:
            make = getattr(torchvision.datasets, download.dataset)
            data = make(folder, download=False, **download.variants[which])
        except (RuntimeError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise VsmlBenchError(
                f"{Path(self.files[which][0]).parts[0]} in the data root is broken: expected files "
                f"with the checksums that torchvision lists for {self.name}; delete it and run "
                f"`vsml-bench data fetch {self.name}`."
            ) from error
        images = data.data if data.data.shape[1] == 3 else data.data.transpose(0, 3, 1, 2)
        labels = data.labels if hasattr(data, "labels") else data.targets
        return Examples(np.ascontiguousarray(images), np.asarray(labels, np.int64), 10)

    def _folder(self, partition: PartitionName, root: Path) -> Path:
        needed = self.files[PARTITIONS.index(partition)]
        for folder in self.folders:
            if all((root / folder / file).is_file() for file in needed):
                return root / folder
        first = root / self.folders[0]
        missing = next(file for file in needed if not (first / file).is_file())
        raise UnavailableError(
            f"dataset '{self.name}' is not here: no {Path(self.folders[0], missing).as_posix()} in "
            f"the data root; `vsml-bench data fetch {self.name}` gets it."
        )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file; VsmlBenchError where it is not one, or not whole."""
    shape = _shape(path, dimensions)
    count, size = math.prod(shape), _header_size(dimensions)
    data = _bytes(path, size + count + 1)[size:]  # what says less than it holds is not unpacked
    if len(data) != count:
        raise _broken(path, f"{count} bytes after the header", len(data))
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)  # writable, as torch wants


def _header_size(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _bytes(path: Path, most: int) -> bytes:
    """At most so many of the file's first bytes, unpacked."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(path, "a whole, readable file", error) from error


def _stated_size(path: Path) -> int:
    """The file's bytes when unpacked, modulo 2**32 where gzip says it, at the file's end."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        return int.from_bytes(file.read(), "little")


def _shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """What an IDX file's header says; VsmlBenchError where that, or the file's size, shows that it
    is not one, or not whole."""
    size = _header_size(dimensions)
    start = _bytes(path, size)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if start[:4] != magic:
        raise _broken(path, f"the magic number {magic.hex()}", start[:4].hex() or "nothing")
    if len(start) != size:
        raise _broken(path, f"a header of {size} bytes", len(start))
    shape = tuple(int(n) for n in np.frombuffer(start, ">u4", offset=4))
    if 0 in shape[1:] or math.prod(shape) > MOST_BYTES:
        raise _broken(path, f"sides of at least 1 and at most {MOST_BYTES} bytes", shape)
    expected, found = size + math.prod(shape), _stated_size(path)
    if expected % 2**32 != found:
        unit = "bytes when unpacked" if path.suffix == ".gz" else "bytes"
        raise _broken(path, f"{expected} {unit}, as its header says", found)
    return shape


def _broken(path: Path, expected: str, found: object) -> VsmlBenchError:
    # Errors end up in cells, which hold no absolute paths: the folder's name tells enough.
    place = "/".join(path.parts[-3:])
    return VsmlBenchError(
        f"{place} is broken: expected {expected}, found {found}; delete it and fetch the dataset "
        "again with `vsml-bench data fetch`."
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
    TorchvisionImages(
        "cifar10",
        (50_000, 10_000),
        ("",),
        (CIFAR10_FILES, CIFAR10_FILES),
        (Torchvision("CIFAR10", BOTH, f"{CIFAR10_FOLDER}/*", CIFAR10_FOLDER),),
    ),
    TorchvisionImages(
        "svhn",
        (73_257, 26_032),
        ("SVHN", ""),
        (("train_32x32.mat",), ("test_32x32.mat",)),
        (Torchvision("SVHN", ({"split": "train"}, {"split": "test"}), "*.mat", "SVHN"),),
    ),
)
