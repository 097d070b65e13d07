"""Names and reasons of any signs do no harm in any form."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.boards.factory import make_plan, run
from tests.boards.test_page import HOSTILE
from vsml_bench.boards.board import Board, build_board
from vsml_bench.boards.formats import to_csv, to_frame, to_latex, to_markdown, to_wide_csv
from vsml_bench.boards.formats.escaping import field, latex, markdown
from vsml_bench.boards.texts import plain
from vsml_bench.boards.two_learners import two_learners

SIGNS = "\\|<>[]{}$&#%_^~*`'\"=+-@!,;:\n\r\t\x00\x1b\x7f\u202e\u200f\u2028\u2066ab1é "
TEXTS = st.text(st.sampled_from(SIGNS), min_size=1, max_size=12) | st.text(min_size=1, max_size=12)
COMPILER = next(filter(shutil.which, ("tectonic", "lualatex", "pdflatex")), "")


def board(name: str, reason: str = "no luck") -> Board:
    plans = [make_plan(split, of, recipe=None) for split in "xy" for of in (name, "plain")]
    cells = [run(plans[0]), run(plans[1], [0.4, 0.5, 0.6]), run(plans[2])]
    cells.append(run(plans[3], status="crashed", reason=reason))
    return build_board("desk", cells, plans)


def unescaped(text: str, sign: str) -> int:
    """How often the sign stands there without a backslash of its own."""
    return len(re.sub(r"\\.", "", text).split(sign)) - 1


@given(TEXTS)
@settings(deadline=None, max_examples=150)
@example("\\")
@example("a\\|b")
def test_what_is_escaped_is_one_line_of_text(text: str) -> None:
    for escape in (plain, markdown, latex, field):
        assert escape(text).isprintable(), "no sign that controls a terminal or turns a text"
    assert unescaped(markdown(text), "|") == unescaped(markdown(text), "[") == 0
    assert "<" not in markdown(text)
    assert not re.match(r"[=+\-@]", field(text))
    assert balanced(latex(text))
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}"
    rest = re.sub(rf"{commands}|\{{\\char\d\d\}}|\\[&%$#_{{}}]|\{{[\[\]*]?\}}", "", latex(text))
    assert not re.search(r"[\\{}$&#%_^~<>|\"`*\[\]]", rest), "nothing is left that LaTeX reads"
    assert "--" not in latex(text)


def balanced(text: str) -> bool:
    """Whether braces are, escaped ones apart."""
    depth = 0
    for sign in re.sub(r"\\[\\{}]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0


def side_by_side(of: Board) -> str:
    (name,) = {row.group.learner for row in of.rows} - {"plain"}
    return two_learners(of, name, "plain").markdown()


@given(TEXTS, TEXTS)
@settings(deadline=None, max_examples=15)
@example("| a |\n# b", "<script>x</script>\n| c")
def test_a_board_keeps_its_shape_whatever_a_learner_is_called(name: str, reason: str) -> None:
    of = board("other" if name == "plain" else name, f"no {reason}")
    harmless = board("harmless")
    for form in (
        to_markdown,
        lambda b: two_learners(b, b.rows[0].group.learner, "plain").markdown(),
    ):
        found, expected = (form(b).split("\n") for b in (of, harmless))
        assert [line[:1] for line in found] == [line[:1] for line in expected]
        for line, other in zip(found, expected, strict=True):
            if line.startswith("|"):
                assert unescaped(line, "|") == unescaped(other, "|")
    lines, others = (to_latex(b).split("\n") for b in (of, harmless))
    assert len(lines) == len(others)
    for line, other in zip(lines[3:], others[3:], strict=True):
        assert unescaped(line, "&") == unescaped(other, "&") and balanced(line)
    for text, names in ((to_csv(of), to_frame(of)["learner"]), (to_wide_csv(of), None)):
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1
        assert names is None or len(rows) == 1 + len(names)
        assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-\D", cell)]


def test_the_table_is_what_booktabs_has() -> None:
    lines = to_latex(board("vsml")).splitlines()
    assert lines[3:6] == [
        r"\begin{tabular}{llrrr}",
        r"\toprule",
        r"learner & place & all splits & x & y \\",
    ]
    assert lines[7].startswith("vsml & 1 & $60.0 \\pm ")
    assert lines[8] == r"\addlinespace" and lines[9].endswith(r" & crashed \\")
    assert lines[10:] == [r"\bottomrule", r"\end{tabular}"]


@pytest.mark.skipif(not COMPILER, reason="no LaTeX (Debian: apt install texlive-latex-recommended)")
def test_latex_compiles(tmp_path: Path) -> None:
    tables = [to_latex(board(name)) for name in (*HOSTILE, SIGNS, "--*[x]")]
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}"
    text = "\n\n".join([head, *tables, r"\end{document}"])
    (tmp_path / "boards.tex").write_text(text, encoding="utf-8")
    options = [] if COMPILER == "tectonic" else ["-halt-on-error", "-interaction=nonstopmode"]
    subprocess.run([COMPILER, *options, "boards.tex"], cwd=tmp_path, check=True)
    assert (tmp_path / "boards.pdf").stat().st_size > 0
