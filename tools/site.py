"""All published boards as a folder of pages with an index, which any static host can serve: from
their cells alone, without PyTorch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from vsml_bench import api, paths, suites
from vsml_bench.boards.page.index import Entry, entry, to_index
from vsml_bench.boards.page.page import picture, to_html
from vsml_bench.boards.page.speed import PAGES, read_speed
from vsml_bench.storage import write_atomically


def main(out: Path) -> None:
    """Writes the site into the folder `out`."""
    entries: list[Entry] = []
    pages = paths.results() / "speed" / "pages"
    speed = read_speed(pages)
    known = suites.suite_names()
    for folder in sorted(paths.results().iterdir()):
        if folder.name in known and (folder / "cells").is_dir():
            board = api.stored_board(folder.name, folder)
            write_atomically(out / f"{folder.name}.html", to_html(board, speed).encode())
            write_atomically(out / f"{folder.name}.svg", picture(board).encode())
            entries.append(entry(board, suites.find_suite(folder.name).description))
    if speed is not None:
        shutil.copytree(pages, out / PAGES, dirs_exist_ok=True)
    index = to_index(entries, speed=speed is not None)
    write_atomically(out / "index.html", index.encode())
    print(f"{len(entries)} boards: {out / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
