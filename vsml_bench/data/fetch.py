"""Brings a dataset into the data root: torchvision's download, or an operating system's package.

Everything is downloaded into a temporary folder inside the root, read in full there as a check,
and only then moved, file by file, each in one step: an interrupted fetch leaves no torn file.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import Any
from zipfile import BadZipFile

from vsml_bench.data.source import PARTITIONS, Download, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.owners import sweep, temporary_name

SECONDS_WITHOUT_ANSWER = 20.0
"""After which a host counts as unreachable."""
SECONDS_OF_APT = 300
"""Bound on each of apt's runs."""
APT_OPTIONS = (
    *("-o", "Acquire::http::Timeout=20"),
    *("-o", "Acquire::https::Timeout=20"),
    *("-o", "Acquire::Retries=1"),
    # apt's own unprivileged user could not write into the caller's folders.
    *("-o", "APT::Sandbox::User=root"),
)
BROKEN_FILES = (EOFError, ValueError, TarError, BadZipFile, zlib.error)
DOWNLOAD_ERRORS = (RuntimeError, OSError, HTTPException, *BROKEN_FILES)


@dataclass(frozen=True)
class Torchvision(Download):
    """Which of torchvision's datasets to construct, and what of its files to keep."""

    dataset: str
    variants: tuple[Mapping[str, Any], ...]
    """Arguments of the constructor, once for each part to download."""
    keep: str
    """Pattern of files below the folder that is given to torchvision."""
    folder: str

    def get(self, staging: Path, report: Callable[[str], None]) -> list[Path]:
        """See `Download.get`."""
        import torchvision.datasets

        make = getattr(torchvision.datasets, self.dataset)
        report("downloading with torchvision")
        try:
            with _impatient_sockets():
                for arguments in self.variants:
                    make(staging, download=True, **arguments)
        except DOWNLOAD_ERRORS as error:
            text = textwrap.shorten(str(error) or type(error).__name__, 300, placeholder="...")
            raise UnavailableError(f"torchvision: {text}") from error
        return sorted(staging.glob(self.keep))


@dataclass(frozen=True)
class DebianPackage(Download):
    """A package that holds the files, unpacked without root rights and without installing it."""

    package: str
    keep: str
    """Pattern of files below the folder that the package is unpacked in."""
    folder: str

    def get(self, staging: Path, report: Callable[[str], None]) -> list[Path]:
        """See `Download.get`. Package lists are downloaded into `staging` too where the system has
        none that know the package."""
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise UnavailableError(
                    f"this system has no {tool} to get the package '{self.package}' with"
                )
        report(f"downloading the Debian package {self.package}")
        download = ["download", self.package]
        try:
            _run(["apt-get", *APT_OPTIONS, *download], staging)
        except UnavailableError:
            report("downloading Debian's package lists into a folder of our own first")
            lists, cache = staging / "apt-lists", staging / "apt-cache"
            (lists / "partial").mkdir(parents=True)
            (cache / "archives" / "partial").mkdir(parents=True)
            own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
            try:
                _run(["apt-get", *APT_OPTIONS, *own, "update"], staging)
            except UnavailableError as error:
                # One unreachable third-party source fails it all, though the one needed may be
                # there.
                report(f"the package lists are incomplete: {error}")
            _run(["apt-get", *APT_OPTIONS, *own, *download], staging)
        archives = sorted(staging.glob(f"{self.package}_*.deb"))
        if not archives:
            raise UnavailableError(f"apt-get reported success but left no {self.package}_*.deb")
        unpacked = staging / "unpacked"
        _run(["dpkg-deb", "-x", str(archives[-1]), str(unpacked)], staging)
        return sorted(unpacked.glob(self.keep))


def fetch(source: Source, root: Path, report: Callable[[str], None]) -> Path:
    """Downloads a dataset into `root`, torchvision's layout, and returns the folder it is in.

    report: called with a line for each thing that is tried. UnavailableError where none of the
    source's downloads works here, VsmlBenchError where it has none or `root` cannot be written.
    """
    name = source.name
    if not source.downloads:
        found = source.find(root)
        if found.origin == "data root":
            reason = found.reason or "it is here."
            raise VsmlBenchError(f"nothing fetches dataset '{name}': {reason}")
        kind = "is generated" if found.origin == "generated" else f"comes with {found.origin}"
        raise VsmlBenchError(f"dataset '{name}' {kind}, so there is nothing to fetch.")
    failures = []
    for download in source.downloads:
        with _staging(root) as staging:
            (staging / "got").mkdir()
            try:
                files = download.get(staging / "got", lambda line: report(f"{name}: {line}"))
            except UnavailableError as error:
                failures.append(str(error))
                report(f"{name}: {error}")
                continue
            checked = staging / "checked"
            (checked / download.folder).mkdir(parents=True)
            for file in files:
                os.replace(file, checked / download.folder / file.name)
            for partition in PARTITIONS:
                source.read(partition, checked)
            for file in sorted(checked.rglob("*")):
                target = root / file.relative_to(checked)
                if file.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    os.replace(file, target)
            return root / download.folder
    raise UnavailableError(
        f"dataset '{name}' cannot be fetched here ({'; '.join(failures)}); copy its files into "
        f"{source.downloads[0].folder} of the data root by hand."
    )


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as the root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        made = tempfile.TemporaryDirectory(
            prefix=temporary_name(".fetch-"), suffix=".tmp", dir=root, ignore_cleanup_errors=True
        )
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


def _run(command: Sequence[str], folder: Path) -> None:
    """Runs to success in `folder`, or raises UnavailableError with the tool's own reason."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS_OF_APT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} took longer than {SECONDS_OF_APT} seconds") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "dpkg-deb: error"))] or lines
        reason = errors[0] if errors else f"exit status {done.returncode}"
        raise UnavailableError(f"{command[0]}: {reason}")
