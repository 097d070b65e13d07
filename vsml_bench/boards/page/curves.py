"""How accuracy grows over the examples of a lifetime, in windows that grow as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vsml_bench.boards import statistics
from vsml_bench.boards.groups import Group

WINDOWS = 24
FIRST = 10
"""Examples in the first window."""


@dataclass(frozen=True)
class Curve:
    """Mean accuracy in each window with its 95 % interval; all in [0, 1]."""

    ends: tuple[int, ...]
    """The last example of each window, counted from 1; a window begins after the one before."""
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def windows(steps: int, width: int | None = None) -> list[int]:
    """Last examples of the windows, in even ratios from `FIRST` to the last step; or of windows of
    as many examples as `width`, the last one of what is left."""
    if width is not None:
        return [*range(width, steps, width), steps]
    ends = np.geomspace(min(FIRST, steps), steps, WINDOWS).round().astype(int)
    return [int(end) for end in np.unique(ends)]


def curve(group: Group, width: int | None = None) -> Curve | None:
    """width: as in `windows`. None where there is no score, or where predictions are no stream."""
    if not group.finished or not group.stream:
        return None
    ends = windows(group.correct.shape[2], width)
    parts = [group.part(range(*part)) for part in zip([0, *ends], ends, strict=False)]
    found = [statistics.estimate(of[0], group.has_meta_parameters, of[1]) for of in parts]
    numbers = [[round(getattr(e, name), 4) for e in found] for name in ("mean", "low", "high")]
    return Curve(tuple(ends), *(tuple(each) for each in numbers))
