"""Somebody else's package adds one of each, in one file each: a learner, a dataset, a protocol, a
column, a form of boards, a study, and a way to run. Nothing of vsml-bench is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import LATE, LEARNER, STRIPES, write, write_split, write_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

FILES = {
    "__init__.py": "",
    "idea.py": LEARNER
    + '\nclass Idea(Base):\n    variants = {"idea": Config("x")}\n'
    + "\n    def predict(self, state, inputs):\n        from .late import FACTOR\n\n"
    + "        return state.logits * FACTOR, state\n",
    "late.py": "FACTOR = 2.0\n",
    "stripes.py": STRIPES,
    "late_protocol.py": LATE.replace('"accuracy"', '"late_accuracy"'),
    "right.py": """
from vsml_bench.boards.columns import Column

RIGHT = Column(
    lambda group, board: sum(int(cell.correct.sum()) for cell in group.cells), "right answers"
)
""",
    "lines.py": """
from vsml_bench.boards.formats import Format

LINES = Format(
    lambda board: "".join(f"{r['learner']} {r['metric']} {r['right']}\\n" for r in board.rows),
    "txt",
)
""",
    "study.py": """
from vsml_bench.studies.__init__ import Section
from vsml_bench.studies import Study

STUDY = Study(sections="strange.study:sections")


def sections(finished):
    rows = tuple((group.learner, group.steps) for group in finished)
    return [Section("Of strangers", "Steps.", ("learner", "steps"), rows)]
""",
    "executor.py": """
import importlib
from dataclasses import dataclass, field

from vsml_bench.evaluation.tasks import WORKER
from vsml_bench.evaluation.executors import Executor


@dataclass
class Here(Executor):
    '''Does all work in this process, one task after the other.'''

    titles: list = field(default_factory=list)

    def run(self, tasks, title):
        for task in tasks:
            self.titles.append(title)
            module, _, name = task.function.rpartition(":")
            function = getattr(importlib.import_module(module or WORKER), name)
            yield task.what, function(*task.arguments, lambda share: None)
""",
}
ENTRY_POINTS = """
[vsml_bench.datasets]
stripes = strange.stripes
[vsml_bench.protocols]
late = strange.late_protocol:Late
[vsml_bench.columns]
right = strange.right:RIGHT
[vsml_bench.formats]
lines = strange.lines:LINES
[vsml_bench.studies]
strange = strange.study
"""
PROGRAM = """
import json, sys
from strange.executor import Here
from vsml_bench import api
from vsml_bench.boards.formats import find_format
from vsml_bench.evaluation.cell import load_cells

suite, here, pool = sys.argv[1:]
if __name__ == "__main__":
    executor = Here()
    api.run(suite, out=here, device="cpu", executor=executor)
    torch_by_now = "torch" in sys.modules
    api.run(suite, out=pool, device="cpu", jobs=1, progress=False)
    board = api.board(suite, here)
    cells = [sorted(load_cells(__import__("pathlib").Path(f) / "cells")[0], key=str)
             for f in (here, pool)]
    print(json.dumps({
        "titles": executor.titles,
        "lines": find_format("lines").text(board),
        "right": [int(cell.correct.sum()) for cell in cells[0]],
        "same": [a.key == b.key and (a.outcomes.loss == b.outcomes.loss).all().item()
                 for a, b in zip(*cells, strict=True)],
        "sections": [[s.title, s.rows] for s in board.sections],
        "document": board.document()["rows"],
    }))
"""


def test_one_of_each_makes_a_board(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name, text in FILES.items():
        write(site / "strange" / name, text)
    info = site / "strange-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    write(info / "entry_points.txt", ENTRY_POINTS)
    split = write_split(tmp_path / "striped.toml", "stripes", train="stripes")
    more = 'protocol = "late"\nstudy = "strange"\n[options]\nlast = 7\n'
    suite = write_suite(
        tmp_path / "s.toml", [split], ["strange.idea"], lifetimes=2, steps=20, more=more
    )
    program = write(tmp_path / "program.py", PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(suite), str(tmp_path / "a"), str(tmp_path / "b")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["titles"]) == 2 and found["titles"][1] == "run"
    (right,) = found["right"]
    assert 0 < right < 2 * 7 and found["same"] == [True]
    assert found["lines"] == f"idea late_accuracy {right}\n"
    assert found["sections"] == [["Of strangers", [["idea", 7]]]]
    (row,) = found["document"]
    assert row["right"] == right and row["mean"] == pytest.approx(right / 14)
