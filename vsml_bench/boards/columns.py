"""The columns of a board: each is one function from a group to an estimate or a plain value.

Other packages bring columns by entry points of the group `vsml_bench.columns`: the point's name is
the column's, its value "package.module:NAME" of a `Column`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vsml_bench.boards import statistics
from vsml_bench.boards.changes import change_of
from vsml_bench.boards.costs import AXES, cost_of
from vsml_bench.boards.families import Finished, member
from vsml_bench.boards.groups import Group
from vsml_bench.boards.statistics import Interval
from vsml_bench.boards.variances import Components, components
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import data_hashes
from vsml_bench.plugins import with_installed
from vsml_bench.studies import Value

ENTRY_POINT_GROUP = "vsml_bench.columns"

Answer: TypeAlias = Interval | Value | tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """What a board says of each group in one respect."""

    of: Callable[[Group, Sequence[Group]], Answer]
    """From a group, and all groups of the board that are finished, to a value; None for none."""
    title: str = ""
    """What heads it in tables."""
    unit: str = ""
    """"%": a share, which tables show in percent. "place": a rank. Others stand in the head."""
    bounds: tuple[str, str] | None = None
    """Names of the interval's ends in JSON and CSV; None where values have no interval."""
    bounds_title: str = ""
    """What heads the interval in the tables of splits; "" is "95 % interval of the TITLE"."""
    needs_score: bool = True
    """Whether it is asked of finished groups alone; the others then have None."""
    matrix: bool = False
    """Whether there is a matrix of it, learners by splits. Where there is no number, tables then
    show the status."""
    details: int = 0
    """Its place in the tables of splits, from left to right; 0 is none."""
    title_of_episodes: str | None = None
    """Its title where predictions are no stream; None is `title`, and "" leaves it out."""
    json: bool = True
    csv: bool = True

    def values(self, name: str, group: Group, finished: Sequence[Group]) -> dict[str, Any]:
        """What it says of a group, by name: itself and the ends of its interval.

        Raises VsmlBenchError where the function fails or gives something else than it says.
        """
        names = (name, *(self.bounds or ()))
        if self.needs_score and not group.finished:
            return dict.fromkeys(names)
        where = f"column '{name}' of {group.learner} on {group.split}"
        try:
            found = self.of(group, finished)
        except VsmlBenchError:
            raise
        except Exception as error:
            raise VsmlBenchError(f"{where}: {type(error).__name__}: {error}.") from error
        bounded = isinstance(found, Interval)
        if found is not None and bounded != (self.bounds is not None):
            gave, said = ("an", "none") if bounded else ("no", "one")
            raise VsmlBenchError(f"{where}: gave {gave} interval; its `bounds` say {said}.")
        numbers: list[Any] = [found] * len(names)
        if isinstance(found, Interval):
            numbers = [found.mean, found.low, found.high]
        return {n: _published(value, where) for n, value in zip(names, numbers, strict=True)}


