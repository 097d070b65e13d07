"""Copies the published boards into the README and the pages of docs/, between two comments each.

python tools/update_readme.py            rewrites what is due
python tools/update_readme.py --check    exits 1 where it would change anything
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=<!-- board:desk -->\n).*?(?=<!-- /board:desk -->)", re.DOTALL)
SECTION = re.compile(
    r"(?P<begin><!-- section:(?P<suite>\S+) (?P<title>.+?) -->\n).*?(?P<end><!-- /section -->)",
    re.DOTALL,
)
NO_SECTION = "*Not published yet.*\n"
NO_BOARD = "*No board is published yet: `make leaderboard` prints one.*\n"


def matrix_part(board: str) -> str:
    """What the README shows of a board.md: the table of all learners and splits with its legend,
    and the board's hash, but neither the title nor the sections on single splits."""
    body = re.split(r"^## ", board, maxsplit=1, flags=re.MULTILINE)[0]
    shown = [part for part in body.strip().split("\n\n") if not part.startswith("# ")]
    hashes = re.findall(r"^Board hash: .*$", board, flags=re.MULTILINE)
    return "\n\n".join([*(part for part in shown if part not in hashes), *hashes]) + "\n"


def updated(readme: str, board: str | None) -> str:
    """The README's text with the block that `board`, the text of a board.md, asks for; None where
    there is no board. Raises ValueError unless the README has exactly one such block."""
    found = len(BLOCK.findall(readme))
    if found != 1:
        raise ValueError(
            f"README.md has {found} blocks from <!-- board:desk --> to <!-- /board:desk -->; "
            "exactly one is needed."
        )
    shown = NO_BOARD if board is None else matrix_part(board)
    return BLOCK.sub(lambda _: f"\n{shown}\n", readme)


def section_part(board: str, title: str) -> str:
    """The text and the table of one section of a board.md, or, of "Leaderboard", `matrix_part`.
    Raises ValueError where there is none of that title."""
    if title == "Leaderboard":
        return matrix_part(board)
    sections = re.split(r"^## ", board, flags=re.MULTILINE)[1:]
    parts = [section.strip().split("\n\n") for section in sections]
    found = [part[1:3] for part in parts if part[0] == title]
    if len(found) != 1:
        raise ValueError(f"a board has {len(found)} sections '{title}'; exactly one is needed.")
    return "\n\n".join(found[0]) + "\n"


def with_sections(text: str, board_of: Callable[[str], str | None]) -> str:
    """A document with every block <!-- section:SUITE TITLE --> filled. board_of: suite -> the text
    of its board.md, None where none is published."""

    def filled(block: re.Match[str]) -> str:
        board = board_of(block["suite"])
        shown = NO_SECTION if board is None else section_part(board, block["title"])
        return f"{block['begin']}\n{shown}\n{block['end']}"

    return SECTION.sub(filled, text)


def published(suite: str) -> str | None:
    """The text of a suite's published board.md."""
    path = ROOT / "results" / suite / "board.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main() -> int:
    """Rewrites the documents, or with --check only says whether that is due."""
    parser = argparse.ArgumentParser(description="Copy the published boards into the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is due")
    options = parser.parse_args()
    due = False
    for path in (README, *sorted((ROOT / "docs").glob("*.md"))):
        before = path.read_text(encoding="utf-8")
        after = updated(before, published("desk")) if path == README else before
        after = with_sections(after, published)
        if after == before:
            continue
        due = True
        if options.check:
            print(f"{path.name} does not show a board as published; run `make readme`.")
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{path.name} updated.")
    if not due:
        print("All documents show the boards as published.")
    return 1 if due and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
