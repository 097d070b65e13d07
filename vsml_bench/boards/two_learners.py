"""Two learners of a board side by side: what separates them, in a sentence and split by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsml_bench.boards.board import Board
from vsml_bench.boards.formats.escaping import markdown
from vsml_bench.boards.formats.markdown import table
from vsml_bench.boards.pairs import OVERALL, Pair, pairs, signed
from vsml_bench.boards.statistics import published
from vsml_bench.errors import VsmlBenchError, closest

NEVER_SEEN = "all with data never seen"
"""What tables call `OVERALL`."""
_LEGEND = (
    "Differences are paired: both learners met the same lifetimes. Intervals are of this pair by "
    "itself. Decided: 'yes' after Holm's correction for all pairs of learners that the board has "
    "on the split, 'by itself' where only the interval leaves out 0. Detectable: the smallest "
    "true difference that these seeds and lifetimes would show by itself in 80 % of repetitions. "
    "With as many more as the sentence says, that would be the difference found; seeds are of each "
    "learner that has meta-parameters."
)


@dataclass(frozen=True)
class TwoLearners:
    """The first learner minus the second."""

    suite: str
    board_hash: str
    first: str
    second: str
    pairs: tuple[Pair, ...]
    """Split by split, in planned order; then over all splits with data never seen, where both have
    a score on each of these."""
    lacking: tuple[str, ...]
    """What has no score and why, each a sentence without its end."""
    one_seed: tuple[str, ...]
    """Which of the two has meta-parameters and one meta-train seed, so that intervals leave out how
    results vary between seeds."""

    @property
    def overall(self) -> Pair | None:
        """Over all splits with data never seen."""
        return next((pair for pair in self.pairs if pair.split == OVERALL), None)

    @property
    def better(self) -> bool:
        """Whether the first is better by the interval of this pair by itself, as who asks about two
        learners named beforehand makes one comparison."""
        return self.overall is not None and self.overall.difference.low > 0

    @property
    def worse(self) -> bool:
        """Whether the first is worse, likewise, or whether that cannot be said."""
        return self.overall is None or self.overall.difference.high < 0

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if self.overall is not None:
            return self.overall.verdict()
        more = len(self.lacking) - 1
        others = f" and {more} more" if more else ""
        return (
            f"{self.first} against {self.second}: no verdict on data never seen, since scores are "
            f"missing ({self.lacking[0]}{others})."
        )

    def document(self) -> dict[str, Any]:
        """As JSON has it; differences, their ends and probabilities are shares in [-1, 1]."""
        overall = self.overall
        ahead = (
            overall.first if overall is not None and overall.difference.mean > 0 else self.second
        )
        return {
            "suite": self.suite,
            "board_hash": self.board_hash,
            "first": self.first,
            "second": self.second,
            "verdict": self.verdict,
            "ahead": ahead if overall is not None and overall.difference.mean else None,
            "better": self.better,
            "worse": self.worse,
            "splits": [_plain(pair) for pair in self.pairs if pair.split != OVERALL],
            "overall": _plain(overall) if overall is not None else None,
            "lacking": list(self.lacking),
            "one_seed": list(self.one_seed),
        }

    def markdown(self) -> str:
        """For reading."""
        heads = ["split", "difference (points)", "95 % interval", "decided"]
        heads += [f"{self.first} is better on a fresh lifetime", "detectable (points)"]
        heads += ["seeds", "lifetimes"]
        title = f"# {markdown(self.first)} against {markdown(self.second)}: {markdown(self.suite)}"
        parts = [title, f"**{markdown(self.verdict)}**", table(heads, [*map(_line, self.pairs)])]
        parts += [_LEGEND]
        if self.one_seed:
            names = " and ".join(map(markdown, self.one_seed))
            parts.append(f"One meta-train seed: nothing is known of how seeds of {names} vary.")
        if self.lacking:
            items = "\n".join(f"* {markdown(item)}" for item in self.lacking)
            parts += ["## Without a score", items]
        return "\n\n".join([*parts, f"Board hash: `{self.board_hash}`"]) + "\n"


def two_learners(board: Board, first: str, second: str) -> TwoLearners:
    """first, second: names, labels of rows as in "vsml (cpu)", or references as they were planned.

    Raises VsmlBenchError where one of them is no learner of the board, or several, where they are
    the same, and where they have no score on the same split.
    """
    a, b = (find(board, given) for given in (first, second))
    if a == b:
        raise VsmlBenchError(f"'{first}' and '{second}' are the same learner; name two.")
    found = pairs(board, (a, b))
    groups = board.by_label
    for label, given in ((a, first), (b, second)):
        if not any(of.finished for of in groups[label]):
            raise VsmlBenchError(
                f"'{label}' has no score in suite '{board.suite}' ({groups[label][0].status}); run "
                f"it with `vsml-bench run --suite {board.suite} --learner {given}`."
            )
    if not found:
        raise VsmlBenchError(f"'{a}' and '{b}' have no score on the same split.")
    found = [pair if pair.first == a else pair.turned() for pair in found]
    once = [
        label
        for label in (a, b)
        if any(of.has_meta_parameters and len(of.ok) == 1 for of in groups[label])
    ]
    return TwoLearners(
        board.suite,
        board.board_hash,
        a,
        b,
        tuple(found),
        tuple(_lacking(board, (a, b))),
        tuple(once),
    )


def find(board: Board, given: str) -> str:
    """What the board calls the learner."""
    groups = board.by_label
    if given in groups:
        return given
    found = []
    for label, of in groups.items():
        card = of[0].plans[0].job.learner
        if card.name == given or f"{card.reference}:".startswith(f"{given}:"):
            found.append(label)
    if len(found) == 1:
        return found[0]
    if not found:
        raise VsmlBenchError(
            f"'{given}' is no learner of this board of '{board.suite}'; {closest(given, groups)}"
        )
    raise VsmlBenchError(f"'{given}' stands for several; name one of: {', '.join(found)}.")


def _lacking(board: Board, labels: Sequence[str]) -> list[str]:
    """On splits where anybody has a score."""
    groups, found = board.by_label, []
    for label in labels:
        scored = {of.split for of in groups[label] if of.finished}
        for of in groups[label]:
            if of.split in board.families and of.split not in scored:
                reason = f": {of.reason}" if of.reason else ""
                found.append(f"{label} on {of.split}: {of.status}{reason}")
    return found


def _plain(pair: Pair) -> dict[str, Any]:
    d = pair.difference
    numbers = {
        **{"difference": d.mean, "low": d.low, "high": d.high, "p": d.p, "p_holm": pair.holm},
        **{"wins": pair.wins, "detectable": pair.detectable},
    }
    return {
        "split": NEVER_SEEN if pair.split == OVERALL else pair.split,
        **{name: None if of is None else published(of) for name, of in numbers.items()},
        "decided": pair.decided,
        "decided_by_itself": d.decided,
        "seeds_first": pair.seeds[0],
        "seeds_second": pair.seeds[1],
        "lifetimes": pair.lifetimes,
        "more_seeds": pair.more.seeds,
        "more_lifetimes": pair.more.lifetimes,
    }


def _line(pair: Pair) -> list[str]:
    d = pair.difference
    return [
        NEVER_SEEN if pair.split == OVERALL else pair.split,
        signed(d.mean),
        f"{signed(d.low)} to {signed(d.high)}",
        pair.said,
        f"{100 * pair.wins:.0f} %",
        "" if pair.detectable is None else f"{100 * pair.detectable:.1f}",
        f"{pair.seeds[0]} and {pair.seeds[1]}",
        str(pair.lifetimes),
    ]
