"""Seeds. Every random stream gets a seed of its own, derived from the axes it depends on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Axis = str | int | float | bool


def derive_seed(root: int, *axes: Axis) -> int:
    """A seed in [0, 2**63) for the stream named by `axes` under the root seed.

    SHA-256 over a canonical JSON encoding, so it is the same on every platform, independent
    between streams, and 0 is a seed like any other.
    """
    encoding = json.dumps([root, *axes], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(encoding.encode()).digest()[:8], "big") >> 1


def lifetime_seeds(count: int, *axes: Axis) -> list[int]:
    """Seeds of `count` lifetimes of the stream that `axes` name."""
    return [derive_seed(0, *axes, index) for index in range(count)]


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)


def seed_globally(seed: int, device: torch.device) -> None:
    """Seeds the generators of PyTorch, NumPy and Python that code draws from which is given none,
    such as dropout's."""
    import random

    import numpy as np
    import torch

    # Of that device alone: `torch.manual_seed` goes through all of them, which takes its time.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
