"""The forms that a board is written in: each is one function from the board to text.

Other packages bring forms by entry points of the group `vsml_bench.formats`: the point's name is
the form's, its value "package.module:NAME" of a `Format`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsml_bench.boards.board import Board
from vsml_bench.boards.markdown import to_markdown
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.plugins import with_installed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Format", "find_format", "formats", "to_csv", "to_frame", "to_json", "to_markdown"]

ENTRY_POINT_GROUP = "vsml_bench.formats"


@dataclass(frozen=True)
class Format:
    """A form that a board is written in."""

    text: Callable[[Board], str]
    ending: str
    """Of its file, `board.ENDING`."""


def to_frame(board: Board) -> pd.DataFrame:
    """One line per row of the board, with the columns that CSV has."""
    import pandas as pd

    names = board.names("csv")
    return pd.DataFrame([[row[name] for name in names] for row in board.rows], columns=names)


def to_json(board: Board) -> str:
    """`Board.document`, null where there is no number."""
    return json.dumps(board.document(), indent=1, allow_nan=False) + "\n"


def to_csv(board: Board) -> str:
    """`to_frame` as CSV with a header line; an empty field where there is no number."""
    return to_frame(board).to_csv(index=False, lineterminator="\n")


FORMATS: Mapping[str, Format] = {
    "markdown": Format(to_markdown, "md"),
    "csv": Format(to_csv, "csv"),
    "json": Format(to_json, "json"),
}
"""Name, as the command line knows it -> format."""


def formats() -> dict[str, Format]:
    """All formats by name: the shipped ones, then those of other packages.

    Raises VsmlBenchError where two have the same name.
    """
    return with_installed(FORMATS, ENTRY_POINT_GROUP, "format", Format)


def find_format(name: str) -> Format:
    """The format of that name; VsmlBenchError naming the closest where there is none."""
    known = formats()
    if name not in known:
        raise VsmlBenchError(f"unknown format '{name}'; {closest(name, known)}")
    return known[name]
