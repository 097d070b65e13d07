"""From a suite to the cells that it consists of: pure functions of TOML files and learners' cards.

Nothing here needs PyTorch, data, or a learner's code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from vsml_bench import paths
from vsml_bench.cards import Card
from vsml_bench.config import as_plain
from vsml_bench.data.distributions import OfSide, identity, pinned
from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.meta_training.job import NO_TASKS, Job, ProtocolCard
from vsml_bench.plugins import is_place
from vsml_bench.protocols.protocol import protocol_of
from vsml_bench.recipes import Recipe
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.sides import TaskDistribution
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.studies import studies
from vsml_bench.suites import SCALED, Split, Suite, find_split, splits_of

Place: TypeAlias = tuple[str, str, int]
"""(split, learner, meta-train seed)."""

MOST = 10**8
"""Examples that a cell, a meta-update, a validation or a point of a tuning grid may have: far
beyond what was ever run, and what one machine can hold."""
MOST_CELLS = 10**4
"""Of a suite."""


@dataclass(frozen=True)
class Plan:
    """One cell: a learner that a job makes ready, on the meta-test side of a split. It can be sent
    to another process."""

    suite: str
    split: Split
    job: Job
    protocol: ProtocolCard
    lifetimes: int
    """Meta-test lifetimes (few_shot: episodes), or as many as a fixed list of episodes has."""
    time_limit: float
    """Seconds."""

    @property
    def learner(self) -> str:
        """The learner's name on the board."""
        return self.job.learner.name

    @property
    def place(self) -> Place:
        """Where on a board it belongs."""
        return self.split.name, self.learner, self.job.seed

    @property
    def note(self) -> str:
        """What a reader of the board must know."""
        scale = self.suite.partition(SCALED)[2]
        return f"budgets scaled by {scale}, so that the scores mean nothing" if scale else ""

    @property
    def unchanged(self) -> str:
        """Name of the split that its own is with one change; "" for none."""
        file, inside = paths.parts(self.split.unchanged)
        return inside or Path(file).stem or self.split.unchanged

    def __str__(self) -> str:
        return f"{self.learner} on {self.split.name}, seed {self.job.seed}"

    def published(self) -> Plan:
        """Without this machine's paths."""
        split = dataclasses.replace(self.split, unchanged=self.unchanged)
        job, protocol = self.job.published(), self.protocol.published()
        return dataclasses.replace(self, split=split, job=job, protocol=protocol)

    def identity(self, of: OfSide = identity) -> dict[str, Any]:
        """All that is declared and that the outcome depends on, part by part, with every default.
        What is not, code and data, is replay's business. of: what is said of a side."""
        job = self.job.identity(of)
        return {
            "learner": self.job.learner.identity(),
            "meta_train": of(self.split.meta_train),
            "meta_test": of(self.split.meta_test),
            "relation": self.split.relation,
            "protocol": self.protocol.identity(),
            "lifetimes": self.lifetimes,
            "seed": self.job.seed,
            "meta_training": {
                part: job[part] for part in ("episodes", "recipe", "start", "tuning")
            },
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return sha256_hex(canonical_json(self.identity()))

    def meta_test_seeds(self, fixed_episodes: int | None = None) -> list[int]:
        """Seeds of the pinned meta-test lifetimes: the same for all learners, seeds and splits with
        this meta-test side, and for sides that differ by a change of `suites.CHANGES`.

        fixed_episodes: length of the list that the data are, where they are one; seeds are then
        numbers of episodes.
        """
        if fixed_episodes is not None:
            return list(range(min(self.lifetimes, fixed_episodes)))
        return lifetime_seeds(self.lifetimes, "meta-test", pinned(self.split.meta_test))


@dataclass(frozen=True)
class Selection:
    """What of a suite is run, and what besides."""

    splits: Sequence[str] = ()
    """Only these of the suite's."""
    learners: Sequence[str] = ()
    """These instead of the suite's own: names or references."""
    extra_learners: Sequence[str] = ()
    """These as well."""
    seeds: Sequence[int] = ()
    """Only these meta-train seeds."""
    overrides: Mapping[str, Any] | None = None
    """Configuration fields of the learners that run."""

    def references(self, suite: Suite) -> list[str]:
        """What is run, as the suite or the user names it."""
        return list(dict.fromkeys([*(self.learners or suite.learners), *self.extra_learners]))


EVERYTHING = Selection()


def plan_suite(
    suite: Suite,
    cards: Mapping[str, Sequence[Card]],
    selection: Selection = EVERYTHING,
) -> list[Plan]:
    """All cells of a suite, split by split.

    cards: reference -> what it stands for, for each of `selection.references` and of the learners
    that recipes start from. Raises VsmlBenchError for unknown names, and where a learner cannot be
    run under the suite's protocol.
    """
    check_suite(suite)
    learners = _distinct(
        card for reference in selection.references(suite) for card in cards[reference]
    )
    for card in learners:
        check_protocol(card, suite)
    _check_tables(suite, cards)
    seeds = {card.name: _seeds_of(card, suite, selection) for card in learners}
    splits = splits_of(suite, selection.splits)
    cells = len(splits) * sum(map(len, seeds.values()))
    _check_size(f"suite '{suite.name}': cells", cells, MOST_CELLS)
    plans = []
    for split in splits:
        _check_unchanged(split)
        protocol = protocol_card(suite, split.meta_test, f"meta_test of '{split.name}'")
        each = max(protocol.predictions, protocol.examples)
        where = f"suite '{suite.name}': split '{split.name}'"
        _check_size(f"{where}: lifetimes x examples of each", suite.lifetimes * each)
        for card in learners:
            for seed in seeds[card.name]:
                job = plan_job(card, split.meta_train, seed, suite, cards)
                plans.append(
                    Plan(suite.name, split, job, protocol, suite.lifetimes, suite.time_limit)
                )
    return plans


def _seeds_of(card: Card, suite: Suite, selection: Selection) -> list[int]:
    """Meta-train seeds, each once; 0 for a learner that is not meta-trained."""
    own = selection.seeds or suite.learner_seeds.get(card.name, suite.seeds)
    return list(dict.fromkeys(own)) if card.recipe is not None else [0]


def plan_job(
    card: Card,
    side: TaskDistribution | None,
    seed: int,
    suite: Suite,
    cards: Mapping[str, Sequence[Card]],
    changes: Mapping[str, Any] | None = None,
) -> Job:
    """The meta-training or tuning that makes a learner ready for a suite's cells.

    side: the meta-train side; None where the recipe has a source of its own. changes: fields of the
    recipe to change besides those that the suite changes.
    """
    if card.tuning is not None and suite.scale != 1.0:
        card = dataclasses.replace(card, tuning=card.tuning.scaled(suite.scale))
    recipe = card.recipe
    if changes and recipe is None:
        raise VsmlBenchError(
            f"learner '{card.name}' is not meta-trained, so it has no recipe to change."
        )
    if recipe is not None:
        own = suite.recipes.get(card.name, {})
        recipe = recipe.changed(own, f"suite '{suite.name}': recipes.{card.name}")
        recipe = recipe.changed(changes or {}, f"recipe of {card.name}")
        if suite.scale != 1.0:
            recipe = recipe.scaled(suite.scale)
        _check_recipe(card, recipe, cards)
    _check_sizes(card, recipe)
    if recipe is not None and recipe.source:
        return Job(card, NO_TASKS, seed, recipe)
    assert side is not None
    protocol = protocol_card(suite, side, "meta_train")
    episodes = None if protocol.stream else protocol
    if recipe is not None and episodes is not None:
        recipe = recipe.of_episodes(episodes.examples)
    start = None
    if recipe is not None and recipe.starts_from:
        if recipe.starts_from not in cards:
            raise VsmlBenchError(
                f"recipe of '{card.name}': starts_from: '{recipe.starts_from}' cannot be chosen "
                "here; give it in the learner's own recipe."
            )
        (beginner,) = cards[recipe.starts_from]
        start = plan_job(beginner, side, seed, dataclasses.replace(suite, recipes={}), cards)
    return Job(card, side, seed, recipe, episodes, start)


def protocol_card(suite: Suite, side: TaskDistribution, where: str) -> ProtocolCard:
    """The suite's protocol with its numbers on one side of a split; where: what errors call
    that."""
    instance = protocol_of(suite).of(suite, side, where)
    return ProtocolCard(
        reference=suite.protocol,
        name=instance.name,
        version=instance.version,
        metric=instance.metric,
        stream=instance.stream,
        numbers=as_plain(instance),
        predictions=instance.predictions,
        examples=instance.examples,
    )


def check_suite(suite: Suite) -> None:
    """VsmlBenchError for numbers that make no sense, and for a study that there is not."""
    for field in ("lifetimes", "steps", "time_limit"):
        if not getattr(suite, field) > 0:
            raise VsmlBenchError(
                f"suite '{suite.name}': {field}: expected more than 0, found "
                f"{getattr(suite, field)}."
            )
    for field in ("splits", "learners", "seeds"):
        if not getattr(suite, field):
            raise VsmlBenchError(f"suite '{suite.name}': {field}: expected at least one.")
    if suite.study and suite.study not in studies():
        raise VsmlBenchError(
            f"suite '{suite.name}': unknown study '{suite.study}'; "
            f"{closest(suite.study, studies())}"
        )


def check_protocol(card: Card, suite: Suite) -> None:
    """VsmlBenchError where the learner cannot be run under the suite's protocol."""
    protocol = protocol_of(suite)
    if protocol.needs not in card.protocols:
        raise VsmlBenchError(
            f"learner '{card.name}' cannot be run in suite '{suite.name}', whose protocol is "
            f"'{protocol.name}': it knows only {', '.join(card.protocols)}."
        )


def _check_recipe(card: Card, recipe: Recipe, cards: Mapping[str, Sequence[Card]]) -> None:
    where = f"recipe of '{card.name}'"
    if recipe.shared and recipe.shared not in card.config:
        raise VsmlBenchError(
            f"{where}: shared: no field '{recipe.shared}' to configure; "
            f"{closest(recipe.shared, card.config)}"
        )
    way, beginner = [card.name], recipe.starts_from
    while beginner:
        way.append(beginner)
        if beginner in way[:-1]:
            raise VsmlBenchError(
                f"{where}: starts_from: a learner cannot go on from itself: {' from '.join(way)}."
            )
        own = [of.recipe for of in cards.get(beginner, ()) if of.recipe is not None]
        beginner = own[0].starts_from if own else ""


def _check_sizes(card: Card, recipe: Recipe | None) -> None:
    """VsmlBenchError for a meta-training or tuning that cannot be meant."""
    if recipe is not None:
        where, longest = f"recipe of '{card.name}'", max(p.lifetime for p in recipe.phases)
        for index, phase in enumerate(recipe.phases):
            examples = (phase.lifetimes or recipe.lifetimes) * phase.lifetime
            _check_size(f"{where}: phases[{index}]: lifetimes x lifetime", examples)
            largest = max(phase.sizes, default=1)
            _check_size(f"{where}: phases[{index}].sizes: size x size", largest**2)
        validated = recipe.validation_lifetimes * longest
        _check_size(f"{where}: validation_lifetimes x lifetime", validated)
        _check_size(f"{where}: steps of all phases", recipe.steps)
        _check_size(f"{where}: size x size", (recipe.size or 1) ** 2)
    elif card.tuning is not None:
        examples = card.tuning.lifetimes * card.tuning.steps
        _check_size(f"tuning of '{card.name}': lifetimes x steps", examples)


def _check_size(what: str, found: int, most: int = MOST) -> None:
    if found > most:
        raise VsmlBenchError(f"{what}: expected at most {most:,}, found {float(found):.3g}.")


def _check_tables(suite: Suite, cards: Mapping[str, Sequence[Card]]) -> None:
    named = {learner for learner in suite.learners if not is_place(learner)}
    known = {*named, *(c.name for name in suite.learners for c in cards.get(name, ()))}
    unread = any(learner not in {*named, *cards} for learner in suite.learners)
    for field in ("recipes", "learner_seeds"):
        for name in getattr(suite, field):
            if name not in known and (is_place(name) or not unread):
                raise VsmlBenchError(
                    f"suite '{suite.name}': {field}: '{name}' is not among its learners; "
                    f"{closest(name, known)}"
                )


def _check_unchanged(split: Split) -> None:
    """VsmlBenchError where a split and the one that it is with one change cannot have the same
    meta-trained learners."""
    if split.unchanged and find_split(split.unchanged).meta_train != split.meta_train:
        raise VsmlBenchError(
            f"split '{split.name}': unchanged: '{split.unchanged}' has another meta-train side, so "
            "that it shows another learner; give both the same."
        )


def _distinct(cards: Iterable[Card]) -> list[Card]:
    """Each learner once, however often it was named."""
    found: dict[str, Card] = {}
    for card in cards:
        other = found.setdefault(card.name, card)
        if other.identity() != card.identity():
            raise VsmlBenchError(
                f"two of the learners to run are called '{card.name}', from {other.origin} and "
                f"{card.origin}; rename one in its `variants`."
            )
    return list(found.values())
