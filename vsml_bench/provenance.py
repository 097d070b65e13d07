"""Where results come from: commit, versions, machine, memory."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
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

    The commit is exactly HEAD; any uncommitted change of a tracked file makes it dirty.
    """
    folder = paths.home()
    try:
        _git(folder, "ls-files", "--error-unmatch", ".")  # fails where nothing here is tracked
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
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
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as control:
            control.write("5")
    except OSError:
        return


def peak_memory_bytes(device: torch.device | None = None) -> int:
    """Largest memory since `reset_peak_memory`, or so far: resident memory of this process, or on
    a GPU what its tensors took there."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _git(folder: object, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
