"""Names in the first picture, each where it can be read."""

from __future__ import annotations

from typing import Any

from vsml_bench.boards.page.pictures import first_sight
from vsml_bench.boards.page.placing import names_apart
from vsml_bench.boards.page.standings import Standing
from vsml_bench.boards.statistics import Interval


def standing(label: str, home: float | None, away: float) -> Standing:
    at_home = None if home is None else Interval(home, home - 0.01, home + 0.01)
    return Standing(label, "f", at_home, Interval(away, away - 0.01, away + 0.01), 1, 1, 1, None)


def layer(picture: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    of = next(of for of in picture["layer"] if of["mark"]["type"] == kind)
    values: list[dict[str, Any]] = of["data"]["values"]
    return values


def test_names_in_a_crowd_do_not_hide_each_other() -> None:
    crowd = [standing(f"learner-{n:02}", 0.70 + n / 5000, 0.70) for n in range(12)]
    moved = first_sight([*crowd, standing("far", 0.9, 0.5)])
    names = layer(moved, "text")
    assert {name["learner"] for name in names} == {s.label for s in crowd} | {"far"}
    width, height = 720 / 42, 440 / 42  # pixels of a percent; the axes have 49 to 91
    for one in names:
        for other in names:
            right = (other["home"] - one["home"]) * width
            up = abs(one["away"] - other["away"]) * height
            assert one is other or up >= 14.9 or right < 0 or right >= 6 * len(one["learner"])
    lines = layer(moved, "rule")
    assert len(lines) >= 6 and all(abs(line["away"] - 70) < 1e-6 for line in lines)


def test_a_name_with_room_stays_beside_its_point() -> None:
    (name, _) = layer(first_sight([standing("a", 0.6, 0.6), standing("b", 0.8, 0.8)]), "text")
    assert name["learner"] == "b" and 0 < name["home"] - 80 < 2 and 0 < name["away"] - 80 < 2


def test_a_picture_without_two_axes_stays_as_it_is() -> None:
    picture = first_sight([standing("a", None, 0.6), standing("b", None, 0.8)])
    assert names_apart(picture) == picture
