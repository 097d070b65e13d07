"""The invariance card, as tables and as a picture: what each change of the data does to each
learner's score."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vsml_bench.boards.changes import change_of
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import Interval
from vsml_bench.studies import Section, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
_STYLE: Any = {
    "svg.hashsalt": "vsml-bench",  # the same board gives the same bytes
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
}
_CELL = (0.62, 0.3)  # inches
_MARGIN = (1.9, 1.7)  # inches, for the names of learners and of changes


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
        ("learner", "unchanged", *(change.rsplit("/", 1)[-1] for change in changes)),
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
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    homes = list(dict.fromkeys(str(row["against"]) for row in rows))
    maps = [[row for row in rows if row["against"] == home] for home in homes]
    sizes = [(len(_names(of, "split")), len(_names(of, "learner"))) for of in maps]
    limit = max(abs(float(row["difference"] or 0)) for row in rows) or 1.0
    width = _MARGIN[0] + _CELL[0] * max(columns for columns, _ in sizes)
    heights = [_MARGIN[1] + _CELL[1] * lines for _, lines in sizes]
    drawn = {}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
        for home, of, ax in zip(homes, maps, axes, strict=True):
            _draw(ax, home, of, 100 * limit)
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            drawn[f"card.{kind}"] = buffer.getvalue()
    return drawn


def _draw(ax: Axes, home: str, rows: Sequence[Mapping[str, Any]], limit: float) -> None:
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
