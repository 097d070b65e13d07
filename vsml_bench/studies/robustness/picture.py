"""The invariance card as a picture: learners by changes, coloured by the difference in accuracy."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vsml_bench.studies import Section
from vsml_bench.studies.robustness.board import COLUMNS, NUMBERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: Any = {
    "svg.hashsalt": "vsml-bench",  # the same board gives the same bytes
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
}
CELL = (0.62, 0.3)  # inches
MARGIN = (1.9, 1.7)  # inches, for the names of learners and of changes


def card(sections: Sequence[Section]) -> dict[str, bytes]:
    """`card.svg` and `card.png`: one map for each split that others are compared with, in points of
    100, red where a change costs accuracy; values whose 95 % interval leaves out 0 are bold. Empty
    where the sections have no such numbers.
    """
    rows = [
        dict(zip(COLUMNS, row, strict=True))
        for section in sections
        if section.title == NUMBERS
        for row in section.rows
    ]
    if not rows:
        return {}
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    homes = list(dict.fromkeys(str(row["against"]) for row in rows))
    maps = [[row for row in rows if row["against"] == home] for home in homes]
    sizes = [(len(_names(of, "split")), len(_names(of, "learner"))) for of in maps]
    limit = max(abs(float(row["difference"] or 0)) for row in rows) or 1.0
    width = MARGIN[0] + CELL[0] * max(columns for columns, _ in sizes)
    heights = [MARGIN[1] + CELL[1] * lines for _, lines in sizes]
    pictures = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
        for home, of, ax in zip(homes, maps, axes, strict=True):
            _draw(ax, home, of, 100 * limit)
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            pictures[f"card.{kind}"] = buffer.getvalue()
    return pictures


def _draw(ax: Axes, home: str, rows: Sequence[Mapping[str, Any]], limit: float) -> None:
    import numpy as np

    learners, splits = _names(rows, "learner"), _names(rows, "split")
    values = np.full((len(learners), len(splits)), np.nan)
    for row in rows:
        y, x = learners.index(row["learner"]), splits.index(row["split"])
        values[y, x] = 100 * row["difference"]
        decided = row["low"] > 0 or row["high"] < 0
        ax.text(
            x,
            y,
            f"{round(values[y, x], 1) + 0.0:+.1f}",
            ha="center",
            va="center",
            color="white" if abs(values[y, x]) > 0.6 * limit else "black",
            fontweight="bold" if decided else "normal",
        )
    ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.set_title(
        f"Change of accuracy in points, against {home}; bold: the 95 % interval leaves out 0"
    )
    ax.set_xticks(range(len(splits)), [name.rsplit("/", 1)[-1] for name in splits])
    ax.tick_params(axis="x", rotation=45, length=0)
    ax.tick_params(axis="y", length=0)
    for label in ax.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(learners)), learners)


def _names(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))
