"""The raw outcome of every step of every lifetime, and its compact form in JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from vsml_bench.errors import VsmlBenchError

_LARGEST_LOSS = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of each prediction. Equal where every step is."""

    correct: npt.NDArray[np.bool_]  # [lifetimes, T]
    loss: npt.NDArray[Any]
    """Cross-entropy in nats [lifetimes, T]. Any finite float goes in and is kept as float16: three
    digits suffice for a curve. What exceeds float16's 65504 nats is kept as 65504."""
    traces: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """What the protocol measured besides: name -> [lifetimes, ...], kept as float32; NaN where
    there was nothing."""

    def __post_init__(self) -> None:
        correct, loss = np.asarray(self.correct), np.asarray(self.loss)
        if correct.dtype != np.bool_ or correct.ndim != 2 or 0 in correct.shape:
            raise VsmlBenchError(
                f"outcomes: correct is {correct.dtype} of shape {correct.shape}; expected bool "
                "[lifetimes, steps], neither empty."
            )
        if loss.shape != correct.shape or not np.isfinite(loss).all():
            raise VsmlBenchError(
                f"outcomes: expected one finite loss per prediction, shape {correct.shape}; found "
                f"shape {loss.shape} with {int((~np.isfinite(loss)).sum())} not finite."
            )
        small = np.clip(loss, -_LARGEST_LOSS, _LARGEST_LOSS).astype("<f2")
        object.__setattr__(self, "correct", _read_only(correct))
        object.__setattr__(self, "loss", _read_only(small))
        traces = {name: np.asarray(trace, "<f4") for name, trace in self.traces.items()}
        for name, trace in traces.items():
            if trace.ndim == 0 or 0 in trace.shape or len(trace) != len(correct):
                raise VsmlBenchError(
                    f"outcomes: trace '{name}' has shape {trace.shape}; expected [lifetimes, ...] "
                    f"with {len(correct)} lifetimes, and nothing empty."
                )
        object.__setattr__(self, "traces", {n: _read_only(t) for n, t in traces.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes):
            return NotImplemented
        return (
            np.array_equal(self.correct, other.correct)
            and np.array_equal(self.loss, other.loss)
            and self.traces.keys() == other.traces.keys()
            and all(
                np.array_equal(trace, other.traces[name], equal_nan=True)
                for name, trace in self.traces.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]


def outcomes_hash(outcomes: Outcomes) -> str:
    """SHA-256 of every number, independent of how they are compressed."""
    digest = hashlib.sha256(repr(outcomes.correct.shape).encode())
    digest.update(np.packbits(outcomes.correct).tobytes())
    digest.update(outcomes.loss.tobytes())
    for name, trace in sorted(outcomes.traces.items()):
        digest.update(repr((name, trace.shape)).encode())
        # of NaN there are many
        digest.update(np.where(np.isnan(trace), np.float32(np.nan), trace).tobytes())
    return digest.hexdigest()


def encode_outcomes(outcomes: Outcomes) -> dict[str, Any]:
    """JSON-ready: correctness as packed bits, losses as float16 with the high bytes first and then
    the low ones, since like compresses with like; traces as float32. Each zlib-compressed, in
    base64."""
    lifetimes, steps = outcomes.correct.shape
    halves = np.ascontiguousarray(outcomes.loss).view(np.uint8).reshape(-1, 2)
    encoded: dict[str, Any] = {
        "lifetimes": lifetimes,
        "steps": steps,
        "correct": _pack(np.packbits(outcomes.correct).tobytes()),
        "loss": _pack(halves[:, ::-1].T.tobytes()),
    }
    if outcomes.traces:
        encoded["traces"] = {
            name: {"shape": list(trace.shape), "float32": _pack(trace.tobytes())}
            for name, trace in outcomes.traces.items()
        }
    return encoded


def decode_outcomes(encoded: Any, where: str) -> Outcomes:
    """What `encode_outcomes` was given. where: what to call the source in the VsmlBenchError that
    is raised for anything else."""
    try:
        lifetimes, steps = encoded["lifetimes"], encoded["steps"]
        if not (type(lifetimes) is type(steps) is int and lifetimes > 0 and steps > 0):
            raise ValueError("lifetimes and steps must be positive whole numbers")
        count = lifetimes * steps
        bits = np.frombuffer(_unpack(encoded["correct"], -(-count // 8)), np.uint8)
        high_low = np.frombuffer(_unpack(encoded["loss"], 2 * count), np.uint8).reshape(2, -1)
        traces = {n: _decode_trace(trace) for n, trace in encoded.get("traces", {}).items()}
    except (
        *(AttributeError, KeyError, TypeError, ValueError, OverflowError),
        *(zlib.error, binascii.Error),
    ) as error:
        raise VsmlBenchError(
            f"{where}: its outcomes cannot be decoded ({error}); delete the file and run the cell "
            "again."
        ) from error
    correct = np.unpackbits(bits, count=count).astype(np.bool_).reshape(lifetimes, steps)
    loss = np.ascontiguousarray(high_low[::-1].T).view("<f2").reshape(lifetimes, steps)
    return Outcomes(correct, loss, traces)


def _decode_trace(encoded: Any) -> npt.NDArray[np.float32]:
    shape = encoded["shape"]
    if not all(type(size) is int and size > 0 for size in shape):
        raise ValueError("the sizes of a trace must be positive whole numbers")
    return np.frombuffer(_unpack(encoded["float32"], 4 * prod(shape)), "<f4").reshape(shape)


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _unpack(text: str, size: int) -> bytes:
    stream = zlib.decompressobj()
    # Never more than expected, whatever a hostile file would expand to.
    data = stream.decompress(base64.b64decode(text, validate=True), size + 1)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} were expected")
    return data


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array
