"""What a cell's key depends on and what not; which lifetimes are shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import idx_files
from tests.harness import LEARNER, write, write_split, write_suite
from vsml_bench import paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.evaluation.planning import CellPlan, meta_test_axes, plan_suite, unique_jobs
from vsml_bench.protocols.evaluation import from vsml_bench.suites import find_split, find_suite
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.suites import Suite
from vsml_bench.studies.introspection.protocol import Introspection

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

MINE = (
    LEARNER
    + """
class Mine(Base):
    \"\"\"Says nothing.\"\"\"

    variants = {"mine": Config("x")}

    def predict(self, state, inputs):  # a remark
        return state.logits * 1.0, state
"""
)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    splits = ["digits-held-out", "digits-to-random"]
    return find_suite(str(write_suite(tmp_path / "s.toml", list(splits), ["vsml", "sgd-linear"])))


def keys(
    suite: Suite, root: Path | None = None, **selection: Any
) -> dict[tuple[str, str, int], str]:
    plans = plan_suite(suite, root, **selection)
    return {(p.id.split, p.id.learner, p.id.seed): p.key for p in plans}


def changed(suite: Suite, **fields: Any) -> set[str]:
    """Learners whose key is another with these fields of the suite."""
    before, after = keys(suite), keys(dataclasses.replace(suite, **fields))
    assert before.keys() == after.keys()
    return {
        name
        for (split, name, seed) in before
        if before[split, name, seed] != after[split, name, seed]
    }


def test_a_plan_is_every_combination_once(suite: Suite) -> None:
    suite = dataclasses.replace(suite, seeds=(4, 0, 2))
    found = [(p.id.split, p.id.learner, p.id.seed) for p in plan_suite(suite)]
    assert len(found) == len(set(found)) == 8
    assert {seed for _, name, seed in found if name == "vsml"} == {0, 2, 4}
    assert {seed for _, name, seed in found if name == "sgd-linear"} == {0}
    assert len({p.key for p in plan_suite(suite)}) == 8


def test_selection(suite: Suite) -> None:
    assert {s for s, _, _ in keys(suite, splits=["digits-to-random"])} == {"digits-to-random"}
    assert {n for _, n, _ in keys(suite, learners=["chance"])} == {"chance"}
    assert {n for _, n, _ in keys(suite, extra_learners=["chance"])} == {
        "vsml",
        "sgd-linear",
        "chance",
    }
    assert {s for _, n, s in keys(suite, seeds=[0, 9]) if n == "vsml"} == {0, 9}


def test_naming_a_thing_twice_changes_nothing(suite: Suite) -> None:
    once = keys(suite, learners=["vsml"], splits=["digits-held-out"], seeds=[1])
    twice = plan_suite(
        suite,
        learners=["vsml", "vsml"],
        extra_learners=["vsml"],
        splits=["digits-held-out"] * 2,
        seeds=[1, 1],
    )
    assert [p.key for p in twice] == list(once.values())


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
    plain = keys(suite, learners=["vsml"])
    assert keys(suite, learners=["vsml"], overrides={"ticks": 2}) == plain
    other = keys(suite, learners=["vsml"], overrides={"ticks": 3})
    assert not set(other.values()) & set(plain.values())
    with pytest.raises(VsmlBenchError, match="'learning_rate' is tuned"):
        keys(suite, learners=["sgd-linear"], overrides={"learning_rate": 0.5})


def test_keys_depend_on_what_the_code_does(suite: Suite, tmp_path: Path) -> None:
    def key(folder: str, text: str) -> dict[tuple[str, str, int], str]:
        return keys(suite, learners=[str(write(tmp_path / folder / "mine.py", text))])

    original = key("a", MINE)
    assert key("b", MINE.replace("# a remark", "").replace("Says nothing", "Tidied")) == original
    assert key("c", MINE.replace("* 1.0", "* 2.0")) != original
    assert key("d", MINE.replace("torch.rand(", "torch.randn(")) != original, (
        "the base class counts"
    )


def test_keys_depend_on_the_data(suite: Suite, tmp_path: Path) -> None:
    split = write_split(tmp_path / "to.toml", "kmnist", relation="unseen_dataset")
    images, labels = idx_files.images_and_labels(40, 0)
    roots = [tmp_path / name for name in ("one", "same", "other")]
    for root in roots:
        other = images.copy()
        other[0, 0, 0] ^= root.name == "other"
        idx_files.write_pair(root / "KMNIST/raw", "t10k", other, labels)
    suite = dataclasses.replace(suite, splits=(str(split), "digits-held-out"))
    one, same, other_keys = (keys(suite, root) for root in roots)
    assert one == same
    differing = {place[0] for place in one if one[place] != other_keys[place]}
    assert differing == {"to"}
    missing = plan_suite(suite, tmp_path / "nothing")
    assert {p.id.split for p in missing if p.unavailable} == {"to"}
    assert all(p.key not in one.values() for p in missing if p.unavailable)


def test_introspection_is_for_all_that_know_online_and_trains_alike(suite: Suite) -> None:
    looking = dataclasses.replace(suite, protocol="introspection")
    pairs = list(zip(plan_suite(suite), plan_suite(looking), strict=True))
    for online, looked in pairs:
        assert {p for p in online.hashes if online.hashes[p] != looked.hashes[p]} == {"protocol"}
        assert looked.meta_test_protocol == Introspection(looked.steps)
        assert looked.meta_test_seeds == online.meta_test_seeds
    with pytest.raises(VsmlBenchError, match="2 examples or more"):
        plan_suite(dataclasses.replace(looking, steps=1))


def test_a_split_with_fewer_examples_has_shorter_lifetimes(suite: Suite) -> None:
    steps = {p.id.split: p.steps for p in plan_suite(dataclasses.replace(suite, steps=1600))}
    assert steps == {"digits-held-out": 1500, "digits-to-random": 1600}


def test_meta_test_lifetimes_are_pinned_by_the_meta_test_side_alone(tmp_path: Path) -> None:
    def seeds(**more: str) -> list[int]:
        path = write_split(tmp_path / "x.toml", **more)
        (plan,) = plan_suite(find_suite(str(write_suite(tmp_path / "s.toml", [path], ["chance"]))))
        return lifetime_seeds(4, *meta_test_axes(plan.split.meta_test))

    base = seeds()
    assert len(set(base)) == 4
    assert seeds(train="random", relation="unseen_dataset") == base
    assert not set(seeds(more="projection = 0.5")) & set(base)
    assert not set(seeds(test="wine", relation="unseen_modality")) & set(base)


def test_published_cells_were_run_on_todays_lifetimes() -> None:
    published = [*(paths.results() / "desk" / "cells").glob("*--chance--*.json")]
    assert len(published) == len(find_suite("desk").splits)
    for path in published:
        cell = load_cell(path)
        axes = meta_test_axes(find_split(cell.id.split).meta_test)
        assert cell.provenance.seeds["meta_test"] == lifetime_seeds(cell.lifetimes, *axes)


def test_a_change_in_look_keeps_the_lifetimes(tmp_path: Path) -> None:
    def seeds(more: str) -> list[int]:
        side = find_split(str(write_split(tmp_path / "x.toml", more=more))).meta_test
        return lifetime_seeds(4, *meta_test_axes(side))

    for change in ("invert = true", "scale = 2.0", "label_noise = 0.1", "late_class = true"):
        assert seeds(change) == seeds("")
    assert seeds("label_permutation = true\nswitch = true") == seeds("label_permutation = true")


FIXED = (
    LEARNER
    + """
