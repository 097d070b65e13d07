"""The forms that a board is written in: each is one function from the board to text.

Other packages bring forms by entry points of the group `vsml_bench.formats`: the point's name is
the form's, its value "package.module:NAME" of a `Format`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vsml_bench.boards.formats.document import to_json
from vsml_bench.boards.formats.format import Format
from vsml_bench.boards.formats.frame import to_csv, to_frame, to_wide_csv, to_wide_frame
from vsml_bench.boards.formats.latex import to_latex
from vsml_bench.boards.formats.markdown import to_markdown
from vsml_bench.boards.page.page import to_html
from vsml_bench.boards.terminal import to_terminal
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.plugins import with_installed

__all__ = [
    "FORMATS",
    "Format",
    "find_format",
    "formats",
    "to_csv",
    "to_frame",
    "to_html",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_wide_csv",
    "to_wide_frame",
]
ENTRY_POINT_GROUP = "vsml_bench.formats"

FORMATS: Mapping[str, Format] = {
    "terminal": Format(to_terminal, ""),
    "markdown": Format(to_markdown, "md"),
    "csv": Format(to_csv, "csv"),
    "csv-wide": Format(to_wide_csv, "wide.csv"),
    "json": Format(to_json, "json"),
    "latex": Format(to_latex, "tex"),
    "html": Format(to_html, "html", printed=False),
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
