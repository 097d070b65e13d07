"""Libraries that `torch.compile` keeps on disk, after a process that was killed while it compiled.

Inductor has the linker write a library to the place where it looks for it the next time, and asks
only whether there is a file. Half a library would then end each later run that needs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from functools import lru_cache
from pathlib import Path

_MAGIC = b"\x7fELF"
_HEADER = struct.Struct("=40xQ10xHH2x")  # where the table of sections is, its rows' bytes, its rows


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
                _discard(library, locks / f"{library.name.split('.')[0]}.lock")


def _discard(library: Path, lock: Path) -> None:
    """lock: the file that Inductor locks while it compiles the library."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_torn(library):
            library.unlink()
    except BlockingIOError:
        pass
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
