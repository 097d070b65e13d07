"""The C++ library: compiled once per machine by the compiler found there."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vsml_bench import paths
from vsml_bench.owners import new_temporary_folder, sweep, temporary_name
from vsml_bench.storage import file_hash

STATE_SIZE = 16
MAX_TICKS = 8
_FOLDER = Path(__file__).parent
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SOURCES = ("sweep.cpp", "lifetimes.cpp")
_HEADERS = ("network.h", "messages.h", "sub_rnn.h", "vectors.h")
# Where PyTorch is already loaded, its OpenMP serves this code as well.
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")


def reads(ticks: int, *tensors: Tensor) -> bool:
    """Whether the code can take sub-RNNs of so many micro-ticks and these tensors' memory, now."""
    return (
        ticks <= MAX_TICKS
        and all(map(_readable, tensors))
        and not torch.is_autocast_enabled("cpu")  # it computes in float32
        and load() is not None
    )


def _readable(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def call(name: str, *arguments: int | Tensor | None) -> None:
    """Calls a function of the library on whole numbers and on the memory of contiguous tensors;
    None is a null pointer."""
    library = load()
    assert library is not None
    getattr(library, name)(*map(_argument, arguments))


def _argument(value: int | Tensor | None) -> ctypes.c_int64 | ctypes.c_void_p:
    if isinstance(value, int):
        return ctypes.c_int64(value)
    if value is None:
        return ctypes.c_void_p()
    assert value.is_contiguous()
    return ctypes.c_void_p(value.data_ptr())


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL | None:
    """The compiled code; None where there is no compiler, or it fails."""
    try:
        library = ctypes.CDLL(str(_library()))
    except (OSError, subprocess.CalledProcessError):
        return None
    for name in ("vsml_sweep", "vsml_sweep_backward", "vsml_lifetimes", "vsml_lifetimes_backward"):
        getattr(library, name).restype = None
    return library


def _library() -> Path:
    """The shared library for this source, compiler and CPU, built where it is not there yet, or is
    not what was built: another's, writable by others, or not of the SHA-256 beside it."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("c++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
    code = [(_FOLDER / name).read_bytes() for name in (*_SOURCES, *_HEADERS)]
    identity = b"\0".join([*code, version, _cpu(), " ".join(_FLAGS).encode()])
    library = _kept_in() / f"kernel-{hashlib.sha256(identity).hexdigest()[:16]}.so"
    stated = library.with_suffix(".sha256")
    own = _is_own(library) and _is_own(stated)
    if own and stated.read_bytes() == file_hash(library).encode():
        return library
    sweep(library.parent)
    with tempfile.TemporaryDirectory(".tmp", temporary_name(""), library.parent) as folder:
        built, digest = Path(folder) / library.name, Path(folder) / stated.name
        sources = [str(_FOLDER / name) for name in _SOURCES]
        subprocess.run(
            [compiler, *_FLAGS, *sources, "-o", str(built)], check=True, capture_output=True
        )
        digest.write_bytes(file_hash(built).encode())
        for file, place in ((built, library), (digest, stated)):
            file.chmod(0o644)
            os.replace(file, place)
    return library


def _kept_in() -> Path:
    """Where it is kept: this user's cache folder, where nobody else can change it; else a folder
    that lasts as long as this process."""
    cache = paths.cache()
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if cache.stat().st_uid == os.geteuid():
            cache.chmod(cache.stat().st_mode & ~_OTHERS_WRITE)
            return cache
    private = new_temporary_folder()
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    return private


def _is_own(file: Path) -> bool:
    """Whether it is a file of this user's that no other can write."""
    try:
        found = file.lstat()
    except OSError:
        return False
    own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    return own and not found.st_mode & _OTHERS_WRITE


def _cpu() -> bytes:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"".join(sorted({line for line in lines if line.startswith((b"flags", b"model name"))}))
