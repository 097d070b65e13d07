"""Names beside the points of a picture, so that none hides another."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Specification: TypeAlias = dict[str, Any]

_LETTER, _LINE = 6.4, 15.0
"""Pixels that a letter of a name is wide, on average, and a name is high."""
_POINT = 7.0
"""Half the width of a point."""


@dataclass(frozen=True)
class _Box:
    """A part of the picture in pixels, from its lower left corner."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top


def names_apart(specification: Mapping[str, Any]) -> Specification:
    """The picture `pictures.first_sight` with its names moved off each other and off the points;
    thin lines lead back from those that had to go far. One without two axes is left as it is."""
    found = copy.deepcopy(dict(specification))
    layers = found["layer"]
    names = next((of for of in layers if of["mark"]["type"] == "text"), None)
    if names is None:
        return found
    domains = [of["encoding"]["x"].get("scale", {}).get("domain") for of in layers]
    low, high = next(domain for domain in domains if domain)
    width, height = found["width"], found["height"]
    wide, tall = width / (high - low), height / (high - low)  # pixels of a percent
    rows = sorted(
        found["datasets"][names["data"]["name"]], key=lambda row: (-row["away"], row["home"])
    )
    points = [(wide * (row["home"] - low), tall * (row["away"] - low)) for row in rows]
    taken = [_Box(x - _POINT, x + _POINT, y - _POINT, y + _POINT) for x, y in points]
    texts, lines = [], []
    for row, (x, y) in zip(rows, points, strict=True):
        box = _free(x, y, _LETTER * len(row["learner"]), (width, height), taken)
        taken.append(box)
        middle = {"away": low + (box.bottom + box.top) / 2 / tall, "learner": row["learner"]}
        texts.append({"home": low + box.left / wide, **middle})
        near = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
        if math.dist(near, (x, y)) > 2 * _POINT:
            ends = {"home2": low + near[0] / wide, "away2": low + near[1] / tall}
            lines.append({"home": row["home"], "away": row["away"], **ends})
    names["data"] = {"values": texts}
    names["mark"] |= {"align": "left", "baseline": "middle", "dx": 0, "dy": 0}
    lead = {"x": names["encoding"]["x"], "y": names["encoding"]["y"]}
    lead |= {"x2": {"field": "home2"}, "y2": {"field": "away2"}}
    thin = {"type": "rule", "strokeWidth": 0.7, "opacity": 0.6}
    layers.insert(0, {"data": {"values": lines}, "mark": thin, "encoding": lead})
    return found


def _free(x: float, y: float, long: float, size: tuple[float, float], taken: list[_Box]) -> _Box:
    """The first place near the point that meets nothing; the nearest of all where there is none."""
    places = list(_places(x, y, long))
    inside = (p for p in places if p.left >= 0 and p.bottom >= 0 and p.top <= size[1])
    fitting = (p for p in inside if p.right <= size[0] + long / 3)
    free = (p for p in fitting if not any(p.meets(other) for other in taken))
    return next(free, places[0])


def _places(x: float, y: float, long: float) -> Iterator[_Box]:
    """Round the point, in growing distance, on its right side first."""
    half = _LINE / 2
    for away in range(14, 200, 6):
        for degrees in (30, 0, -30, 60, -60, 150, 180, -150, 90, -90, 120, -120):
            angle = math.radians(degrees)
            at, up = x + away * math.cos(angle), y + away * math.sin(angle)
            left = at if abs(degrees) < 90 else at - long if abs(degrees) > 90 else at - long / 2
            yield _Box(left, left + long, up - half, up + half)
