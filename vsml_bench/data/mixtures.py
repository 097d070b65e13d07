"""Meta-train sides whose tasks come in several shapes.

All lifetimes of one meta-update share a shape, so a mixture is a list of plain sides, one for each
pair of a class count and a size. What needs one well-defined shape, that is validation and tuning,
uses the largest.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import TaskDistribution


def members(side: TaskDistribution) -> tuple[TaskDistribution, ...]:
    """The plain sides that a mixture consists of, the largest last; just `side` where it is none.

    Raises VsmlBenchError where a number is given twice: once and for all, and as a choice.
    """
    for choice, plain in (("class_counts", "classes"), ("sizes", "size")):
        if getattr(side, choice) and getattr(side, plain) is not None:
            raise VsmlBenchError(
                f"{choice}: a task distribution with `{plain}` = {getattr(side, plain)} leaves "
                "nothing to choose; give one of the two."
            )
    counts: tuple[int | None, ...] = tuple(sorted(set(side.class_counts))) or (side.classes,)
    sizes: tuple[int | None, ...] = tuple(sorted(set(side.sizes))) or (side.size,)
    return tuple(
        replace(side, classes=classes, size=size, class_counts=(), sizes=())
        for classes, size in product(counts, sizes)
    )


def largest(side: TaskDistribution) -> TaskDistribution:
    """The member with the most classes and, of these, the largest size; `side` if no mixture."""
    return members(side)[-1]
