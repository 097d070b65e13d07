"""What a suite consists of, what a cell's key depends on and what not, which lifetimes are
shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.harness import LEARNER, call, cards_in, refusal, write, write_split, write_suite
from vsml_bench import api, cards, paths
from vsml_bench.cards import Card
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.evaluation.plan import Plan, Selection, plan_suite
from vsml_bench.evaluation.runner import Setting
from vsml_bench.evaluation.verification import jobs_of
from vsml_bench.evaluation.worker import inspect
from vsml_bench.meta_training.job import Job
from vsml_bench.registry import find_learner
from vsml_bench.storage import unseal
from vsml_bench.studies.introspection.protocol import Introspection
from vsml_bench.suites import Suite, find_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

MINE = (
    LEARNER
    + """
from vsml_bench.learner import Shape


class Mine(Base):
    variants = {"mine": Config("x"), "other": Config("y")}  # a remark


class Fixed(Base):
    variants = {"small": Config("")}
    fixed_shape = Shape((1, 8, 8), 10)


class Images(Base):
    variants = {"images": Config("")}
    input_kinds = frozenset({"image"})
"""
)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("mine") / "mine.py", MINE)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    splits = ["digits-held-out", "digits-to-random"]
    return find_suite(str(write_suite(tmp_path / "s.toml", list(splits), ["vsml", "sgd-linear"])))


def plans(suite: Suite, **selected: Any) -> list[Plan]:
    """All cells of the suite, or those selected; references of files are read in this process."""
    selection = Selection(**selected)
    references = selection.references(suite)
    found = {name: cards_in(Path(name)) for name in references if name.endswith(".py")}
    named = [name for name in references if name not in found]
    return plan_suite(suite, {**cards.find_all(named, selection.overrides), **found}, selection)


def keys(suite: Suite, **selected: Any) -> dict[tuple[str, str, int], str]:
    return {plan.place: plan.key for plan in plans(suite, **selected)}


def differing(one: Plan, other: Plan) -> set[str]:
    """The parts of the identity in which two cells differ."""
    assert (one.key == other.key) == (one.identity() == other.identity())
    return {part for part, found in one.identity().items() if found != other.identity()[part]}


def changed(suite: Suite, **fields: Any) -> set[str]:
    """Learners whose key is another with these fields of the suite."""
    before, after = keys(suite), keys(dataclasses.replace(suite, **fields))
    assert before.keys() == after.keys()
    return {place[1] for place in before if before[place] != after[place]}


def test_a_plan_is_every_combination_once(suite: Suite) -> None:
    suite = dataclasses.replace(suite, seeds=(4, 0, 2))
    found = [plan.place for plan in plans(suite)]
    assert len(found) == len(set(found)) == 8
    assert {seed for _, name, seed in found if name == "vsml"} == {0, 2, 4}
    assert {seed for _, name, seed in found if name == "sgd-linear"} == {0}
    assert len(set(keys(suite).values())) == 8


def test_selection(suite: Suite) -> None:
    assert {s for s, _, _ in keys(suite, splits=["digits-to-random"])} == {"digits-to-random"}
    assert {n for _, n, _ in keys(suite, learners=["chance"])} == {"chance"}
    besides = keys(suite, extra_learners=["chance"])
    assert {name for _, name, _ in besides} == {"vsml", "sgd-linear", "chance"}
    assert {s for _, n, s in keys(suite, seeds=[0, 9]) if n == "vsml"} == {0, 9}


def test_naming_a_thing_twice_changes_nothing(suite: Suite) -> None:
    once = keys(suite, learners=["vsml"], splits=["digits-held-out"], seeds=[1])
    twice = plans(
        suite,
        learners=["vsml", "vsml"],
        extra_learners=["vsml"],
        splits=["digits-held-out"] * 2,
        seeds=[1, 1],
    )
    assert [plan.key for plan in twice] == list(once.values())


def test_keys_do_not_depend_on_order_or_company(suite: Suite) -> None:
    whole = keys(suite)
    turned = dataclasses.replace(
        suite, splits=suite.splits[::-1], learners=suite.learners[::-1], name="another-name"
    )
    assert keys(turned) == whole
    alone = keys(suite, splits=["digits-to-random"], learners=["sgd-linear"])
    assert alone == {k: v for k, v in whole.items() if k in alone} and len(alone) == 1


def test_keys_depend_on_protocol_and_recipe_where_it_matters(suite: Suite) -> None:
    both = {"vsml", "sgd-linear"}
    assert changed(suite, lifetimes=10) == both
    assert changed(suite, steps=31) == both
    assert changed(suite, time_limit=1.0) == set()
    recipes = {"vsml": {**suite.recipes["vsml"], "clip": 0.5}}
    assert changed(suite, recipes=recipes) == {"vsml"}
    often = {"vsml": {**suite.recipes["vsml"], "checkpoint_every": 1}}
    assert changed(suite, recipes=often) == set()


def test_keys_depend_on_configuration(suite: Suite) -> None:
    selection = Selection(learners=["vsml"], seeds=[0], splits=["digits-held-out"])
    entry = find_learner("vsml")
    plain, same, other = (
        plan_suite(suite, {"vsml": [entry.overridden(values).card({})]}, selection)[0]
        for values in ({}, {"ticks": 2}, {"ticks": 3})
    )
    assert plain.key == same.key and differing(plain, other) == {"learner"}
    with pytest.raises(VsmlBenchError, match="'learning_rate' is tuned"):
        find_learner("sgd-linear").overridden({"learning_rate": 0.5})


def test_the_code_of_a_learner_given_by_path_counts_byte_by_byte(
    suite: Suite, mine: Path, tmp_path: Path
) -> None:
    def key(file: Path) -> dict[tuple[str, str, int], str]:
        return keys(suite, learners=[str(file)])

    original = key(mine)
    assert key(write(tmp_path / "a" / "mine.py", MINE)) == original
    tidied = key(write(tmp_path / "b" / "mine.py", MINE.replace("  # a remark", "")))
    assert tidied.keys() == original.keys()
    assert not set(tidied.values()) & set(original.values())


def test_versions_count(suite: Suite) -> None:
    (plan,) = plans(suite, learners=["vsml"], splits=["digits-held-out"], seeds=[0])

    def learner_of(card: Card) -> Plan:
        return dataclasses.replace(plan, job=dataclasses.replace(plan.job, learner=card))

    later = dataclasses.replace(plan.job.learner, version=plan.job.learner.version + 1)
    assert differing(plan, learner_of(later)) == {"learner"}
    told = dataclasses.replace(plan.job.learner, doc="Said otherwise.", family="renamed")
    assert differing(plan, learner_of(told)) == set()
    protocol = dataclasses.replace(plan.protocol, version=plan.protocol.version + 1)
    assert differing(plan, dataclasses.replace(plan, protocol=protocol)) == {"protocol"}


def test_introspection_is_for_all_that_know_online_and_trains_alike(suite: Suite) -> None:
    looking = dataclasses.replace(suite, protocol="introspection")
    for online, looked in zip(plans(suite), plans(looking), strict=True):
        assert differing(online, looked) == {"protocol"}
        assert looked.job.key == online.job.key
        assert looked.protocol.instance() == Introspection(suite.steps)
        assert looked.meta_test_seeds() == online.meta_test_seeds()
    with pytest.raises(VsmlBenchError, match="2 examples or more"):
        looked_at(plans(dataclasses.replace(looking, steps=1)))


def test_meta_test_lifetimes_are_pinned_by_the_meta_test_side_alone(tmp_path: Path) -> None:
    def seeds(**more: str) -> list[int]:
        path = write_split(tmp_path / "x.toml", **more)
        (plan,) = plans(find_suite(str(write_suite(tmp_path / "s.toml", [path], ["chance"]))))
        return plan.meta_test_seeds()

    base = seeds()
    assert len(set(base)) == 9
    assert seeds(train="random", relation="unseen_dataset") == base
    assert not set(seeds(more="projection = 0.5")) & set(base)
    assert not set(seeds(test="wine", relation="unseen_modality")) & set(base)
    for change in ("invert = true", "scale = 2.0", "label_noise = 0.1", "late_class = true"):
        assert seeds(more=change) == base, "the look is another, the lifetimes are the same"
    permuted = seeds(more="label_permutation = true")
    assert seeds(more="label_permutation = true\nswitch = true") == permuted != base


def test_published_cells_were_run_on_todays_lifetimes() -> None:
    today = {plan.split.name: plan for plan in plans(find_suite("desk"), learners=["chance"])}
    published = [*(paths.results() / "desk" / "cells").glob("*--chance--*.json")]
    assert len(published) == len(today)
    for path in published:
        stored = unseal(path.read_bytes(), path.name)["provenance"]["seeds"]["meta_test"]
        assert stored == today[path.name.partition("--")[0]].meta_test_seeds()


def looked_at(plans: list[Plan]) -> dict[tuple[str, str], str]:
    """Why cells cannot be run here, by split and learner."""
    setting = Setting((), None, "cpu", "", ("", False))
    by_split: dict[str, list[Plan]] = {}
    for plan in plans:
        by_split.setdefault(plan.split.name, []).append(plan)
    reasons = {}
    for split, of in by_split.items():
        try:
            found = inspect(tuple(of), setting, lambda share: None)
        except UnavailableError as error:
            found = {plan.learner: str(error) for plan in of}
        reasons.update({(split, learner): reason for learner, reason in found.items()})
    return reasons


def test_a_learner_that_cannot_take_the_examples_is_unavailable(tmp_path: Path, mine: Path) -> None:
    splits = [
        write_split(tmp_path / "large.toml", more="size = 9", relation="unseen_shape"),
        write_split(tmp_path / "table.toml", "breast_cancer", relation="unseen_modality"),
        write_split(tmp_path / "turned.toml", more="rotations = true", relation="unseen_classes"),
        write_split(tmp_path / "from-table.toml", train="wine", relation="unseen_modality"),
    ]
    suite = find_suite(str(write_suite(tmp_path / "s.toml", [*splits], [mine])))
    reasons = looked_at(plans(suite))
    assert "(1, 9, 9) do not fit a learner whose inputs are fixed" in reasons["large", "small"]
    assert "tasks of 40 classes do not fit" in reasons["turned", "small"]
    for name in ("table", "from-table"):
        assert reasons[name, "small"] == ""
        assert reasons[name, "images"] == (
            f"learner 'images' takes inputs of the kind image only, and split '{name}' has vectors."
        )
    assert reasons["large", "images"] == reasons["turned", "images"] == ""


def test_what_is_not_here_is_unavailable_and_planned_all_the_same(tmp_path: Path) -> None:
    split = write_split(tmp_path / "to.toml", "kmnist", relation="unseen_dataset")
    suite = find_suite(
        str(write_suite(tmp_path / "s.toml", [split, "digits-held-out"], ["chance"]))
    )
    reasons = looked_at(plans(suite))
    assert "kmnist" in reasons["to", "chance"] and reasons["digits-held-out", "chance"] == ""


def test_learners_may_have_seeds_of_their_own(suite: Suite) -> None:
    suite = dataclasses.replace(suite, seeds=(0, 1, 2), learner_seeds={"vsml": (5,)})
    assert {s for _, n, s in keys(suite) if n == "vsml"} == {5}
    assert {s for _, n, s in keys(suite) if n == "sgd-linear"} == {0}
    assert {s for _, n, s in keys(suite, seeds=[1]) if n == "vsml"} == {1}


def test_a_split_is_compared_with_one_of_the_same_meta_train_side(tmp_path: Path) -> None:
    home = write_split(tmp_path / "home.toml")
    same, other = write_split(tmp_path / "same.toml"), write_split(tmp_path / "other.toml")
    other.write_text(other.read_text().replace('"train"', '"train"\nprojection = 0.5', 1))
    for path in (same, other):
        path.write_text(f'unchanged = "{home}"\n{path.read_text()}')
    (plan,) = plans(find_suite(str(write_suite(tmp_path / "s.toml", [same], ["chance"]))))
    assert plan.split.unchanged == str(home) and plan.published().split.unchanged == "home"
    suite = write_suite(tmp_path / "s.toml", [other], ["chance"])
    with pytest.raises(VsmlBenchError, match=r"split 'other': unchanged: .* another meta-train"):
        plans(find_suite(str(suite)))


def test_cells_that_share_a_meta_training_share_its_job(suite: Suite) -> None:
    found = plans(dataclasses.replace(suite, seeds=(0, 1)))
    assert len(found) == 6 and len(jobs_of(found)) == 3  # two seeds of VSML, one tuning


def test_a_start_may_have_a_start_of_its_own(suite: Suite) -> None:
    (plan, _) = plans(suite, learners=("vsml-conv-deep",))
    chain: list[tuple[Any, ...]] = []
    job: Job | None = plan.job
    while job is not None:
        chain.append((job.learner.name, job.seed, job.side))
        job = job.start
    assert [name for name, *_ in chain] == ["vsml-conv-deep", "vsml-conv", "vsml-label-fed"]
    assert len({of[1:] for of in chain}) == 1, "the same seed and the same tasks"


def test_starts_that_lead_back_are_refused(suite: Suite) -> None:
    known = cards.find_all(["vsml-conv"])
    (start,) = known["vsml-label-fed"]
    assert start.recipe is not None
    back = dataclasses.replace(start.recipe, starts_from="vsml-conv")
    known["vsml-label-fed"] = [dataclasses.replace(start, recipe=back)]
    with pytest.raises(VsmlBenchError, match="vsml-conv from vsml-label-fed from vsml-conv"):
        plan_suite(suite, known, Selection(learners=("vsml-conv",)))


def test_leakage_is_refused_before_any_work(tmp_path: Path) -> None:
    leaky = write_split(tmp_path / "leaky.toml", "digits", test_partition="train")
    suite = write_suite(tmp_path / "s.toml", [leaky], ["vsml"])
    said = refusal(call("run", "--suite", suite, "--out", tmp_path / "out", "--quiet"))
    assert "split 'leaky'" in said and "share 297 examples by content" in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    allowed = write_split(
        tmp_path / "same.toml", "digits", test_partition="train", relation="same_tasks"
    )
    found = plans(find_suite(str(write_suite(tmp_path / "t.toml", [allowed], ["chance"]))))
    assert looked_at(found) == {("same", "chance"): ""}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lifetimes": 0}, "lifetimes: expected more than 0, found 0"),
        ({"steps": -3}, "steps: expected more than 0"),
        ({"time_limit": 0.0}, "time_limit: expected more than 0"),
        ({"time_limit": float("nan")}, "time_limit: expected more than 0"),
        ({"seeds": ()}, "seeds: expected at least one"),
        ({"learners": ()}, "learners: expected at least one"),
        ({"splits": ()}, "splits: expected at least one"),
        ({"learners": ("chance",)}, "recipes: 'vsml' is not among its learners"),
        ({"learner_seeds": {"vsm": (0,)}}, "learner_seeds: 'vsm' is not among .* 'vsml'"),
        ({"recipes": {"vsml": {"lifetimes": 0}}}, r"recipes\.vsml: lifetimes: expected more"),
    ],
)
def test_suites_that_make_no_sense_are_refused(suite: Suite, fields: Any, words: str) -> None:
    with pytest.raises(VsmlBenchError, match=words):
        plans(dataclasses.replace(suite, **fields))


def test_two_learners_of_one_name_are_refused(suite: Suite, mine: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "two.py", MINE.partition("class Fixed")[0] + "# otherwise\n")
    with pytest.raises(VsmlBenchError, match=r"called 'mine', from mine\.py and two\.py; rename"):
        plans(suite, learners=[str(mine), str(other)])


def test_learners_that_a_suite_names_by_their_file_have_names_in_it(
    tmp_path: Path, mine: Path
) -> None:
    suite = str(write_suite(tmp_path / "s.toml", ["digits-held-out"], [mine]))
    every, (one,) = api.plan(suite), api.plan(suite, learners=["other"])
    by_name = {plan.learner: plan.key for plan in every}
    assert by_name.keys() == {"mine", "other", "small", "images"}
    assert one.key == by_name["other"]
    assert [plan.learner for plan in api.plan(suite, learners=["chance"])] == ["chance"]
    with pytest.raises(VsmlBenchError, match="unknown learner 'othre'"):
        api.plan(suite, learners=["othre"])
    reseeded = dataclasses.replace(find_suite(suite), learner_seeds={"other": (3,)})
    assert len(plans(reseeded)) == 4
    unknown = dataclasses.replace(reseeded, learner_seeds={"othre": (3,)})
    with pytest.raises(VsmlBenchError, match=r"'othre' is not among .*; did you mean 'other'"):
        plans(unknown)
    by_file = dataclasses.replace(reseeded, learner_seeds={str(mine): (3,)})
    with pytest.raises(VsmlBenchError, match=r"mine.py' is not among its learners"):
        plans(by_file)
