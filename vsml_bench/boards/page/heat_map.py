"""Accuracy as a picture of meta-train sides by meta-test sets, a panel for each learner."""

from __future__ import annotations

from vsml_bench.boards.grids import Grid
from vsml_bench.boards.page.pictures import INK, Specification, finish, tip

_CELL = (46, 26)
"""Width and height."""
_COLUMNS = 3
_LIGHT = 0.6
"""Share of the scale from which on a colour is so light that its number is dark."""


def heat_map(found: Grid) -> Specification:
    """The picture."""
    import altair as alt

    rows = [
        {
            "learner": of.learner,
            "meta-trained on": of.meta_train,
            "meta-tested on": of.meta_test,
            "accuracy": round(100 * of.accuracy, 3),
            "range": f"{100 * of.accuracy:.1f} % ({100 * of.low:.1f} to {100 * of.high:.1f})",
        }
        for of in found.squares
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "meta-tested on:N",
            sort=list(found.meta_test),
            scale=alt.Scale(domain=list(found.meta_test)),
            axis=alt.Axis(labelAngle=-40, title=None),
        ),
        y=alt.Y(
            "meta-trained on:N",
            sort=list(found.meta_train),
            scale=alt.Scale(domain=list(found.meta_train)),
            axis=alt.Axis(title=None, labelLimit=160),
        ),
    )
    scale = alt.Scale(scheme="viridis", domain=[0, 100])
    squares = base.mark_rect().encode(
        # without a legend, whose gradient would have another id each time that it is drawn
        color=alt.Color("accuracy:Q", scale=scale, legend=None),
        tooltip=[tip("learner"), tip("meta-trained on"), tip("meta-tested on"), tip("range")],
    )
    numbers = base.mark_text(fontSize=11, aria=False).encode(
        text=alt.Text("accuracy:Q", format=".0f"),
        color=alt.condition(
            alt.datum.accuracy > 100 * _LIGHT, alt.value("#000000"), alt.value("#ffffff")
        ),
    )
    width, height = _CELL
    panel = alt.layer(squares, numbers).properties(
        width=width * len(found.meta_test), height=height * len(found.meta_train)
    )
    learners = list(dict.fromkeys(of.learner for of in found.squares))
    header = alt.Header(title=None, labelColor=INK, labelFontSize=13, labelFontWeight="bold")
    facet = alt.Facet("learner:N", sort=learners, header=header)
    return finish(panel.facet(facet=facet, columns=_COLUMNS))
