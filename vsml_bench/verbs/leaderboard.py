"""`leaderboard`: a suite's board from its cells."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vsml_bench.verbs.options import PATH, add_selection, selection


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_selection(parser)
    cells = "folder of the cells (default: runs/SUITE, or published)"
    parser.add_argument("--results", **PATH, help=cells)
    form = (
        "terminal, markdown, csv (a line per row), csv-wide (a line per learner), json, latex, "
        "html (a page, as a file), or a plug-in's (default: %(default)s)"
    )
    parser.add_argument("--format", default="terminal", help=form)
    same: dict[str, Any] = {"dest": "format", "action": "store_const", "const": "json"}
    parser.add_argument("--json", **same, help="the same as --format json")
    kept = "also write a file of each format, and what a study draws"
    parser.add_argument("--write", action="store_true", help=kept)
    differs = "say how it differs from this board.json or 'published'"
    parser.add_argument("--compare", metavar="BOARD", **PATH, help=differs)


def run(options: argparse.Namespace) -> int:
    """`leaderboard`: the board, printed and, with --write, kept."""
    from vsml_bench import api, paths, suites
    from vsml_bench.boards.formats import find_format, formats
    from vsml_bench.boards.two_boards import compare_boards, describe, read_board
    from vsml_bench.storage import write_atomically
    from vsml_bench.studies import find_study

    board = api.board(options.suite, options.results, **selection(options))
    chosen = find_format(options.format)
    printed = chosen.text(board) if chosen.printed else ""
    # files first: whoever reads the output may stop
    place = api.results_folder(options.suite, options.results, options.scale)
    kept = [form for form in formats().values() if form.ending] if options.write else []
    forms = kept or ([] if chosen.printed else [chosen])
    for form in forms:
        write_atomically(place / f"board.{form.ending}", form.text(board).encode())
    if options.write:
        study = find_study(suites.find_suite(options.suite).study)
        for name, picture in study.pictures_of(board.sections).items():
            write_atomically(place / name, picture)
    if printed:
        print(printed)
    for form in forms:
        if not form.printed:
            print(f"The page of this board: {place / f'board.{form.ending}'}", file=sys.stderr)
    if options.compare:
        published = Path(options.compare)
        if options.compare == "published":
            published = paths.results() / board.suite / "board.json"
        theirs = read_board(published, f"--compare: {published.name} of '{board.suite}'")
        own = board
        if options.results is None:  # without the published cells, which would equal themselves
            own = api.board(options.suite, place, **selection(options))
        print(describe(compare_boards(own.document(), theirs)), file=sys.stderr)
    return 0
