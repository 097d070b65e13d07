"""CIFAR-10 and SVHN through torchvision's own readers, never downloading."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsml_bench.data.source import Examples, Found, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import PartitionName

CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


@dataclass(frozen=True)
class Cifar10(Source):
    """32x32 colour images in ten classes, in `ROOT/cifar-10-batches-py`."""

    name: str = "cifar10"

    def find(self, root: Path) -> Found:
        """Whether the folder has all the files that torchvision checks."""
        missing = [name for name in CIFAR10_FILES if not (root / CIFAR10_FOLDER / name).is_file()]
        if not missing:
            return Found("data root", "", 50_000, 10_000)
        absent = _absent(self.name, f"{CIFAR10_FOLDER}/{missing[0]}")
        return Found("data root", str(absent), None, None)

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """Images uint8 [n, 3, 32, 32]; torchvision compares checksums before it unpickles."""
        from torchvision.datasets import CIFAR10

        found = self.find(root)
        if found.reason:
            raise UnavailableError(found.reason)
        try:
            data = CIFAR10(root, train=partition == "train", download=False)
        except (RuntimeError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise _broken(self.name, CIFAR10_FOLDER) from error
        images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
        return Examples(images, np.asarray(data.targets, np.int64), 10)


@dataclass(frozen=True)
class Svhn(Source):
    """32x32 colour photographs of house numbers, `ROOT/SVHN/*_32x32.mat` or `ROOT/*_32x32.mat`."""

    name: str = "svhn"

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
            raise _broken(self.name, f"{partition}_32x32.mat") from error
        return Examples(np.ascontiguousarray(data.data), data.labels.astype(np.int64), 10)


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


def _broken(name: str, what: str) -> VsmlBenchError:
    return VsmlBenchError(
        f"{what} in the data root is broken: expected files with the checksums that torchvision "
        f"lists for {name}; delete it and run `vsml-bench data fetch {name}`."
    )
