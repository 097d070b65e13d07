"""Which part of VSML matters? One choice changed at a time, all meta-trained alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vsml_bench.boards import statistics
from vsml_bench.boards.groups import Group
from vsml_bench.studies import Section, Study, Value

# Its learners are found by their module only: there are many, and one suite names them.
STUDY = Study(sections="vsml_bench.studies.ablations:sections")

DEFAULT = "ablation-none"


class Ablation(NamedTuple):
    """One choice."""

    title: str
    default: str
    changed: dict[str, str]
    """Learner -> its value."""


ABLATIONS = (
    Ablation("Micro-ticks", "2", {"ablation-ticks-1": "1", "ablation-ticks-3": "3"}),
    Ablation("State size N", "16", {"ablation-n-8": "8", "ablation-n-32": "32"}),
    Ablation("Message size M", "8", {"ablation-messages-4": "4", "ablation-messages-16": "16"}),
    Ablation(
        "Random share of a fresh state",
        "one half",
        {"ablation-random-0": "none", "ablation-random-1": "all"},
    ),
    Ablation("Feedback", "error", {"ablation-label": "label"}),
    Ablation("Messages are reduced by", "mean", {"ablation-sum": "sum"}),
    Ablation(
        "Gate offsets",
        "+5 and -5",
        {"ablation-offsets-0": "none", "ablation-offsets-1": "+1 and -1"},
    ),
)
TEXT = (
    "Accuracy over all steps with its 95 % interval, over the last 100 steps, and its difference "
    "from the default's on the same lifetimes with the 95 % interval of that. Intervals cover the "
    "choice of the lifetimes, and that of the meta-train seed where there are several."
)


def sections(finished: Sequence[Group]) -> list[Section]:
    """A table for each choice with a finished alternative to a finished default."""
    made = []
    for title, default, changed in ABLATIONS:
        values = {DEFAULT: default, **changed}
        accuracy = ("mean", "from", "to", "last 100")
        gained = ("difference", "at least", "at most")
        headers = ("split", title, *accuracy, *gained, "seeds")
        rows: list[tuple[Value, ...]] = []
        for base in (of for of in finished if of.learner == DEFAULT):
            group = [
                of
                for name in values
                for of in finished
                if (of.learner, of.split, of.kind) == (name, base.split, base.kind)
            ]
            if len(group) > 1:
                rows += [_row(of, base, values[of.learner]) for of in group]
        if rows:
            made.append(Section(f"Ablation: {title}", TEXT, headers, tuple(rows)))
    return made


def _row(of: Group, base: Group, value: str) -> tuple[Value, ...]:
    found = of.estimate
    last = float(statistics.lifetime_scores(statistics.final(of.correct)).mean())
    row: tuple[Value, ...] = (of.split, value, found.mean, found.low, found.high, last)
    if of is base:
        return (*row, None, None, None, found.seeds)
    gained = statistics.paired_difference(of.scores, base.scores, (of.basis, base.basis))
    return (*row, gained.mean, gained.low, gained.high, found.seeds)
