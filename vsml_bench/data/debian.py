"""Unpacks a package of the operating system without root rights and without installing it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from vsml_bench.errors import UnavailableError

SECONDS = 300
"""Bound on each of apt's runs."""
BOUNDED = (
    *("-o", "Acquire::http::Timeout=20"),
    *("-o", "Acquire::https::Timeout=20"),
    *("-o", "Acquire::Retries=1"),
    # apt's own unprivileged user could not write into the caller's folders.
    *("-o", "APT::Sandbox::User=root"),
)


def unpack_package(package: str, folder: Path, report: Callable[[str], None]) -> Path:
    """Downloads `package` with apt and unpacks it below `folder`; returns where.

    Package lists are downloaded into `folder` too where the system has none that know the
    package. UnavailableError where there is no apt, or it cannot get the package.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"this system has no {tool} to get the package '{package}' with")
    report(f"downloading the Debian package {package}")
    try:
        _run(["apt-get", *BOUNDED, "download", package], folder)
    except UnavailableError:
        report("downloading Debian's package lists into a folder of our own first")
        own = _own_lists(folder)
        try:
            _run(["apt-get", *BOUNDED, *own, "update"], folder)
        except UnavailableError as error:
            # One unreachable third-party source fails it all, though the one needed may be there.
            report(f"the package lists are incomplete: {error}")
        _run(["apt-get", *BOUNDED, *own, "download", package], folder)
    archives = sorted(folder.glob(f"{package}_*.deb"))
    if not archives:
        raise UnavailableError(f"apt-get reported success but left no {package}_*.deb")
    unpacked = folder / "unpacked"
    _run(["dpkg-deb", "-x", str(archives[-1]), str(unpacked)], folder)
    return unpacked


def _own_lists(folder: Path) -> list[str]:
    lists, cache = folder / "apt-lists", folder / "apt-cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    return ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]


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
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} took longer than {SECONDS} seconds") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "dpkg-deb: error"))] or lines
        reason = errors[0] if errors else f"exit status {done.returncode}"
        raise UnavailableError(f"{command[0]}: {reason}")
