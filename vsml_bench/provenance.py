"""Where results come from: commit, versions, machine, memory; and what of that is not published."""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import platform
import re
import resource
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench import paths

if TYPE_CHECKING:
    import torch

_PACKAGES = ("vsml-bench", "torch", "torchvision", "numpy", "scikit-learn", "mlxtend")


def versions() -> dict[str, str]:
    """Python's and the relevant packages' versions."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> tuple[str, bool]:
    """(commit, dirty) of the checkout the code runs from; ("", False) outside one, as where it is
    installed into an environment that lies in a repository of something else.

    The commit is exactly HEAD; any uncommitted change of a tracked file makes it dirty, but for
    what is noted of replays, which no code computes with and a replay itself writes.
    """
    folder = paths.home()
    try:
        _git(folder, "ls-files", "--error-unmatch", ".")  # fails where nothing here is tracked
        commit = _git(folder, "rev-parse", "HEAD")
        counted = (":(top)", ":(top,exclude,glob)results/**/replays.json")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *counted)
        dirty = bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return commit, dirty


def reset_peak_memory() -> None:
    """Makes `peak_memory_bytes` count from now on, where the system can (Linux), and glibc give
    back what it keeps of what was freed before (`execution.decide`)."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: torch.device | None = None) -> int:
    """Largest memory since `reset_peak_memory`, or so far: resident memory of this process, or on
    a GPU what its tensors took there."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text("ascii"), re.M)
        if found:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _git(folder: object, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


_GENERIC = frozenset({"", "root", "user", "nobody", "localhost"})
"""Names that identify nobody, and that error texts use as words."""

_PATH = re.compile(
    r"(?P<url>\b(?:https?|ftp)://[^\s\"'<>]+)"
    r"|(?P<quote>[\"'])(?:file://)?(?:/|[A-Za-z]:\\)(?P<quoted>[^\"'\n]*)(?P=quote)"
    r"|(?<![\w/.~*<-])(?:file://)?(?:/|[A-Za-z]:\\)(?P<bare>[^\s\"'<>|,;()\[\]{}:]*)"
)


def scrub(text: str) -> str:
    """The text with every absolute path replaced by its last part, and the home folder and the
    names of user and host by `~`, `<user>` and `<host>`. Web addresses stay."""
    home = _home()
    if len(home) > 1:
        text = re.sub(re.escape(home) + r"(?![\w.-]|[/\\]\w)", "~", text)
    text = _PATH.sub(_last_part, text)
    for name, mark in _private_names().items():
        text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", mark, text)
    return text


def _last_part(match: re.Match[str]) -> str:
    if match["url"]:
        return match["url"]
    path = match["quoted"] if match["quoted"] is not None else match["bare"]
    parts = re.split(r"[/\\]+", path.rstrip("/\\"))
    quote = match["quote"] or ""
    return f"{quote}{parts[-1] or '/'}{quote}"


def _home() -> str:
    """The home folder; "" where there is none."""
    home = os.path.expanduser("~")
    return "" if home == "~" else home


def _private_names() -> dict[str, str]:
    host = socket.gethostname()
    names = {host: "<host>", host.partition(".")[0]: "<host>"}
    with contextlib.suppress(OSError, KeyError):  # a user id without a name, as in some containers
        names[getpass.getuser()] = "<user>"
    names[os.path.basename(_home())] = "<user>"
    return {
        name: names[name]
        for name in sorted(names, key=len, reverse=True)
        if name.lower() not in _GENERIC
    }
