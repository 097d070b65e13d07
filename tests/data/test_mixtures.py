from __future__ import annotations

from typing import Any

import pytest

from vsml_bench.data.distributions import largest, members
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import TaskDistribution


def side(**fields: Any) -> TaskDistribution:
    return TaskDistribution(("digits",), "train", projection=0.5, **fields)


def test_members_by_hand() -> None:
    assert members(side(class_counts=(7, 3), sizes=(4, 8))) == (
        side(classes=3, size=4),
        side(classes=3, size=8),
        side(classes=7, size=4),
        side(classes=7, size=8),
    )
    assert members(side(sizes=(8, 4), classes=5)) == (
        side(classes=5, size=4),
        side(classes=5, size=8),
    )


def test_a_plain_side_is_its_only_member() -> None:
    assert members(side(size=8)) == (side(size=8),)
    assert largest(side()) == side()


def test_the_largest_has_most_classes_at_the_largest_size() -> None:
    assert largest(side(class_counts=(3, 7), sizes=(8, 4))) == side(classes=7, size=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_counts": (3,), "classes": 4}, "class_counts: .*`classes` = 4"),
        ({"sizes": (3,), "size": 8}, "sizes: .*`size` = 8"),
    ],
)
def test_a_number_given_twice_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(VsmlBenchError, match=message):
        members(side(**fields))
