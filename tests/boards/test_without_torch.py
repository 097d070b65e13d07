"""A board of stored cells needs neither PyTorch nor data nor learners' code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.boards.factory import make_cell
from vsml_bench.evaluation.cell import save_cell

PROGRAM = """
import importlib, json, pkgutil, sys
from pathlib import Path



class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("no torch here")


sys.meta_path.insert(0, NoTorch())
import vsml_bench.boards
from vsml_bench.studies import studies

for module in pkgutil.iter_modules(vsml_bench.boards.__path__, "vsml_bench.boards."):
    importlib.import_module(module.name)
for study in studies().values():
    importlib.import_module(study.sections.partition(":")[0])
slow = [name for name in ("altair", "pandas", "rich", "scipy", "tabulate") if name in sys.modules]

from vsml_bench.boards.board import build_board
from vsml_bench.boards.formats import FORMATS
from vsml_bench.evaluation.cell import load_cells

cells, problems = load_cells(Path(sys.argv[1]))
board = build_board("desk", cells, [cell.plan for cell in cells], problems, "robustness")
texts = {name: form.text(board) for name, form in FORMATS.items()}
print(json.dumps([slow, texts["json"]]))
"""


def test_a_board_of_stored_cells(tmp_path: Path) -> None:
    for seed in (0, 1):
        save_cell(tmp_path, make_cell("r/unchanged", seed=seed))
        save_cell(tmp_path, make_cell("r/inverted", seed=seed, unchanged="r/unchanged"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    slow, text = json.loads(done.stdout)
    assert slow == [], "imported before anybody needs them"
    document = json.loads(text)
    assert [row["mean"] for row in document["rows"]] == [0.6, 0.6]
    assert document["problems"] == document["stale"] == []
    titles = [section["title"] for section in document["sections"]]
    assert titles == ["Invariance card: against r/unchanged", "Invariance card in numbers"]
