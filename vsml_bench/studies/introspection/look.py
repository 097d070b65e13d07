"""The verb `introspect`: how one learner learns one split, drawn beside two that everyone knows."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import api, cards, paths
from vsml_bench.boards.drawing import INK, to_files
from vsml_bench.boards.groups import groups_of
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.plan import plan_suite
from vsml_bench.evaluation.runner import RunOptions, run_cells
from vsml_bench.storage import write_atomically
from vsml_bench.studies.introspection.board import Curve, curves
from vsml_bench.studies.introspection.protocol import (
    ACCURACY,
    CONFIDENCE,
    LAGS,
    OCCURRENCES,
    RESPONSES,
)
from vsml_bench.suites import find_suite

if TYPE_CHECKING:
    import altair as alt

BESIDE = ("sgd-linear", "1-nn")
"""Learners that are drawn beside the one that is asked for."""
SAME_EXAMPLE, *OTHERS = RESPONSES
_MEASURES = {CONFIDENCE: "probability of the true class", ACCURACY: "accuracy"}
_NAMES = ("split", "learner", "trace", "measure", "part", "asked")


def introspect(
    learner: str,
    split: str,
    *,
    seed: int = 0,
    lifetimes: int | None = None,
    steps: int | None = None,
    out: Path | str = "runs/introspect",
    data_root: Path | str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = True,
    command: str = "",
) -> list[Path]:
    """Looks at how a learner learns, beside SGD and 1-NN on the same streams, and returns the files
    with pictures and numbers that it wrote to `out`.

    seed: of the meta-training. lifetimes, steps: as in the suite `introspection` where they are
    left out. Checkpoints and tuning records are looked for in `out`, among the published ones and
    in runs/checkpoints; VsmlBenchError where one is in none of them.
    """
    suite = find_suite("introspection")
    chosen = dataclasses.replace(
        suite,
        splits=(split,),
        learners=(learner, *BESIDE),
        seeds=(seed,),
        lifetimes=suite.lifetimes if lifetimes is None else lifetimes,
        steps=suite.steps if steps is None else steps,
        recipes={},
    )
    cards.find_one(learner)
    plans = plan_suite(chosen, cards.find_all(chosen.learners))
    options = RunOptions(
        folder=Path(out),
        published=paths.results() / "checkpoints",
        besides=(paths.made(),),
        root=Path(data_root) if data_root is not None else None,
        device=device,
        policy="only-cached",
        executor=LocalExecutor(jobs, progress),
        command=command,
    )
    report = run_cells(plans, options, api.cost_model(suite.name))
    for missing in report.missing:
        raise VsmlBenchError(
            f"{missing}: neither meta-trained nor tuned yet; run `vsml-bench meta-train --split "
            f"{split} --learner {missing.job.learner.reference} --seed {missing.job.seed}` first."
        )
    cells = {cell.plan.learner: cell for cell in report.cells}
    for cell in cells.values():
        if cell.status != "ok":
            raise VsmlBenchError(f"{cell.plan}: {cell.status}: {cell.reason.splitlines()[-1]}")
    return write_introspection(
        curves(groups_of([cells[plan.learner] for plan in plans])), Path(out)
    )


def write_introspection(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draws the curves of one split and returns the files written to `folder`: confidence, twice
    and response, each as PNG and SVG, and introspection.json and .csv with all numbers."""
    plain = [dataclasses.asdict(curve) for curve in curves]
    files: dict[str, bytes] = {
        "introspection.json": json.dumps(plain, indent=1, allow_nan=False).encode() + b"\n",
        "introspection.csv": _as_csv(curves).encode(),
    }
    for name, draw in FIGURES.items():
        files |= to_files(draw(curves).to_dict(), name)
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in sorted(files)]


