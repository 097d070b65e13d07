"""The introspection study's numbers: what the traces of its protocol say, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import estimate
from vsml_bench.boards.variances import Scores
from vsml_bench.studies import Section, Value
from vsml_bench.studies.introspection.protocol import (
    ACCURACY,
    CONFIDENCE,
    LAGS,
    OCCURRENCES,
    RESPONSES,
    moments,
)

SHOWN = (1, 2, 3, 5, 10, 20)
"""Occurrences of a class that the board has columns for."""


@dataclass(frozen=True)
class Point:
    """A mean over lifetimes and meta-train seeds and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What one learner did on one split."""

    split: str
    learner: str
    trace: str
    """Name of the trace that it is from: `CONFIDENCE`, `ACCURACY`, or one of `RESPONSES`."""
    measure: str
    """`CONFIDENCE` or `ACCURACY`."""
    part: str
    """"level": of predictions in the lifetime itself. Of a response: "before", "after", or
    "change", the latter minus the former."""
    asked: str
    """Of a response, one of `LAGS`; else ""."""
    at: tuple[int, ...]
    """How many examples of the class, this one included, or, of a response, learned from before."""
    points: tuple[Point | None, ...]
    """One for each of `at`; None where no lifetime has such an example, or where the learner lacks
    a number that others have: nothing is averaged over fewer."""


def curves(finished: Sequence[Group]) -> list[Curve]:
    """All curves of all learners, in the order given."""
    found = []
    for of in finished:
        rivals = [other for other in finished if other.split == of.split]
        for trace in (CONFIDENCE, ACCURACY):
            values, there = of.trace(trace), _there(rivals, trace)
            at = tuple(range(1, OCCURRENCES + 1))
            found.append(_curve(of, trace, trace, "level", at, values, there))
        at = moments(of.correct.shape[2])
        for trace in RESPONSES:
            # [seeds, lifetimes, moments, LAGS, 2, 2]
            values, there = of.trace(trace), _there(rivals, trace)
            for (lag, asked), (index, measure) in product(
                enumerate(LAGS), enumerate((CONFIDENCE, ACCURACY))
            ):
                before, after = (values[..., lag, side, index] for side in (0, 1))
                parts = {"before": before, "after": after, "change": after - before}
                where = there[..., lag, 0, index]
                found += [
                    _curve(of, trace, measure, part, at, part_values, where, asked)
                    for part, part_values in parts.items()
                ]
    return found


def sections(finished: Sequence[Group]) -> list[Section]:
    """Two tables of how sure predictions are, and one for each kind of response."""
    known = curves(finished)
    made = [
        Section(
            f"{measure.capitalize()} at the n-th example of a class",
            f"{text}, predicted before its label was seen; mean over the classes, ± half the 95 % "
            "interval. Chance is 0.1 with ten classes.",
            ("split", "learner", *(f"n = {n}" for n in SHOWN)),
            tuple(_levels(curve) for curve in _of(known, measure, "level")),
        )
        for measure, text in (
            (CONFIDENCE, "Softmax probability of the true class"),
            (ACCURACY, "Share of lifetimes and classes in which it was predicted"),
        )
    ]
    at = sorted({moment for curve in known if curve.part == "change" for moment in curve.at})
    for trace, text in RESPONSES.items():
        made.append(
            Section(
                f"Response: {trace}",
                f"Response where {text}: before → after, and the change ± half its 95 % interval. "
                "Asked one later: a further example, the same before and after, comes in between. "
                "Columns: how many examples had been learned from.",
                ("split", "learner", "measure", "asked", *(str(moment) for moment in at)),
                tuple(
                    _response(before, after, change)
                    for before, after, change in zip(
                        *(_of(known, trace, part) for part in ("before", "after", "change")),
                        strict=True,
                    )
                ),
            )
        )
    return made


def _there(finished: Iterable[Group], trace: str) -> npt.NDArray[np.bool_]:
    """Where anyone has a number, [lifetimes, ...]: that depends on the stream alone."""
    numbers = np.concatenate([of.trace(trace) for of in finished])  # [seeds of all, ...]
    there: npt.NDArray[np.bool_] = (~np.isnan(numbers)).sum(0) > 0
    return there


def _curve(
    of: Group,
    trace: str,
    measure: str,
    part: str,
    at: tuple[int, ...],
    values: npt.NDArray[np.float64],
    there: npt.NDArray[np.bool_],
    asked: str = "",
) -> Curve:
    """From values [seeds, lifetimes, len(at)], there [lifetimes, len(at)]."""
    points = tuple(
        _point(values[:, there[:, index], index], of.has_meta_parameters, signed=part == "change")
        for index in range(len(at))
    )
    return Curve(of.split, of.learner, trace, measure, part, asked, at, points)


def _point(scores: Scores, meta_trained: bool, signed: bool) -> Point | None:
    """From scores [seeds, lifetimes], in [0, 1] or, where signed, in [-1, 1]."""
    if scores.shape[1] == 0 or np.isnan(scores).any():
        return None
    scale, shift = (2.0, -1.0) if signed else (1.0, 0.0)
    # A float32 probability may be above 1 by its last bit.
    found = estimate(np.clip((scores - shift) / scale, 0.0, 1.0), meta_trained, None)
    return Point(*(scale * value + shift for value in (found.mean, found.low, found.high)))


def _of(known: Iterable[Curve], trace: str, part: str) -> list[Curve]:
    return [curve for curve in known if (curve.trace, curve.part) == (trace, part)]


def _levels(curve: Curve) -> tuple[Value, ...]:
    points = dict(zip(curve.at, curve.points, strict=True))
    return (curve.split, curve.learner, *(_shown(points[n]) for n in SHOWN))


def _shown(point: Point | None) -> str | None:
    return None if point is None else f"{point.mean:.3f} ± {(point.high - point.low) / 2:.3f}"


def _response(before: Curve, after: Curve, change: Curve) -> tuple[Value, ...]:
    shown: list[Value] = []
    for old, new, moved in zip(before.points, after.points, change.points, strict=True):
        if old is None or new is None or moved is None:
            shown.append(None)
            continue
        half = (moved.high - moved.low) / 2
        shown.append(f"{old.mean:.3f} → {new.mean:.3f} ({moved.mean:+.3f} ± {half:.3f})")
    return (change.split, change.learner, change.measure, change.asked, *shown)
