"""What `torch.compile` keeps on disk, after a process that was killed while it compiled.

Inductor has compiler and linker write a precompiled header and a library to the place where it
looks for them the next time, and asks only whether there is a file. Half a library would end each
later run that needs it, and with half a header nothing would be compiled any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_MAGIC = b"\x7fELF"
_HEADER = struct.Struct("=40xQ10xHH2x")  # where the table of sections is, its rows' bytes, its rows
_UNREADABLE = re.compile(r"error: .*(PCH|precompiled header|\.gch)")
_INCLUDED = re.compile(r"-include (\S+\.h)\b")


@lru_cache(maxsize=1)
def discard_torn() -> None:
    """Deletes the libraries in Inductor's cache that are empty or end too early, once per process,
    so that they are compiled again. Leaves those that another process is writing now."""
    try:
        from torch._inductor.codecache import get_lock_dir
    except ImportError:  # another PyTorch's
        return
    with contextlib.suppress(OSError):
        locks = Path(get_lock_dir())
        for library in locks.parent.glob("*/*.so"):
            if _is_torn(library):
                with _locked(library, locks) as alone:
                    if alone and _is_torn(library):
                        library.unlink()


def discard_header(error: Exception) -> None:
    """Deletes the precompiled header that a compiler could not read, as its error says, so that the
    next process makes it again. Leaves one that another process is making now."""
    said = str(error)
    for name in _INCLUDED.findall(said) if _UNREADABLE.search(said) else []:
        header = Path(f"{name}.gch")
        with contextlib.suppress(OSError), _locked(header, header.parent / "locks") as alone:
            if alone:
                header.unlink()


@contextlib.contextmanager
def _locked(file: Path, locks: Path) -> Iterator[bool]:
    """Whether the lock that Inductor takes while it makes the file could be had, and is."""
    descriptor = os.open(locks / f"{file.name.split('.')[0]}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _is_torn(library: Path) -> bool:
    """Whether the file is empty, or an ELF file without the table that linkers write last."""
    with contextlib.suppress(FileNotFoundError), library.open("rb") as file:
        header, size = file.read(_HEADER.size), os.fstat(file.fileno()).st_size
        if not header.strip(b"\0"):
            return True
        if not header.startswith(_MAGIC):  # of another system
            return False
        if len(header) < _HEADER.size:
            return True
        table, row, rows = _HEADER.unpack(header)
        return bool(table == 0 or size < table + row * rows)
    return False
