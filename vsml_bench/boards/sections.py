"""The form of what a study adds to its suites' boards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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
