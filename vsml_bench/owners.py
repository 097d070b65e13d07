"""Files that belong to a process while it lives: temporary ones, and claims of work that several
runs in one folder share.

An owner is named by a word that says which process it is, on which start of which machine, in
numbers that name neither: "MACHINE-PID-START". Whether it is alive can be seen on its own machine
alone. Elsewhere, on a file system that several share, files of an owner that lives are young: it
touches them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from vsml_bench.errors import VsmlBenchError

TOUCHED_EVERY = 30.0
"""Seconds between two signs of life."""
ABANDONED = 600.0
"""Age in seconds of files whose owner is on another machine, or unknown, and gives no signs."""
_OWNED = "vsml-bench-"


def own() -> str:
    """The word for this process."""
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid())}"


def is_abandoned(path: Path, owner: str) -> bool:
    """Whether the owner of the file does not live any more."""
    machine, _, process = owner.partition(".")[0].partition("-")
    pid, _, start = process.partition("-")
    if machine == _machine() and pid.isdigit():
        return _start(int(pid)) != start
    with contextlib.suppress(FileNotFoundError):
        return _now(path.parent) - path.stat().st_mtime > ABANDONED
    return False


def temporary_name(ending: str) -> str:
    """A new name for something of this process, for `sweep` to find when that is gone."""
    return f".{own()}.{uuid.uuid4().hex[:12]}{ending}"


def sweep(folder: Path) -> None:
    """Removes from the folder what processes that are gone have left: claims, and what has a
    temporary name. What cannot be removed stays."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if is_abandoned(path, path.name[1:]):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.glob(".*.claim"):
        with contextlib.suppress(OSError), _alone(folder):  # nobody takes it over meanwhile
            if is_abandoned(path, path.read_text(encoding="ascii", errors="replace")):
                path.unlink()


def new_temporary_folder(longest: int = 1_000) -> Path:
    """A folder of this process's among the temporary ones of the system. Those of processes of this
    machine that are gone are removed.

    longest: characters of a path; where the usual place is deeper, the folder is in /tmp.
    """
    places = dict.fromkeys((tempfile.gettempdir(), "/tmp"))
    for path in (path for place in places for path in Path(place).glob(f"{_OWNED}{_machine()}-*")):
        if is_abandoned(path, path.name[len(_OWNED) :]):
            shutil.rmtree(path, ignore_errors=True)
    prefix = f"{_OWNED}{own()}."
    fitting = (place for place in places if len(f"{place}/{prefix}12345678") <= longest)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=next(fitting, "/tmp")))


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """`new_temporary_folder`, removed in the end."""
    folder = new_temporary_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Claim:
    """The right to make one file, which is beside it while somebody does. It can be sent to another
    process, which claims on behalf of this one."""

    def __init__(self, result: Path) -> None:
        self.result = result
        self.owner = f"{own()}.{uuid.uuid4().hex[:12]}"  # no other claim's of this process
        self.before = _version(result)

    @property
    def path(self) -> Path:
        """The claim's own file."""
        return self.result.with_name(f".{self.result.name}.claim")

    def take(self) -> bool:
        """Whether the file is to be made: nobody else who lives makes it, or has made it since this
        claim was thought of."""
        with _alone(self.path.parent):
            if self.is_others() or self.is_done():
                return False
            self.path.unlink(missing_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(self.owner)
        return True

    def take_or_wait(self, waiting: bool = True) -> None:
        """Takes it, or waits until whoever has it has made the file or is gone.

        waiting: False raises VsmlBenchError instead of waiting.
        """
        while not self.take() and self.is_others():
            if not waiting:
                raise VsmlBenchError(
                    f"another run makes {self.result.name}; wait until it has ended."
                )
            time.sleep(1.0)

    def is_others(self) -> bool:
        """Whether somebody else, who lives, has taken it."""
        owner = self._owner()
        return owner is not None and owner != self.owner and not is_abandoned(self.path, owner)

    def is_done(self) -> bool:
        """Whether the file was made since this claim was thought of."""
        return _version(self.result) != self.before

    def release(self) -> None:
        """Gives it back, where it is this one's. The file is made, or never will be."""
        with contextlib.suppress(OSError), _alone(self.path.parent):
            if self._owner() == self.owner:
                self.path.unlink(missing_ok=True)

    def touch(self) -> None:
        """Gives a sign of life, where it is this one's."""
        if self._owner() == self.owner:
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _owner(self) -> str | None:
        try:
            return self.path.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None


@contextlib.contextmanager
def kept(claims: Sequence[Claim]) -> Iterator[None]:
    """Meanwhile, claims that are this process's give signs of life; afterwards they are given
    back."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(TOUCHED_EVERY):
            for claim in claims:
                claim.touch()

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for claim in claims:
            claim.release()


@lru_cache(maxsize=1)
def _machine() -> str:
    """This start of this machine, and which numbers processes have here (a container's are its
    own), as a hash."""
    told = []
    with contextlib.suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        told.append(os.readlink("/proc/self/ns/pid"))
    if len(told) < 2:
        told = [f"{uuid.getnode():x}"]
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:12]


def _start(pid: int) -> str:
    """When the process began, as the system counts; "" where there is none, or its end only waits
    to be noticed."""
    try:
        # after the name, which is in brackets and may have blanks
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        if os.path.exists("/proc/self/stat"):
            return ""
    import psutil

    with contextlib.suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.0f}"
    return ""


def _now(folder: Path) -> float:
    """The time by the clock that files in the folder are dated with."""
    probe = folder / f".{own()}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _version(path: Path) -> tuple[int, int] | None:
    """Another one whenever the file was written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Meanwhile, no other process takes or gives back claims here. Where the file system cannot
    lock folders, two may take over the same abandoned claim."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
