"""Copies the published board into the README, between two comments.

python tools/update_readme.py            rewrites README.md
python tools/update_readme.py --check    exits 1 where it would change anything
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BOARD = ROOT / "results" / "desk" / "board.md"
BLOCK = re.compile(r"(?<=<!-- board:desk -->\n).*?(?=<!-- /board:desk -->)", re.DOTALL)
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


def main() -> int:
    """Rewrites the README, or with --check only says whether that is due."""
    parser = argparse.ArgumentParser(description="Copy the published board into README.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is due")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = updated(before, BOARD.read_text(encoding="utf-8") if BOARD.is_file() else None)
    if after == before:
        print("README.md shows the published board.")
        return 0
    if options.check:
        print("README.md does not show the published board; run `make readme`.", file=sys.stderr)
        return 1
    README.write_text(after, encoding="utf-8")
    print("README.md updated.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
