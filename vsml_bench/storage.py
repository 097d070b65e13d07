"""Files that survive a kill and tell when they were changed: atomic writes and sealed JSON.

Nothing here, nor in what builds on it, ever unpickles: a stored file can state wrong facts, but it
cannot run code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vsml_bench.errors import VsmlBenchError
from vsml_bench.owners import temporary_name

_SEAL = "sha256"
_PROBE = b"\0" * 4096


def write_atomically(path: Path, data: bytes) -> None:
    """Writes the file so that a reader, or a crash at any moment, finds the old content or the new.

    Missing folders are created. Raises VsmlBenchError where it cannot be written; the old file then
    remains and nothing else is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_temporary(path.parent, data)
        try:
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        _refuse(f"cannot write {path.name} into the folder {path.parent}", error)


def check_writable(folder: Path) -> None:
    """Creates the folder if need be and proves that a file can be written there; VsmlBenchError
    otherwise. For use before any work whose result would have nowhere to go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_temporary(folder, _PROBE).unlink()
    except OSError as error:
        _refuse(f"cannot write into the folder {folder}", error)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no blanks, ASCII; the same on every platform.

    Raises VsmlBenchError for NaN and infinities, which JSON does not have.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise VsmlBenchError(
            f"cannot store the value as JSON ({error}); use finite numbers only."
        ) from error


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 of bytes, or of a text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes; "" where there is none."""
    try:
        return sha256_hex(Path(path).read_bytes())
    except OSError:
        return ""


def seal(document: Mapping[str, Any]) -> bytes:
    """The document as readable JSON that carries a SHA-256 of itself, under the key `sha256`.

    The hash is over the canonical JSON of everything else, so blanks and line ends, which tools
    such as git may change, do not break the seal.
    """
    if _SEAL in document:
        raise VsmlBenchError(f"cannot seal a document that has the key '{_SEAL}'; rename the key.")
    sealed = {**document, _SEAL: sha256_hex(canonical_json(document))}
    return (json.dumps(sealed, sort_keys=True, indent=1) + "\n").encode("ascii")


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """The document in `data`, without its seal.

    where: what to call the file in errors. Raises VsmlBenchError where the data are torn, tampered
    with or no sealed document at all.
    """
    remedy = "restore the file, or delete it and let it be made again"
    try:
        document = json.loads(data, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"{where} is torn or no vsml-bench record ({first})"
        raise VsmlBenchError(f"{problem}; {remedy}.") from error
    if not isinstance(document, dict) or not isinstance(document.get(_SEAL), str):
        raise VsmlBenchError(f"{where} is no vsml-bench record: it has no SHA-256; {remedy}.")
    stated = document.pop(_SEAL)
    try:
        intact = sha256_hex(canonical_json(document)) == stated
    except (VsmlBenchError, RecursionError):
        intact = False
    if not intact:
        raise VsmlBenchError(
            f"{where} was changed after it was written: its content does not match its SHA-256; "
            f"{remedy}."
        )
    return document


def _write_temporary(folder: Path, data: bytes) -> Path:
    # Not `tempfile`: its files are readable by their owner only, and results are to be shared.
    path = folder / temporary_name(".tmp")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the file is complete all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _refuse(what: str, error: OSError) -> NoReturn:
    raise VsmlBenchError(
        f"{what} ({error.strerror or error}); make it writable and free space there, or choose "
        "another folder."
    ) from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
