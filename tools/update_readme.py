"""Copies published boards into the documents that show them, between two comments.

python tools/update_readme.py            rewrites the documents
python tools/update_readme.py --check    exits 1 where it would change anything
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def matrix_part(board: str) -> str:
    """What the README shows of a board.md: the table of all learners and splits with its legend,
    and the board's hash, but neither the title nor the sections on single splits."""
    body = re.split(r"^## ", board, maxsplit=1, flags=re.MULTILINE)[0]
    shown = [part for part in body.strip().split("\n\n") if not part.startswith("# ")]
    hashes = _hashes(board)
    return "\n\n".join([*(part for part in shown if part not in hashes), *hashes]) + "\n"


def card_part(board: str) -> str:
    """What the page on robustness shows of a board.md: the invariance card, in short and in
    numbers, one heading lower, what failed or is missing, and the board's hash."""
    sections = re.split(r"^(?=## )", board, flags=re.MULTILINE)[1:]
    wanted = ("## Invariance card", "## Failed and missing", "## Notes")
    shown = [f"#{section.strip()}" for section in sections if section.startswith(wanted)]
    hashes = _hashes(board)
    cleaned = [re.sub(r"^(Run by the code of|Board hash:) .*$", "", s, flags=re.M) for s in shown]
    return "\n\n".join([*(section.strip() for section in cleaned), *hashes]) + "\n"


@dataclass(frozen=True)
class Block:
    """A part of a document, from <!-- board:SUITE --> to <!-- /board:SUITE -->."""

    document: str
    """Its path in the repository."""
    suite: str
    part: Callable[[str], str]
    """What is shown of the text of a board.md."""
    picture: str = ""
    """Of the folder of the suite's results, shown above the rest; "" for none."""

    @property
    def board(self) -> Path:
        """The published board, which need not exist."""
        return ROOT / "results" / self.suite / "board.md"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What stands between the two comments."""
        return re.compile(
            rf"(?<=<!-- board:{self.suite} -->\n).*?(?=<!-- /board:{self.suite} -->)", re.DOTALL
        )

    def shown(self, board: str | None) -> str:
        """What belongs there; `board` is the text of a board.md, None where there is none."""
        if board is None:
            return f"*No board of the suite `{self.suite}` is published yet.*\n"
        if not self.picture:
            return self.part(board)
        up = "../" * self.document.count("/")
        path = f"{up}results/{self.suite}/{self.picture}"
        return f"![The same as a heat map]({path})\n\n{self.part(board)}"


README = Block("README.md", "desk", matrix_part)
BLOCKS = (
    README,
    Block("docs/robustness.md", "robustness", card_part, "card.svg"),
    Block("docs/robustness.md", "robustness-grid", card_part, "card.svg"),
)


def updated(text: str, board: str | None, block: Block = README) -> str:
    """A document's text with the block that `board`, the text of a board.md, asks for; None where
    there is no board. Raises ValueError unless the document has exactly one such block."""
    found = len(block.pattern.findall(text))
    if found != 1:
        raise ValueError(
            f"{block.document} has {found} blocks from <!-- board:{block.suite} --> to "
            f"<!-- /board:{block.suite} -->; exactly one is needed."
        )
    return block.pattern.sub(lambda _: f"\n{block.shown(board)}\n", text)


def published(block: Block) -> str | None:
    """The text of the block's board; None where there is none."""
    return block.board.read_text(encoding="utf-8") if block.board.is_file() else None


def main() -> int:
    """Rewrites the documents, or with --check only says whether that is due."""
    parser = argparse.ArgumentParser(description="Copy published boards into the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is due")
    options = parser.parse_args()
    due = 0
    for block in BLOCKS:
        path = ROOT / block.document
        before = path.read_text(encoding="utf-8")
        after = updated(before, published(block), block)
        if after == before:
            print(f"{block.document} shows the published board of {block.suite}.")
        elif options.check:
            due += 1
            print(
                f"{block.document} does not show the published board of {block.suite}; run "
                "`make readme`.",
                file=sys.stderr,
            )
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{block.document} updated from the board of {block.suite}.")
    return 1 if due else 0


def _hashes(board: str) -> list[str]:
    return re.findall(r"^Board hash: .*$", board, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