def _published(value: Any, where: str) -> Any:
    """Floats rounded as they are published; all else as it is."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise VsmlBenchError(f"{where}: gave {value}; expected a finite number or None.")
    return statistics.published(value)


def columns() -> dict[str, Column]:
    """All columns by name: the shipped ones, then those of other packages.

    Raises VsmlBenchError where two have the same name, or ends of intervals have.
    """
    found = with_installed(COLUMNS, ENTRY_POINT_GROUP, "column", Column)
    names = [n for name, column in found.items() for n in (name, *(column.bounds or ()))]
    for name in names:
        if names.count(name) > 1:
            raise VsmlBenchError(f"two columns write '{name}'; rename one, or its `bounds`.")
    return found


def _mean_of(part: Callable[[Any], Any]) -> Callable[[Group, Sequence[Group]], float | None]:
    """Mean accuracy over a part of the steps, where these are a stream."""

    def mean(group: Group, finished: Sequence[Group]) -> float | None:
        scores = statistics.lifetime_scores(part(group.correct))
        return float(scores.mean()) if group.stream else None

    return mean


def _at_100(group: Group, finished: Sequence[Group]) -> Interval | None:
    """Accuracy about example 100, from 91 to 110, since one prediction of each lifetime says too
    little; None where there is no such example."""
    part = group.correct[..., 90:110]
    if not group.stream or part.shape[2] < 20:
        return None
    return statistics.estimate(statistics.lifetime_scores(part), group.has_meta_parameters, 20)


def _rank(group: Group, finished: Sequence[Group]) -> Interval:
    """Place by the mean, and the places that no decided paired difference excludes."""
    known = finished if isinstance(finished, Finished) else Finished(finished)
    best, worst = known.families[group.split].places(member(group))
    mean = statistics.published(group.estimate.mean)
    rivals = [of for of in finished if of.split == group.split]
    above = sum(statistics.published(of.estimate.mean) > mean for of in rivals)
    return Interval(1 + above, best, worst)


def _gap(group: Group, finished: Sequence[Group]) -> Interval | None:
    """Generalisation gap: accuracy on the meta-train side's own tasks minus this one, over as many
    steps as both have."""
    homes = [of for of in finished if _is_home(of, group)]
    if not homes or group.relation == "same_tasks":
        return None
    # Should a suite have several, the choice must not depend on the order they come in.
    home = min(homes, key=lambda of: of.split)
    steps = range(min(home.correct.shape[2], group.correct.shape[2]))
    (own, of_own), (here, of_here) = home.part(steps), group.part(steps)
    return statistics.generalisation_gap(own, here, (of_own, of_here))


def _change(group: Group, finished: Sequence[Group]) -> Interval | None:
    """Accuracy minus that on the split that this one is with one change, such as permuted labels:
    what a learner loses that remembers the plain data from elsewhere."""
    change = change_of(group, finished)
    return change.difference if change else None


def _varies(part: Callable[[Components], float], title: str, place: int) -> Column:
    """A column of a part's share of the variance of one score, which is a seed on a lifetime; only
    where several seeds tell parts apart."""

    def share(group: Group, finished: Sequence[Group]) -> float | None:
        found = components(group.scores)
        return None if found is None else part(found)

    return Column(share, title=title, unit="%", details=place)


def _is_home(home: Group, group: Group) -> bool:
    """Whether `home` is the same learner on the tasks that it was meta-trained on."""
    return (
        home.relation == "same_tasks"
        and home.learner == group.learner
        and home.kind == group.kind
        and home.seeds == group.seeds
        and home.cells[0].identity["meta_train"] == group.cells[0].identity["meta_train"]
        and data_hashes(home.cells[0], "meta_train") == data_hashes(group.cells[0], "meta_train")
    )


def _always(of: Callable[[Group], Value | tuple[str, ...]], **shown: Any) -> Column:
    """A column that every group has."""
    return Column(lambda group, finished: of(group), needs_score=False, **shown)


def _cost(name: str, place: int) -> Column:
    """A field of `Cost` in seconds."""

    def seconds(group: Group) -> float | None:
        cost = cost_of([group])
        return None if cost is None else float(getattr(cost, name))

    return _always(seconds, title=AXES[name].title, details=place)


COLUMNS: Mapping[str, Column] = {
    "split": _always(lambda group: group.split),
    "relation": _always(lambda group: group.relation),
    "learner": _always(lambda group: group.learner, title="learner", details=20),
    "metric": _always(lambda group: group.plans[0].protocol.metric),
    "mean": Column(
        lambda group, finished: group.estimate,
        title="mean",
        unit="%",
        bounds=("ci_low", "ci_high"),
        bounds_title="95 % interval",
        matrix=True,
        details=30,
    ),
    # Meta-train seeds behind the mean; 0 where there is none.
    "seeds": _always(lambda group: len(group.cells) if group.finished else 0),
    "lifetimes": _always(
        lambda group: group.lifetimes, title="lifetimes", title_of_episodes="episodes", details=80
    ),
    "steps": _always(
        lambda group: group.steps, title="steps", title_of_episodes="queries", details=90
    ),
    "status": _always(lambda group: group.status),
    # Whether the interval covers the choice of the meta-train seed.
    "seed_variance": Column(lambda group, finished: group.estimate.seed_variance),
    # Whether it covers the choice of the test examples.
    "example_variance": Column(lambda group, finished: group.basis.example_variance),
    "seed_share": _varies(lambda of: of.seeds, "variance: seeds", 72),
    "lifetime_share": _varies(lambda of: of.lifetimes, "variance: lifetimes", 73),
    "interaction_share": _varies(lambda of: of.interaction, "variance: interaction", 74),
    "early": Column(
        _mean_of(statistics.early), title="first 100", unit="%", title_of_episodes="", details=40
    ),
    "at_100": Column(
        _at_100,
        title="at example 100",
        unit="%",
        bounds=("at_100_low", "at_100_high"),
        title_of_episodes="",
        details=45,
    ),
    "final": Column(
        _mean_of(statistics.final), title="last 100", unit="%", title_of_episodes="", details=50
    ),
    "gap": Column(_gap, title="gap", unit="%", bounds=("gap_low", "gap_high"), details=60),
    "change": Column(
        _change,
        title="difference to plain",
        unit="%",
        bounds=("change_low", "change_high"),
        details=65,
    ),
    "rank": Column(_rank, title="rank", unit="place", bounds=("rank_low", "rank_high"), details=10),
    "seeds_ok": _always(lambda group: len(group.ok)),
    "seeds_planned": _always(lambda group: len(group.plans)),
    "seeds of planned": _always(
        lambda group: f"{len(group.ok)} of {len(group.plans)}",
        title="seeds",
        details=70,
        json=False,
        csv=False,
    ),
    "family": _always(lambda group: group.plans[0].job.learner.family),
    "meta_parameters": _always(
        lambda group: max((cell.provenance.meta_parameters for cell in group.ok), default=None)
    ),
    "device": _always(lambda group: group.device, title="device", details=100),
    # What scores are pooled over: all models of CPU, each model of GPU, each precision.
    "kind": _always(lambda group: group.kind),
    "meta_train_seconds": _cost("meta_train_seconds", 110),
    "seconds_per_1000": _cost("seconds_per_1000", 120),
    "note": _always(lambda group: group.note),
    # Why there is no mean, or which seeds it lacks.
    "reason": _always(lambda group: group.reason),
    "keys": _always(lambda group: tuple(plan.key for plan in group.plans), csv=False),
}
"""Name -> column, in the order of JSON and CSV."""
