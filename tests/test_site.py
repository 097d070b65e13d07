"""The site of all published boards, from their cells alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vsml_bench import paths

PROGRAM = """
import sys
from pathlib import Path


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "sklearn"):
            raise ImportError("not here")


sys.meta_path.insert(0, NoTorch())
from tools.site import main

main(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_every_published_board_has_its_page_without_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    published = {path.parent.name for path in paths.results().glob("*/cells")}
    assert done.stdout == f"{len(published)} boards: {tmp_path / 'index.html'}\n"
    index = (tmp_path / "index.html").read_text()
    links = re.findall(r'href="([^"]*)"', index)
    assert {f"{name}.html" for name in published} <= set(links)
    for link in links:
        assert (tmp_path / link).is_file()
    for name in published:
        assert (tmp_path / f"{name}.html").stat().st_size < 3_000_000
        assert f"<td><code>{_hash(tmp_path / f'{name}.html')[:12]}</code></td>" in index
        board = json.loads((paths.results() / name / "board.json").read_text(encoding="utf-8"))
        assert _hash(tmp_path / f"{name}.html") == board["board_hash"], "one board, two forms"


def _hash(page: Path) -> str:
    found = re.search(r"hash ([0-9a-f]{64})", page.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]
