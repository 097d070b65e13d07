"""The pictures, as specifications of Vega-Lite that Altair makes: the same one is drawn by the
page, where it answers to the pointer, and becomes the SVG that stands there without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vsml_bench.boards import costs
from vsml_bench.boards.page.curves import Curve
from vsml_bench.boards.page.placing import names_apart
from vsml_bench.boards.page.standings import Standing
from vsml_bench.boards.statistics import Interval

if TYPE_CHECKING:
    import altair as alt

Specification: TypeAlias = dict[str, Any]

INK = "#57606a"
"""Of axes and texts; the style sheet gives it another colour where the page is dark."""
_WIDTH, _HEIGHT = 720, 380
_SCHEME: Literal["tableau10"] = "tableau10"
_AWAY = "accuracy on data never seen (%)"
_HOME = "accuracy on tasks like those of meta-training (%)"
_CONFIG: Specification = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK},
        **{"gridColor": INK, "gridOpacity": 0.15, "labelFontSize": 12, "titleFontSize": 13},
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "orient": "bottom"},
    "text": {"color": INK},
}


def first_sight(standings: Sequence[Standing]) -> Specification:
    """Each learner's accuracy on tasks like those of meta-training against that on data never seen,
    with intervals and the diagonal; where the board has no such tasks, the latter alone."""
    inside = [s for s in standings if s.away is not None and s not in outside(standings)]
    rows = [{**_base(s), **_percent("away", s.away)} for s in inside]
    both = [
        {**row, **_percent("home", s.home)}
        for row, s in zip(rows, inside, strict=True)
        if s.home is not None
    ]
    return _against_home(both) if both else _places(rows)


def outside(standings: Sequence[Standing]) -> list[Standing]:
    """The learners that the pictures leave out, since they would squash all others into a corner:
    those with less than half of the best accuracy on either axis, such as chance. What is good on
    one alone, as a learner is that remembers, is what the pictures are for."""
    best = [max((i.mean for s in standings if (i := of(s))), default=0.0) for of in _AXES]
    return [
        standing
        for standing in standings
        if standing.away is not None
        and all(
            i is None or i.mean < top / 2
            for i, top in zip((of(standing) for of in _AXES), best, strict=True)
        )
    ]


def _against_home(rows: list[Specification]) -> Specification:
    import altair as alt

    ends = [row[f"{axis}{end}"] for row in rows for axis in ("home", "away") for end in _ENDS]
    low, high = max(0.0, min(ends) - 1), min(100.0, max(ends) + 1)
    x, y = (alt.Scale(domain=[low, high], nice=False, zero=False) for _ in range(2))
    base = alt.Chart(_values(rows))
    across = base.mark_rule(opacity=0.6, strokeWidth=2).encode(
        x=alt.X("home_low:Q", scale=x, title=_HOME), x2="home_high:Q", y="away:Q", color=_family()
    )
    along = base.mark_rule(opacity=0.6, strokeWidth=2).encode(
        y=alt.Y("away_low:Q", scale=y, title=_AWAY), y2="away_high:Q", x="home:Q", color=_family()
    )
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        x="home:Q",
        y="away:Q",
        color=_family(),
        tooltip=[tip("learner"), tip("family"), tip("home range"), tip("away range")],
    )
    names = base.mark_text(align="left", dx=8, dy=-8, fontSize=11).encode(
        x="home:Q", y="away:Q", text="learner:N"
    )
    diagonal = (
        alt.Chart(_values([{"home": low, "away": low}, {"home": high, "away": high}]))
        .mark_line(strokeDash=[4, 4], color=INK, opacity=0.6)
        .encode(x="home:Q", y="away:Q")
    )
    return names_apart(finish(alt.layer(diagonal, across, along, points, names), _HEIGHT + 60))


def _places(rows: list[Specification]) -> Specification:
    import altair as alt

    order = [row["learner"] for row in rows]
    base = alt.Chart(_values(rows)).encode(y=alt.Y("learner:N", sort=order, title=None))
    ranges = base.mark_rule(opacity=0.6, strokeWidth=2).encode(
        x=alt.X("away_low:Q", scale=alt.Scale(zero=False), title=_AWAY),
        x2="away_high:Q",
        color=_family(),
    )
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        x="away:Q",
        color=_family(),
        tooltip=[tip("learner"), tip("family"), tip("away range")],
    )
    return finish(alt.layer(ranges, points), 24 * max(len(rows), 3))


def quality_and_cost(
    standings: Sequence[Standing], cost: str = costs.FIRST
) -> Specification | None:
    """Accuracy on data never seen against a cost, a name of `costs.AXES`, with its Pareto front, of
    each device where the cost is a time; None where nothing was measured."""
    axis = costs.AXES[cost]
    rows = [
        {
            **_base(s),
            **_percent("away", s.away),
            "cost": round(float(getattr(s.cost, cost)), 6),
            "device": s.cost.device,
            "front": s.cost.device if axis.time else "",
        }
        for s in standings
        if s.away is not None and s.cost is not None
        if s not in outside(standings)
    ]
    if not rows or max(row["cost"] for row in rows) <= 0:
        return None
    some = min(row["cost"] for row in rows) > 0
    values = {"learners": rows, "front": pareto(rows)}
    return {**_against_cost(axis.title, some), "datasets": values}


@lru_cache
def _against_cost(title: str, log: bool) -> Specification:
    """log: whether the scale is logarithmic throughout; else it begins with 0, which some have."""
    import altair as alt

    x = alt.X(
        "cost:Q",
        scale=alt.Scale(type="log") if log else alt.Scale(type="symlog", constant=1),
        title=f"{title}, log scale{'' if log else ' from 1 on'}",
        axis=alt.Axis(format="~g", tickCount=5)
        if log
        else alt.Axis(
            labelExpr="format(datum.value, '~s')", values=[0.0, *(10.0**n for n in range(13))]
        ),
    )
    y = alt.Y("away:Q", scale=alt.Scale(zero=False), title=_AWAY)
    base = alt.Chart(alt.NamedData(name="learners")).encode(x=x)
    ranges = base.mark_rule(opacity=0.6, strokeWidth=2).encode(
        y=alt.Y("away_low:Q", scale=alt.Scale(zero=False), title=_AWAY),
        y2="away_high:Q",
        color=_family(),
    )
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        y=y,
        color=_family(),
        shape=alt.Shape("device:N", title="device", legend=alt.Legend(symbolFillColor=INK)),
        tooltip=[
            *(tip("learner"), tip("family"), tip("away range"), tip("device")),
            alt.Tooltip("cost:Q", title=title, format=",.3~r"),
        ],
    )
    names = base.mark_text(align="left", dx=8, dy=-8, fontSize=11).encode(y=y, text="learner:N")
    front = (
        alt.Chart(alt.NamedData(name="front"))
        .mark_line(interpolate="step-after", strokeDash=[2, 2], color=INK)
        .encode(x=x, y=y, detail="front:N")
    )
    return finish(alt.layer(front, ranges, points, names), _HEIGHT)


def pareto(rows: Sequence[Mapping[str, Any]]) -> list[Specification]:
    """Of each "front", the rows that no other one beats in both "cost" and accuracy, cheapest
    first."""
    front: list[Specification] = []
    best: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: (row["cost"], -row["away"], row["learner"])):
        if row["away"] > best.get(row["front"], -1.0):
            best[row["front"]] = row["away"]
            front.append(dict(row))
    return front


def learning_curves(curves: Mapping[str, Curve]) -> Specification:
    """Accuracy over the examples of a lifetime; curves: label -> curve. The page draws the same for
    the learners that were chosen, by exchanging the values of the data set `curves`."""
    rows = [
        {
            "learner": label,
            "example": end,
            **_percent("accuracy", Interval(mean, low, high)),
        }
        for label, of in curves.items()
        for end, mean, low, high in zip(of.ends, of.mean, of.low, of.high, strict=True)
    ]
    return {**_over_a_lifetime(), "datasets": {"curves": rows}}


@lru_cache(maxsize=1)
def _over_a_lifetime() -> Specification:
    import altair as alt

    color = alt.Color("learner:N", scale=alt.Scale(scheme=_SCHEME), title=None)
    base = alt.Chart(alt.NamedData(name="curves")).encode(
        x=alt.X(
            "example:Q",
            scale=alt.Scale(type="log", nice=False),
            title="example of the lifetime (log scale)",
            axis=alt.Axis(format="~g", tickCount=6),
        ),
        color=color,
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("accuracy_low:Q", scale=alt.Scale(zero=False), title="accuracy (%)"),
        y2="accuracy_high:Q",
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20)).encode(
        y="accuracy:Q",
        tooltip=[
            tip("learner"),
            alt.Tooltip("example:Q", title="up to example"),
            tip("accuracy range"),
        ],
    )
    return finish(alt.layer(band, line), _HEIGHT - 60)


@lru_cache(maxsize=1)
def training_curve() -> Specification:
    """Loss over the updates of a meta-training; the page puts its rows into the data set `history`:
    "step", "of" (training or validation), "loss", "accuracy"."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData(name="history"))
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("step:Q", title="meta-update"),
            y=alt.Y("loss:Q", title="loss"),
            color=alt.Color("of:N", scale=alt.Scale(scheme=_SCHEME), title=None),
            tooltip=[tip("of"), tip("step"), tip("loss"), tip("accuracy")],
        )
    )
    return {**finish(chart, _HEIGHT // 2, _WIDTH // 2), "datasets": {"history": []}}


def to_svg(specification: Specification) -> str:
    """The picture by itself, the same text for the same specification."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(json.dumps(specification))
    return svg


_ENDS = ("_low", "_high")
_AXES: tuple[Callable[[Standing], Interval | None], ...] = (lambda s: s.home, lambda s: s.away)


def _base(standing: Standing) -> Specification:
    return {"learner": standing.label, "family": standing.family or "other"}


def _percent(name: str, interval: Interval | None) -> Specification:
    """A number and the ends of its interval in percent, and all of it in words."""
    assert interval is not None
    mean, low, high = (round(100 * n, 3) for n in (interval.mean, interval.low, interval.high))
    words = f"{mean:.1f} % ({low:.1f} to {high:.1f})"
    return {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name} range": words}


def _values(rows: list[Specification]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=rows)


def _family() -> alt.Color:
    import altair as alt

    return alt.Color("family:N", scale=alt.Scale(scheme=_SCHEME), title="family")


_TITLES = {
    "home range": "tasks as in meta-training",
    "away range": "data never seen",
    "accuracy range": "accuracy",
    "range": "accuracy",
}


def tip(name: str) -> alt.Tooltip:
    """A line of what the pointer tells."""
    import altair as alt

    return alt.Tooltip(f"{name}:N", title=_TITLES.get(name, name))


def finish(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart, height: int = 0, width: int = _WIDTH
) -> Specification:
    """In the page's colours, and of a size unless its parts have theirs."""
    sized = chart.properties(width=width, height=height) if height else chart
    found: Specification = {**sized.to_dict(validate=True), "config": _CONFIG}
    return found
