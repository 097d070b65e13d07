"""Files for `tools/fuzz_inputs.py` and tests, written by hand, so that they can be wrong."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def toml(document: dict[str, Any]) -> bytes:
    """As inline values, in which a string may be anything and tables may nest."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {text(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        if isinstance(value, float):
            return str(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return "9" * 5_000 if value == 10**5000 else str(value)
        return json.dumps(value)

    lines = [f"{json.dumps(key)} = {text(value)}\n" for key, value in document.items()]
    return "".join(lines).encode()


def torn(data: bytes, random: Random, cut: bool = False) -> bytes:
    """Some bytes changed, or cut off."""
    at = random.randrange(len(data))
    if cut:
        return data[:at]
    return data[:at] + random.randbytes(random.choice((1, 4))) + data[at + random.choice((0, 1)) :]


def storable(value: Any) -> bool:
    """Whether JSON has the value."""
    return not (isinstance(value, float) and value - value != 0) and value != 10**5000


def same(data: bytes, good: bytes) -> bool:
    """Whether they say the same, blanks apart."""
    try:
        return bool(json.loads(data) == json.loads(good))
    except (ValueError, RecursionError):
        return False


def idx(shape: tuple[int, ...], data: bytes) -> bytes:
    """An IDX file of bytes, whose header says so."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + data


def png(width: int, height: int) -> bytes:
    """A picture whose header says so, with next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sum_

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