from vsml_bench.learner import Shape


class Fixed(Base):
    variants = {"small": Config("")}
    fixed_shape = Shape((1, 8, 8), 10)


class Images(Base):
    variants = {"images": Config("")}
    input_kinds = frozenset({"image"})
"""
)


def test_a_learner_that_cannot_take_the_examples_is_unavailable(tmp_path: Path) -> None:
    splits = [
        write_split(tmp_path / "large.toml", more="size = 9", relation="unseen_shape"),
        write_split(tmp_path / "table.toml", "breast_cancer", relation="unseen_modality"),
        write_split(tmp_path / "turned.toml", more="rotations = true", relation="unseen_classes"),
        write_split(tmp_path / "from-table.toml", train="wine", relation="unseen_modality"),
    ]
    learners = [write(tmp_path / "fixed.py", FIXED)]
    suite = find_suite(str(write_suite(tmp_path / "s.toml", [*splits], [*learners])))
    reasons = {(p.id.split, p.id.learner): p.unavailable for p in plan_suite(suite)}
    assert "(1, 9, 9) do not fit a learner whose inputs are fixed" in reasons["large", "small"]
    assert "tasks of 40 classes do not fit" in reasons["turned", "small"]
    for name in ("table", "from-table"):
        assert reasons[name, "small"] == ""
        assert reasons[name, "images"] == (
            f"learner 'images' takes inputs of the kind image only, and split '{name}' has vectors."
        )
    assert reasons["large", "images"] == reasons["turned", "images"] == ""


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
    suite = write_suite(tmp_path / "s.toml", [same], ["chance"])
    assert plan_suite(find_suite(str(suite)))[0].unchanged == "home"
    suite = write_suite(tmp_path / "s.toml", [other], ["chance"])
    with pytest.raises(VsmlBenchError, match=r"split 'other': unchanged: .* another meta-train"):
        plan_suite(find_suite(str(suite)))


def test_cells_that_share_a_meta_training_share_its_job(suite: Suite) -> None:
    plans: list[CellPlan] = plan_suite(dataclasses.replace(suite, seeds=(0, 1)))
    jobs = unique_jobs(plans)
    assert len(plans) == 6 and len(jobs) == 3  # two seeds of VSML, one tuning
    assert {plan.id.split for plan in jobs.values()} == {"digits-held-out"}


def test_leakage_is_refused(tmp_path: Path) -> None:
    leaky = write_split(tmp_path / "leaky.toml", "digits", test_partition="train")
    suite = find_suite(str(write_suite(tmp_path / "s.toml", [leaky], ["chance"])))
    with pytest.raises(VsmlBenchError, match=r"split 'leaky'.* share 297 examples by content"):
        plan_suite(suite)
    allowed = write_split(
        tmp_path / "same.toml", "digits", test_partition="train", relation="same_tasks"
    )
    assert plan_suite(dataclasses.replace(suite, splits=(str(allowed),)))


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
        ({"recipes": {"vsml": {"lifetimes": 0}}}, "recipe of 'vsml': lifetimes"),
    ],
)
def test_suites_that_make_no_sense_are_refused(suite: Suite, fields: Any, words: str) -> None:
    with pytest.raises(VsmlBenchError, match=words):
        plan_suite(dataclasses.replace(suite, **fields))


def test_two_learners_of_one_name_are_refused(suite: Suite, tmp_path: Path) -> None:
    files = [str(write(tmp_path / f"{n}.py", MINE)) for n in ("one", "two")]
    with pytest.raises(VsmlBenchError, match=r"called 'mine', from one\.py and two\.py; rename"):
        plan_suite(suite, learners=files)


def test_hashes_name_the_part_that_changed(suite: Suite) -> None:
    plan, other = (
        plan_suite(s, learners=["vsml"], splits=["digits-held-out"])[0]
        for s in (suite, dataclasses.replace(suite, steps=10))
    )
    assert {k for k in plan.hashes if plan.hashes[k] != other.hashes[k]} == {"protocol"}
    assert np.array([len(value) for value in plan.hashes.values()]).tolist() == [64] * 6


def test_learners_that_a_suite_names_by_their_file_have_names_in_it(tmp_path: Path) -> None:
    two = MINE.replace('{"mine": Config("x")}', '{"mine": Config("x"), "other": Config("y")}')
    file = write(tmp_path / "two.py", two)
    suite = find_suite(str(write_suite(tmp_path / "s.toml", ["digits-held-out"], [file])))
    every, (one,) = plan_suite(suite), plan_suite(suite, learners=["other"])
    assert [p.id.learner for p in every] == ["mine", "other"]
    assert one.key == every[1].key
    assert [p.id.learner for p in plan_suite(suite, learners=["chance"])] == ["chance"]
    reseeded = dataclasses.replace(suite, learner_seeds={"other": (3,)})
    assert len(plan_suite(reseeded)) == 2
    unknown = dataclasses.replace(suite, learner_seeds={"othre": (3,)})
    with pytest.raises(
        VsmlBenchError, match="'othre' is not among its learners; did you mean 'other'"
    ):
        plan_suite(unknown)
