"""Two learners, and learners' curves, as frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import cards
from vsml_bench.api.boards import board
from vsml_bench.api.learners import check_reference
from vsml_bench.errors import VsmlBenchError
from vsml_bench.plugins import is_place
from vsml_bench.suites import find_suite

if TYPE_CHECKING:
    import pandas as pd

    from vsml_bench.boards.two_learners import TwoLearners


def compare(
    suite: str, first: str, second: str, folder: Path | str | None = None, **selection: Any
) -> pd.DataFrame:
    """How much better the first learner is than the second: one row per split, and a last one over
    all splits with data never seen.

    first, second: learners of the suite, or others by name or `path/to/file.py:ClassName`. folder,
    selection: as in `leaderboard`. Columns: `difference` of accuracies with `low` and `high`, `p`,
    `p_holm` corrected for all pairs of learners on the split, `decided`, `wins` (probability that
    the first is better on a fresh lifetime), `detectable`, seeds, lifetimes, and how many
    `more_seeds` or `more_lifetimes` would separate them. `attrs["verdict"]` says it in a sentence.
    Nothing is run.
    """
    import pandas as pd

    found = compared(suite, first, second, folder, **selection).document()
    overall = [found["overall"]] if found["overall"] else []
    frame = pd.DataFrame([*found["splits"], *overall])
    frame.attrs.update({name: found[name] for name in ("verdict", "first", "second", "lacking")})
    return frame


def compared(
    suite: str, first: str, second: str, folder: Path | str | None = None, **selection: Any
) -> TwoLearners:
    """`compare` as a record."""
    from vsml_bench.boards.two_learners import two_learners

    for name, given in (("first", first), ("second", second)):
        check_reference(name, given)
    besides = [*selection.pop("extra_learners", ())]
    besides += [of for of in (first, second) if _is_extra(of, suite)]
    of_suite = board(suite, folder, extra_learners=besides, **selection)
    return two_learners(of_suite, first, second)


def _is_extra(reference: str, suite: str) -> bool:
    """Whether the suite does not have it yet; a name may be one of a file's variants, or a row's
    label."""
    own = find_suite(suite).learners
    return reference not in own and (is_place(reference) or reference in cards.shipped())


def curves(
    suite: str,
    folder: Path | str | None = None,
    *,
    window: int | None = None,
    **selection: Any,
) -> pd.DataFrame:
    """How accuracy grows over the examples of a lifetime: one row per split, learner and window of
    examples `first` to `last`, counted from 1, with `accuracy` and its 95 % interval `low` to
    `high`, all in [0, 1].

    window: examples in each (1: example by example); None: 24 windows that grow from 10 examples
    on, as on a board's page. folder, selection: as in `leaderboard`. Learners without a score, and
    protocols whose predictions are no stream, have no rows.
    """
    import pandas as pd

    from vsml_bench.boards.page.curves import curve

    if window is not None and (type(window) is not int or window < 1):
        raise VsmlBenchError(
            f"window: expected a whole number of examples from 1 on, or None, found {window!r}."
        )
    parts = []
    for row in board(suite, folder, **selection).rows:
        found = curve(row.group, window)
        if found is None:
            continue
        place = {"split": row.group.split, "learner": row.group.learner, "kind": row.group.kind}
        steps = {"first": [1, *(end + 1 for end in found.ends[:-1])], "last": found.ends}
        ends = {"accuracy": found.mean, "low": found.low, "high": found.high}
        parts.append(pd.DataFrame({**steps, **ends}).assign(**place))
    names = ["split", "learner", "kind", "first", "last", "accuracy", "low", "high"]
    return pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame(columns=names)
