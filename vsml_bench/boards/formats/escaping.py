r"""Names and reasons are anybody's: what makes them harmless in a table of each form."""

from __future__ import annotations

import re

from vsml_bench.boards.texts import plain

_FORMULA = re.compile(r"[=+\-@＝＋－＠]")
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    # An asterisk or a bracket after the end of a row would be an option of that end.
    **{c: f"{{{c}}}" for c in "[]*"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{\char96}",
}


def markdown(text: str) -> str:
    """Safe in a table and in a list of Markdown: neither a cell, nor HTML, nor a link."""
    escaped = re.sub(r"([\\|\[])", r"\\\1", plain(text))
    return escaped.replace("<", "&lt;")


def latex(text: str) -> str:
    """Safe in a table of LaTeX. Letters that are not Latin stay; for them, use LuaLaTeX."""
    return "".join(_LATEX.get(c, c) for c in plain(text)).replace("--", "-{}-")


def field(text: str) -> str:
    """Safe in a spreadsheet, which runs what begins like a formula."""
    shown = plain(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown
