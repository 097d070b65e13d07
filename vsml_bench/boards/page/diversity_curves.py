"""Accuracy by the number of meta-train tasks as a picture, a panel for each learner."""

from __future__ import annotations

from collections.abc import Sequence

from vsml_bench.boards.diversity import Point
from vsml_bench.boards.page.pictures import INK, Specification, finish, tip

_PANEL = (190, 150)
"""Width and height."""
_COLUMNS = 3
_NO_LIMIT = "no limit"


def diversity_curves(points: Sequence[Point]) -> Specification:
    """The picture; points: in the order of panels, and by number of tasks."""
    import altair as alt

    rows = [
        {
            "learner": of.learner,
            "tasks": f"{of.tasks:,}" if of.tasks else _NO_LIMIT,
            "meta-tested on": of.relation.replace("_", " "),
            **{"accuracy": round(100 * of.accuracy, 3)},
            **{"low": round(100 * of.low, 3), "high": round(100 * of.high, 3)},
            "range": f"{100 * of.accuracy:.1f} % ({100 * of.low:.1f} to {100 * of.high:.1f})",
        }
        for of in points
    ]
    numbers = sorted({of.tasks for of in points}, key=lambda number: (number == 0, number))
    order = [f"{number:,}" if number else _NO_LIMIT for number in numbers]
    learners = list(dict.fromkeys(of.learner for of in points))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "tasks:O",
            sort=order,
            scale=alt.Scale(domain=order),
            axis=alt.Axis(labelAngle=-40, title="meta-train tasks"),
        ),
        color=alt.Color("meta-tested on:N", scale=alt.Scale(scheme="tableau10"), title=None),
    )
    title = "accuracy (%)"
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20)).encode(
        y=alt.Y("accuracy:Q", title=title, scale=alt.Scale(domain=[0, 100])),
        tooltip=[tip("learner"), tip("tasks"), tip("meta-tested on"), tip("range")],
    )
    width, height = _PANEL
    panel = alt.layer(band, line).properties(width=width, height=height)
    header = alt.Header(title=None, labelColor=INK, labelFontSize=13, labelFontWeight="bold")
    facet = alt.Facet("learner:N", sort=learners, header=header)
    return finish(panel.facet(facet=facet, columns=_COLUMNS))
