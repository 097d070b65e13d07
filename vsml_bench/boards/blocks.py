"""Tables that fit a width: as many columns as go beside the leading ones, then the next ones below.

No line is longer than the width, and no text moves a terminal's cursor, changes its colours or
turns its writing round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsml_bench.boards.texts import plain

if TYPE_CHECKING:
    from rich.table import Table

_GAP = 2
"""Cells between two columns."""


@dataclass(frozen=True)
class Field:
    """A column; its texts may be anything."""

    cells: tuple[str, ...]
    head: str
    below: str = ""
    """What the head says on a further line."""
    bold: frozenset[int] = frozenset()
    """Cells that are bold where that is possible."""


def blocks(
    lead: Sequence[Field],
    columns: Sequence[Field],
    ends: set[int],
    width: int,
) -> Iterator[Table]:
    """Tables of the leading columns and as many others as fit beside them, in order.

    lead: of these, the last ones are left out where they would leave no room. ends: rows that an
    empty line follows. width: in cells, at least 40.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    most = max(4, width // (2 * len(lead)) - _GAP)
    while sum(min(most, _width(column)) + _GAP for column in lead) > width - 12:
        lead = lead[:-1]
    room = width - sum(min(most, _width(column)) + _GAP for column in lead)
    waiting = list(columns)
    while True:
        taken: list[Field] = []
        left = room
        while waiting and (not taken or _width(waiting[0]) + _GAP <= left):
            taken.append(waiting.pop(0))
            left -= _width(taken[-1]) + _GAP
        limits = [(column, most) for column in lead] + [(column, room - _GAP) for column in taken]
        widths = [min(_width(column), limit) for column, limit in limits]
        heads = [_head(column, wide) for (column, _), wide in zip(limits, widths, strict=True)]
        tallest = max(len(head) for head in heads)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        lines = []
        for (column, _), wide, head in zip(limits, widths, heads, strict=True):
            title = Text("\n" * (tallest - len(head)) + "\n".join(head))
            table.add_column(title, width=wide, no_wrap=True)
            lines.append(
                [
                    Text(
                        "\n".join(_folded(cell, wide)), style="bold" if index in column.bold else ""
                    )
                    for index, cell in enumerate(column.cells)
                ]
            )
        for index, line in enumerate(zip(*lines, strict=True)):
            table.add_row(*line, end_section=index in ends)
        yield table
        if not waiting:
            return


def _head(column: Field, wide: int) -> list[str]:
    lines = [*_folded(column.head, wide), *_folded(column.below, wide)]
    return [line for line in lines if line]


def _width(column: Field) -> int:
    """As wide as its widest cell; its head is folded into that, and no word of it breaks before
    its 12th letter."""
    from rich.cells import cell_len

    words = [cell_len(piece.strip()) for piece in _pieces(plain(f"{column.head} {column.below}"))]
    cells = [cell_len(plain(cell)) for cell in column.cells]
    return max([1, *cells, *(min(word, 12) for word in words)])


def _folded(text: str, wide: int) -> list[str]:
    """Lines of at most `wide` cells, broken after a space or one of -/_ where that is possible."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for piece in _pieces(plain(text)):
        if cell_len(lines[-1]) + cell_len(piece.rstrip()) <= wide:
            lines[-1] += piece
        else:
            lines += chop_cells(piece.rstrip(), wide) if cell_len(piece) > wide else [piece]
    return [line.rstrip() for line in lines if line.strip()] or [""]


def _pieces(text: str) -> list[str]:
    return re.findall(r"[^\s/_-]*(?:[/_-]+|\s+|$)", text)
