"""The form of what a study adds to its suites' boards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vsml_bench.evaluation.cell import Cell

Value: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Section:
    """A table of the board with what a reader must know of it."""

    title: str
    text: str
    """One paragraph: what the columns are, with their units."""
    headers: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    """None where there is no number. Floats are shown with three decimals."""


@dataclass(frozen=True)
class Finished:
    """A learner that finished a split with every planned seed."""

    split: str
    learner: str
    device: str
    cells: tuple[Cell, ...]
    """One per seed, all with outcomes."""
    unchanged: str = ""
    """The split that this one is with one change; "" for none."""
    has_meta_parameters: bool = True
    """Whether there is anything to meta-train, so that the choice of the seed matters."""

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """[seeds, lifetimes, steps]."""
        return np.stack([cell.outcomes.correct for cell in self.cells if cell.outcomes])
