"""Texts of authors, whose signs must do no harm."""

from __future__ import annotations


def plain(text: str) -> str:
    """On one line, without signs that control a terminal or turn a text around; such a sign is
    written as Python does."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
