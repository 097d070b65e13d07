"""The invariance card, as tables and as a picture: what each change of the data does to each
learner's score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsml_bench.boards.changes import change_of
from vsml_bench.boards.drawing import INK, to_files
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import Interval
from vsml_bench.studies import Section, Value

if TYPE_CHECKING:
    import altair as alt

CARD = "Invariance card"
NUMBERS = f"{CARD} in numbers"
COLUMNS = (
    *("learner", "split", "against", "unchanged", "changed", "difference", "low", "high"),
    *("paired", "seeds"),
)
"""Of the section `NUMBERS`."""

_DECIMALS = 9
_CARD_TEXT = (
    "Cumulative accuracy under each change minus that without it, in points of 100, ± half the "
    "95 % interval, over as many steps as both have; the second column is the accuracy without a "
    "change in %. At 0 the learner ignores the change, below 0 it costs something. **Bold**: the "
    "interval leaves out 0. A change may make the data themselves harder or easier, so read a "
    "learner beside the floors. † one meta-train seed: the interval leaves out how results vary "
    "between seeds."
)
_NUMBERS_TEXT = (
    "The same as shares in [0, 1], over as many steps as both splits have: accuracy without and "
    "with the change, their difference, and the bounds of its 95 % interval. Paired: both splits "
    "have the same lifetimes but for the change, and differences are formed lifetime by lifetime; "
    "otherwise the lifetimes of the two are unrelated. Meta-train seeds are the same on both sides "
    "in either case."
)


@dataclass(frozen=True)
class _Effect:
    """What one change does to one learner."""

    learner: str
    split: str
    against: str
    at_home: float
    """Accuracy without the change over all steps."""
    unchanged: float
    """Accuracy without the change over as many steps as both splits have."""
    changed: float
    """Accuracy under the change over the same number of steps."""
    difference: Interval
    paired: bool
    seeds: int
    one_seed: bool
    """Whether nothing is known of other meta-train seeds."""

    @property
    def shown(self) -> str:
        difference = self.difference
        points = round(100 * difference.mean, 1) + 0.0  # so that there is no -0.0
        text = f"{points:+.1f} ± {50 * (difference.high - difference.low):.1f}"
        text += " †" if self.one_seed else ""
        return f"**{text}**" if difference.decided else text

    @property
    def row(self) -> tuple[Value, ...]:
        difference = self.difference
        numbers = (self.unchanged, self.changed, difference.mean, difference.low, difference.high)
        return (
            *(self.learner, self.split, self.against),
            *(round(number, _DECIMALS) + 0.0 for number in numbers),
            *("yes" if self.paired else "no", self.seeds),
        )


def sections(finished: Sequence[Group]) -> list[Section]:
    """A matrix of learners and changes for each split that others are compared with, then the
    numbers behind all of them. Learners and changes come in planned order; where a learner lacks
    a score on either split there is no number."""
    effects = list(_effects(finished))
    if not effects:
        return []
    homes = dict.fromkeys(effect.against for effect in effects)
    return [
        *(_card(home, [e for e in effects if e.against == home]) for home in homes),
        Section(NUMBERS, _NUMBERS_TEXT, COLUMNS, tuple(effect.row for effect in effects)),
    ]


def _card(home: str, effects: Sequence[_Effect]) -> Section:
    changes = list(dict.fromkeys(effect.split for effect in effects))
    learners = dict.fromkeys(effect.learner for effect in effects)
    shown = {(effect.learner, effect.split): effect.shown for effect in effects}
    at_home = {effect.learner: effect.at_home for effect in effects}
    return Section(
        f"{CARD}: against {home}",
        _CARD_TEXT,
        ("learner", "unchanged", *(_short(change) for change in changes)),
        tuple(
            (
                learner,
                f"{100 * at_home[learner]:.1f}",
                *(shown.get((learner, change)) for change in changes),
            )
            for learner in learners
        ),
    )


def _effects(finished: Sequence[Group]) -> Iterator[_Effect]:
    kinds: dict[str, set[str]] = {}
    for f in finished:
        kinds.setdefault(f.learner, set()).add(f.kind)
    for f in finished:
        change = change_of(f, finished)
        if change is None:
            continue
        yield _Effect(
            learner=f.learner if len(kinds[f.learner]) == 1 else f"{f.learner} ({f.kind})",
            split=f.split,
            against=change.home.split,
            at_home=float(change.home.scores.mean()),
            unchanged=change.unchanged,
            changed=change.changed,
            difference=change.difference,
            paired=change.paired,
            seeds=len(f.cells),
            one_seed=f.has_meta_parameters and len(f.cells) == 1,
        )


def pictures(sections: Sequence[Section]) -> dict[str, bytes]:
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
    import altair as alt

    homes = dict.fromkeys(str(row["against"]) for row in rows)
    limit = 100 * max(abs(float(row["difference"] or 0)) for row in rows) or 100.0
    maps = [_map(home, [row for row in rows if row["against"] == home], limit) for home in homes]
    chart = alt.vconcat(*maps).resolve_scale(x="independent", y="independent")
    return to_files(chart.to_dict(), "card")


def _map(
    home: str, rows: Sequence[Mapping[str, Any]], limit: float
) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    values = [
        {
            "learner": row["learner"],
            "change": _short(row["split"]),
            "points": (points := round(100 * row["difference"], 1) + 0.0),
            "shown": f"{points:+.1f}",
            "decided": row["low"] > 0 or row["high"] < 0,
        }
        for row in rows
    ]
    changes = list(dict.fromkeys(value["change"] for value in values))
    learners = list(dict.fromkeys(value["learner"] for value in values))
    axis: dict[str, Any] = {"ticks": False, "domain": False, "grid": False}
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("change:N", sort=changes, title="change", axis=alt.Axis(labelAngle=-45, **axis)),
        y=alt.Y("learner:N", sort=learners, title="learner", axis=alt.Axis(**axis)),
    )
    scale = alt.Scale(scheme="redblue", domain=[-limit, limit])
    legend = alt.Legend(title="change of accuracy (points of 100)", orient="bottom")
    squares = base.mark_rect().encode(color=alt.Color("points:Q", scale=scale, legend=legend))
    dark = f"abs(datum.points) > {0.6 * limit}"
    colour = alt.condition(dark, alt.value("white"), alt.value(INK))
    texts = base.encode(text="shown:N", color=colour)
    bold = texts.mark_text(fontSize=12, fontWeight="bold").transform_filter("datum.decided")
    others = texts.mark_text(fontSize=12).transform_filter("!datum.decided")
    return alt.layer(squares, bold, others).properties(
        width=alt.Step(56),
        height=alt.Step(30),
        title=f"Change of accuracy in points, against {home}; bold: the 95 % interval leaves out 0",
    )


def _short(split: object) -> str:
    return str(split).rsplit("/", 1)[-1]
