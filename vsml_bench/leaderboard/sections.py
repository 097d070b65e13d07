"""What a track may add to its suite's board: tables of its own, pure functions of the cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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


SectionMaker: TypeAlias = Callable[[Sequence[Finished]], Sequence[Section]]
Drawing: TypeAlias = Callable[[Sequence[Section]], Mapping[str, bytes]]
"""From sections to pictures: file name -> content."""
