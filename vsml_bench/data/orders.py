"""In which order a lifetime meets stored examples: a function of its seed and of how many there
are, so that the examples of a lifetime are known without the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsml_bench.seeds import derive_seed


def philox(seed: int) -> np.random.Generator:
    """The generator that all lifetimes are drawn by, the same on every machine."""
    return np.random.Generator(np.random.Philox(seed))


def of_lifetime(seed: int, partition: str, subset: str = "all") -> np.random.Generator:
    """The randomness of a lifetime itself, apart from that of its task."""
    return philox(derive_seed(seed, "stream", partition, subset))


def whole(stream: np.random.Generator, count: int) -> NDArray[np.int64]:
    """All of `count` examples in a random order."""
    return stream.permutation(count)
