"""A table is written as JSON and as the text that is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.document import parser, publish
from vsml_bench import paths


def test_a_table_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"rows": [{"ratio": 1.5}]}
    publish(document, lambda found: f"{found['rows'][0]['ratio']}x", tmp_path / "new", "table")
    assert json.loads((tmp_path / "new" / "table.json").read_text(encoding="utf-8")) == document
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8") == "1.5x"
    assert capsys.readouterr().out == "1.5x\n"


def test_tables_go_beside_the_published_ones_unless_told_otherwise(tmp_path: Path) -> None:
    assert parser("").parse_args([]).out == paths.results() / "speed"
    assert parser("").parse_args(["--out", str(tmp_path)]).out == tmp_path