def _as_csv(curves: Sequence[Curve]) -> str:
    """One line per point, with empty fields where there is no number."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow((*_NAMES, "at", "mean", "low", "high"))
    for curve in curves:
        for at, point in zip(curve.at, curve.points, strict=True):
            numbers = ("", "", "") if point is None else (point.mean, point.low, point.high)
            lines.writerow((*(getattr(curve, name) for name in _NAMES), at, *numbers))
    return text.getvalue()


def _confidence(curves: Sequence[Curve]) -> alt.ConcatChart:
    """Confidence and accuracy at the n-th example of a class."""
    import altair as alt

    scale = alt.Scale(domain=(1, OCCURRENCES))
    x = alt.X("at:Q", title="n, examples of the class so far, this one included", scale=scale)
    panels = [
        _panel([(c, "") for c in _of(curves, measure, measure, "level")], "", x, title, (0, 1))
        for measure, title in _MEASURES.items()
    ]
    return _beside(panels, "At the n-th example of a class, before its label", curves)


def _twice(curves: Sequence[Curve]) -> alt.ConcatChart:
    """The same example before and after it was learned from."""
    parts = {"before": "the first time", "after": "the second time"}
    panels = [
        _panel(
            [
                (curve, name)
                for part, name in parts.items()
                for curve in _of(curves, SAME_EXAMPLE, measure, part, LAGS[0])
            ],
            "shown",
            _moments(),
            title,
            (0, 1),
        )
        for measure, title in _MEASURES.items()
    ]
    return _beside(panels, "The same example shown twice", curves)


def _response(curves: Sequence[Curve]) -> alt.ConcatChart:
    """What one example does to the confidence in another, asked at once and one later."""
    panels = [
        _panel(
            [(c, asked) for asked in LAGS for c in _of(curves, trace, CONFIDENCE, "change", asked)],
            "asked",
            _moments(),
            "change of probability",
        ).properties(title=textwrap.wrap(RESPONSES[trace], 50))
        for trace in OTHERS
    ]
    return _beside(panels, "Response to one example", curves)


FIGURES: Mapping[str, Callable[[Sequence[Curve]], alt.ConcatChart]] = {
    "confidence": _confidence,
    "twice": _twice,
    "response": _response,
}
"""Name -> what draws it."""


def _of(
    curves: Sequence[Curve], trace: str, measure: str, part: str, asked: str = ""
) -> list[Curve]:
    """The curves of that kind."""
    kind = (trace, measure, part, asked)
    return [c for c in curves if (c.trace, c.measure, c.part, c.asked) == kind]


def _moments() -> alt.X:
    """Moments side by side, as far apart from one another, whatever they are."""
    import altair as alt

    axis = alt.Axis(title="examples learned from before", labelAngle=0)
    return alt.X("at:O", axis=axis)


def _panel(
    lines: Sequence[tuple[Curve, str]],
    apart: str,
    x: alt.X,
    title: str,
    ends: tuple[float, float] | None = None,
) -> alt.LayerChart | alt.FacetChart:
    """The means, with their intervals as bands; nothing where there is no number.

    lines: curves, with what tells those of one learner apart. apart: what that is, "" for nothing.
    ends: of the vertical axis.
    """
    import altair as alt

    values = [
        {
            **{"learner": curve.learner, "apart": name, "at": at},
            **{"mean": point.mean, "low": point.low, "high": point.high},
        }
        for curve, name in lines
        for at, point in zip(curve.at, curve.points, strict=True)
        if point is not None
    ]
    learners = list(dict.fromkeys(curve.learner for curve, _ in lines))
    names = list(dict.fromkeys(name for _, name in lines))
    strokes: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 2, "symbolOpacity": 1}
    colour = alt.Color("learner:N", scale=alt.Scale(domain=learners), legend=alt.Legend(**strokes))
    scale = alt.Scale(domain=ends, clamp=True) if ends else alt.Scale()
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, color=colour, detail="apart:N")
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"
    )
    line, dots = (
        base.mark_line().encode(y="mean:Q"),
        base.mark_circle(size=25, opacity=1).encode(y="mean:Q"),
    )
    if apart:
        scale = alt.Scale(domain=names, range=[[2, 3], [1, 0]])
        legend = alt.Legend(title=apart, symbolStrokeColor=INK, **strokes)
        line = line.encode(strokeDash=alt.StrokeDash("apart:N", scale=scale, legend=legend))
    return alt.layer(band, line, dots).properties(width=340, height=230)


def _beside(
    panels: Sequence[alt.LayerChart | alt.FacetChart],
    title: str,
    curves: Sequence[Curve],
) -> alt.ConcatChart:
    import altair as alt

    return alt.concat(*panels, columns=2).properties(title=f"{title}: {curves[0].split}")
