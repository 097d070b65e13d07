"""When the introspection protocol looks at a learner, and the layout of the traces it leaves."""

from __future__ import annotations

OCCURRENCES = 20
"""Traces `CONFIDENCE` and `ACCURACY` [E, OCCURRENCES]: what the first, second, ... example of a
class got, averaged over the classes that have so many in the lifetime."""
CONFIDENCE = "confidence"
"""Softmax probability, over all outputs that the learner has, of the true class."""
ACCURACY = "accuracy"
"""Whether the true class had the largest logit, 0 or 1."""

RESPONSES = {
    "same example": "the example itself is shown again",
    "same class": "an example after one of its class",
    "other class": "an example after one of another class, both seen before",
    "new class": "an example of a class seen before, after the first one of a class never shown",
    "first of its class": "an example of a class never shown, after the first one of its class",
}
"""Trace -> what it is the response of. Each is [E, moments, LAGS, 2, 2]: first before, then after
the one example in between; first confidence, then accuracy."""

LAGS = ("at once", "one later")
"""When the question is asked: next, or after a further example, the same before and after. What was
seen may need a step to take effect: VSML meets an error together with the next example."""

MOMENTS = (0, 10, 30, 100, 300)
"""Examples that a probed state has learned from."""


def moments(steps: int) -> tuple[int, ...]:
    """Those within a lifetime of so many steps."""
    return tuple(moment for moment in MOMENTS if moment < steps)
