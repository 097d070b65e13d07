"""Writes IDX files as the MNIST family's authors did, for tests of their reader."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def idx(array: Bytes) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        ">" + "I" * array.ndim, *array.shape
    )
    return header + array.tobytes()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_pair(
    folder: Path, prefix: str, images: Bytes, labels: Bytes, suffix: str = ".gz"
) -> None:
    write(folder / f"{prefix}-images-idx3-ubyte{suffix}", idx(images))
    write(folder / f"{prefix}-labels-idx1-ubyte{suffix}", idx(labels))


def images_and_labels(count: int, seed: int, low: int = 0, high: int = 256) -> tuple[Bytes, Bytes]:
    generator = np.random.default_rng(seed)
    images = generator.integers(low, high, (count, 28, 28)).astype(np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def write_dataset(folder: Path, train: int, test: int, seed: int, **kwargs: int) -> None:
    write_pair(folder, "train", *images_and_labels(train, seed, **kwargs))
    write_pair(folder, "t10k", *images_and_labels(test, seed + 1, **kwargs))
