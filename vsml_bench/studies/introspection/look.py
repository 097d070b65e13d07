"""The verb `introspect`: how one learner learns one split, drawn beside two that everyone knows.

The same curves give the same bytes with one version of matplotlib."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vsml_bench import api, cards, paths
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
    from matplotlib.axes import Axes

BESIDE = ("sgd-linear", "1-nn")
"""Learners that are drawn beside the one that is asked for."""
SAME_EXAMPLE, *OTHERS = RESPONSES
Draw: TypeAlias = "Callable[[Sequence[Axes], Sequence[Curve]], str]"
"""What draws curves on panels, and returns a title."""
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
    for name, (rows, draw) in _FIGURES.items():
        for form in ("png", "svg"):
            files[f"{name}.{form}"] = _drawn(draw, curves, rows, form)
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


def _drawn(draw: Draw, curves: Sequence[Curve], rows: int, form: str) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "vsml-bench", "font.size": 9.0}):
        figure = Figure(figsize=(8.4, 3.2 * rows), layout="constrained")
        panels = list(figure.subplots(rows, 2, squeeze=False).flat)
        title = draw(panels, curves)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.suptitle(f"{title}: {curves[0].split}")
        # Neither a date nor a version: the picture is a function of the curves.
        unwanted = {"png": "Software", "svg": "Date"}[form]
        figure.savefig(drawn, format=form, dpi=150, metadata={unwanted: None})
    return drawn.getvalue()


def _confidence(panels: Sequence[Axes], curves: Sequence[Curve]) -> str:
    """Confidence and accuracy at the n-th example of a class."""
    for panel, (measure, label) in zip(panels, _MEASURES.items(), strict=True):
        for color, curve in _colored(curves, measure, measure, "level"):
            _line(panel, curve, curve.at, color, curve.learner)
        panel.set(xlabel="n, examples of the class so far, this one included", ylabel=label)
        panel.set_ylim(0, 1)
        panel.set_xticks((1, *range(5, OCCURRENCES + 1, 5)))
    return "At the n-th example of a class, before its label"


def _twice(panels: Sequence[Axes], curves: Sequence[Curve]) -> str:
    """The same example before (dotted) and after it was learned from."""
    for panel, (measure, label) in zip(panels, _MEASURES.items(), strict=True):
        for part, style in (("before", ":"), ("after", "-")):
            for color, curve in _colored(curves, SAME_EXAMPLE, measure, part, LAGS[0]):
                name = f"{curve.learner}, {'second' if part == 'after' else 'first'} time"
                _line(panel, curve, _places(panel, curve), color, name, style)
        panel.set(xlabel="examples learned from before", ylabel=label)
        panel.set_ylim(0, 1.02)
    return "The same example shown twice"


def _response(panels: Sequence[Axes], curves: Sequence[Curve]) -> str:
    """What one example does to the confidence in another, asked at once (dotted) and one later."""
    for panel, trace in zip(panels, OTHERS, strict=True):
        for asked, style in zip(LAGS, (":", "-"), strict=True):
            for color, curve in _colored(curves, trace, CONFIDENCE, "change", asked):
                name = f"{curve.learner}, {asked}"
                _line(panel, curve, _places(panel, curve), color, name, style)
        panel.axhline(0, color="0.6", linewidth=0.8)
        panel.set_title(textwrap.fill(RESPONSES[trace], 50), fontsize=9)
        panel.set(xlabel="examples learned from before", ylabel="change of probability")
    return "Response to one example"


_FIGURES: Mapping[str, tuple[int, Draw]] = {
    "confidence": (1, _confidence),
    "twice": (1, _twice),
    "response": (2, _response),
}
"""Name -> rows of two panels, and what draws them."""


def _colored(
    curves: Sequence[Curve], trace: str, measure: str, part: str, asked: str = ""
) -> Iterator[tuple[str, Curve]]:
    """The curves of that kind, each learner in the same colour everywhere."""
    learners = list(dict.fromkeys(curve.learner for curve in curves))
    for curve in curves:
        kind = (curve.trace, curve.measure, curve.part, curve.asked)
        if kind == (trace, measure, part, asked):
            yield f"C{learners.index(curve.learner)}", curve


def _places(panel: Axes, curve: Curve) -> Sequence[float]:
    """Moments side by side, as far apart from one another, whatever they are."""
    panel.set_xticks(range(len(curve.at)), [str(moment) for moment in curve.at])
    panel.set_xlim(-0.3, len(curve.at) - 0.7)
    return range(len(curve.at))


def _line(
    panel: Axes, curve: Curve, x: Sequence[float], color: str, label: str, style: str = "-"
) -> None:
    """The means, with their intervals as a band; nothing where there is no number."""
    known = [(at, point) for at, point in zip(x, curve.points, strict=True) if point is not None]
    places = [at for at, _ in known]
    means = [point.mean for _, point in known]
    panel.plot(places, means, style, color=color, label=label, marker="o", markersize=3)
    lows, highs = [point.low for _, point in known], [point.high for _, point in known]
    panel.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
