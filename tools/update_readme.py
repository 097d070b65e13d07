"""Copies a few columns of the published desk board into the README, between two comments, and
draws its picture: what learners do on tasks as in their meta-training and on data never seen.

python -m tools.update_readme            rewrites what is due
python -m tools.update_readme --check    exits 1 where it would change anything
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vsml_bench import api, paths
from vsml_bench.boards.drawing import to_svg
from vsml_bench.boards.page.pictures import first_sight
from vsml_bench.boards.page.standings import standings

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BOARD = ROOT / "results" / "desk" / "board.json"
SPLITS: Mapping[str, str] = {
    "mnist5k-held-out": "held-out digits",
    "mnist5k-to-fashion_mnist": "Fashion-MNIST",
}
"""The splits that the README shows, beside the mean over all -> what it calls them."""
PICTURED = "learners"
"""The suite whose published board the picture is of."""
PICTURE = ROOT / "docs" / "first_sight.svg"
BLOCK = re.compile(r"(?<=<!-- board:desk -->\n).*?(?=<!-- /board:desk -->)", re.DOTALL)
NO_BOARD = "\n*No board is published yet: `make leaderboard` prints one.*\n\n"

Row = Mapping[str, Any]


def shown(board: Mapping[str, Any]) -> str:
    """What the README shows of a board.json: a table of four columns, its legend, and the hash."""
    rows = board["rows"]
    by_place = {(label(row, rows), row["split"]): row for row in rows}
    lines = [
        [
            learner["label"],
            _over_splits(learner),
            *(_score(by_place.get((learner["label"], split))) for split in SPLITS),
        ]
        for learner in board["learners"]
    ]
    headers = ["learner", "all splits", *SPLITS.values()]
    table = tabulate(lines, headers, tablefmt="github", disable_numparse=True)
    legend = (
        "Cumulative accuracy in %, ± half the 95 % interval; **bold**: no other learner is "
        f"decidedly better. All {len({row['split'] for row in rows})} splits: the mean over them. "
        "[Whole board](results/desk/board.md)."
    )
    if "†" in table:
        legend += " †: one meta-train seed alone."
    return f"\n{table}\n\n{legend}\n\nBoard hash: `{board['board_hash']}`\n\n"


def label(row: Row, rows: Sequence[Row]) -> str:
    """The learner, with its kind of device where it has several on some split, as on boards."""
    kinds: dict[str, set[str]] = {}
    for other in (other for other in rows if other["learner"] == row["learner"]):
        kinds.setdefault(other["split"], set()).add(other["kind"])
    several = any(len(found) > 1 for found in kinds.values()) and row["kind"]
    return f"{row['learner']} ({row['kind']})" if several else str(row["learner"])


def updated(readme: str, board: Mapping[str, Any] | None) -> str:
    """The README's text with the block that `board` asks for; None where none is published.
    Raises ValueError unless the README has exactly one such block."""
    found = len(BLOCK.findall(readme))
    if found != 1:
        raise ValueError(
            f"README.md has {found} blocks from <!-- board:desk --> to <!-- /board:desk -->; "
            "exactly one is needed."
        )
    text = NO_BOARD if board is None else shown(board)
    return BLOCK.sub(lambda _: text, readme)


def published() -> dict[str, Any] | None:
    """The published board.json; None where there is none."""
    if not BOARD.is_file():
        return None
    board: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return board


def picture() -> str:
    """The README's picture as SVG."""
    board = api.stored_board(PICTURED, paths.results() / PICTURED)
    return to_svg(first_sight(standings(board)))


def main() -> int:
    """Rewrites the README and its picture, or with --check only says whether that is due."""
    parser = argparse.ArgumentParser(description="Copy the published board into the README.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is due")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after, drawn = updated(before, published()), picture()
    if after == before and PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == drawn:
        print("README.md shows the boards as published.")
        return 0
    if options.check:
        print("README.md does not show the boards as published; run `make readme`.")
        return 1
    README.write_text(after, encoding="utf-8")
    PICTURE.write_text(drawn, encoding="utf-8")
    print(f"README.md and {PICTURE.name} updated.")
    return 0


def _over_splits(learner: Mapping[str, Any]) -> str:
    if learner["mean"] is None:
        return ""
    half = (learner["mean_high"] - learner["mean_low"]) / 2
    return f"{100 * learner['mean']:.1f} ± {100 * half:.1f}"


def _score(row: Row | None) -> str:
    if row is None or row["mean"] is None:
        return "" if row is None else str(row["status"])
    half = (row["ci_high"] - row["ci_low"]) / 2
    text = f"{100 * row['mean']:.1f} ± {100 * half:.1f}"
    text += " †" if row["seed_variance"] == "not measured" else ""
    return f"**{text}**" if row["rank_low"] == 1 else text


if __name__ == "__main__":
    sys.exit(main())
