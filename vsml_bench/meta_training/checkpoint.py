"""Checkpoints: meta-parameters in a safetensors file that says what they are and how made.

The file's metadata is one JSON document with a SHA-256 over tensors and document, so that a changed
bit is noticed. Nothing is ever unpickled. What tuning chose is such a document alone, in JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vsml_bench.config import as_plain, build
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution, device_name
from vsml_bench.identity import agrees
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.records import METADATA_KEY, document_of
from vsml_bench.provenance import versions
from vsml_bench.storage import canonical_json, sha256_hex, unseal, write_atomically

_NO_CHECKPOINT = (
    *(SafetensorError, AttributeError, LookupError, TypeError, ValueError),
    RecursionError,  # nested without end
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's content."""

    tensors: dict[str, Tensor]
    document: dict[str, Any]
    """What it is: identity of the meta-training, history, provenance."""
    sha256: str
    """Of tensors and document together."""


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], document: dict[str, Any]) -> None:
    """Writes atomically; VsmlBenchError where the folder cannot be written."""
    write_atomically(path, checkpoint_bytes(tensors, document))


def checkpoint_bytes(tensors: Mapping[str, Tensor], document: dict[str, Any]) -> bytes:
    """A checkpoint file's content.

    Tensors that share memory, as tied weights do, are written once for each name.
    """
    whole = torch.contiguous_format
    plain = {
        name: tensor.detach().cpu().clone(memory_format=whole) for name, tensor in tensors.items()
    }
    sealed = {**document, "sha256": _digest(plain, document)}
    return save(plain, {METADATA_KEY: canonical_json(sealed)})


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies; VsmlBenchError where the file is missing, torn or tampered with."""
    try:
        return read_checkpoint(path.read_bytes(), path.name)
    except OSError as error:
        raise VsmlBenchError(f"cannot read checkpoint {path.name}: {error.strerror}.") from error


def read_checkpoint(data: bytes, name: str) -> Checkpoint:
    """Of a file's content; name: what to call it in the VsmlBenchError of what is none."""
    remedy = "restore it from where it came, or delete it and meta-train again"
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        document = document_of(data[8 : 8 + length])
        stated = document.pop("sha256")
        own = _digest(tensors, document)
    except _NO_CHECKPOINT as error:
        raise VsmlBenchError(
            f"checkpoint {name} is not a complete vsml-bench checkpoint ({error}); {remedy}."
        ) from error
    if stated != own:
        raise VsmlBenchError(
            f"checkpoint {name} was changed after it was written: its content does not match "
            f"its SHA-256; {remedy}."
        )
    return Checkpoint(tensors, document, stated)


def load_artifact(path: Path) -> Checkpoint:
    """A checkpoint, or a tuning record as one without tensors; VsmlBenchError where it is missing,
    torn, was changed after it was written, or says what no run writes."""
    if path.suffix == ".safetensors":
        found = load_checkpoint(path)
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = f"cannot read tuning record {path.name}: {error.strerror}."
            raise VsmlBenchError(reason) from error
        found = Checkpoint({}, unseal(data, path.name), sha256_hex(data))
    try:
        whole = _is_whole(found.document, path.name)
    except (AttributeError, LookupError, TypeError, ValueError):
        whole = False
    if not whole:
        raise VsmlBenchError(
            f"{path.name} is no record of a meta-training or tuning, or has the identity of "
            "another one than it says was run; restore it from where it came, or delete it."
        )
    return found


def _is_whole(document: Mapping[str, Any], where: str) -> bool:
    """Whether it has what replay and merging read, and the identity of its own job. Raises
    LookupError, TypeError and the like where it has not."""
    job = build(Job, document["job"], where)
    if job.recipe is None:
        trials = [
            (dict(t["values"]), float(t["accuracy"]), float(t["loss"])) for t in document["trials"]
        ]
        has_outcome = document["best"] in [values for values, *_ in trials]
    else:
        has_outcome = all(isinstance(loss, float) for loss in document["first_losses"])
    identity = document["identity"]
    return (
        has_outcome
        and all(isinstance(content, str) for content in document["data_hashes"].values())
        and identity["seed"] == job.seed
        and agrees(identity, as_plain(job.identity(as_plain)))
    )


def origin(
    job: Job,
    data_hashes: Mapping[str, str],
    execution: Execution,
    git: tuple[str, bool],
    command: str,
) -> dict[str, Any]:
    """What every document says of where it comes from. git: commit, and whether the tree was
    dirty."""
    return {
        "format": 2,
        "job": as_plain(job.published()),
        "identity": job.identity(),
        "data_hashes": data_hashes,
        "command": command,
        "git_commit": git[0],
        "git_dirty": git[1],
        "versions": versions(),
        "device": device_name(execution.device),
    }


def load_meta_parameters(learner: torch.nn.Module, checkpoint: Checkpoint, where: str) -> None:
    """Copies the checkpoint's tensors into the learner; VsmlBenchError where they do not fit."""
    try:
        learner.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise VsmlBenchError(
            f"checkpoint {where} does not fit the learner ({reason}); meta-train it again with "
            "today's code."
        ) from error


def _digest(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(canonical_json(document).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
