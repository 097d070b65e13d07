"""What checkpoints and tuning records say of how they were made, read without PyTorch.

Boards show it. Tensors are not read, so that a checkpoint's SHA-256 is the one that it states;
`verify` computes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.storage import sha256_hex, unseal

METADATA_KEY = "vsml_bench"
"""Of a checkpoint's document in the metadata of its safetensors file."""
_LONGEST = 100_000_000
"""Bytes that safetensors allows a header."""


@dataclass(frozen=True)
class Record:
    """A meta-training, or a tuning."""

    sha256: str
    """By which cells name it."""
    document: Mapping[str, Any]


def document_of(header: bytes) -> dict[str, Any]:
    """The document in the header of a safetensors file; ValueError, LookupError or TypeError where
    there is none."""
    document: dict[str, Any] = json.loads(json.loads(header)["__metadata__"][METADATA_KEY])
    return document


def read_record(path: Path) -> Record:
    """VsmlBenchError where the file is missing or no record."""
    try:
        with path.open("rb") as file:
            if path.suffix != ".safetensors":
                data = file.read()
                return Record(sha256_hex(data), unseal(data, path.name))
            length = int.from_bytes(file.read(8), "little")
            document = document_of(file.read(min(length, _LONGEST)))
        return Record(document.pop("sha256"), document)
    except OSError as error:
        raise VsmlBenchError(f"cannot read {path.name}: {error.strerror}.") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise VsmlBenchError(f"{path.name} is not a complete vsml-bench checkpoint.") from error


def find_records(jobs: Iterable[Job], folders: Sequence[Path]) -> dict[str, Record]:
    """SHA-256 -> record, of those outcomes of the jobs that are in the folders and can be read."""
    found: dict[str, Record] = {}
    for path in dict.fromkeys(find_artifact(job, folders) for job in jobs):
        if path is not None:
            try:
                record = read_record(path)
            except VsmlBenchError:  # a run says so; a board is of its cells
                continue
            found[record.sha256] = record
    return found
