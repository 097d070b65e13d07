"""Sides, splits and suites as shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vsml_bench import paths, registry
from vsml_bench.config import compact
from vsml_bench.data.distributions import pinned, task_identity
from vsml_bench.sides import find_side, side_names
from vsml_bench.storage import canonical_json, sha256_hex
from vsml_bench.suites import find_split, find_suite, split_names, splits_of, suite_names


def test_pinned_lifetimes_have_not_moved() -> None:
    """Seeds of published lifetimes come from these; the hashes are of before sides had names. A
    split that is added may be left out here, and no hash may be replaced."""
    later = ("paper/", "transfer/", "diversity/")
    splits = {name: find_split(name) for name in split_names() if not name.startswith(later)}
    assert len(splits) == 43
    identities = {name: [compact(s.meta_train), compact(s.meta_test)] for name, s in splits.items()}
    assert sha256_hex(canonical_json(identities)).startswith("b2e62a1882e7dc24")
    axes = {name: ("meta-test", pinned(split.meta_test)) for name, split in splits.items()}
    assert sha256_hex(canonical_json(axes)).startswith("21e800ba6ba69b79")


def test_nothing_heavy_is_imported() -> None:
    program = "import sys, vsml_bench.suites; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_each_side_is_written_once() -> None:
    found = {name: find_side(name, Path(), name) for name in side_names()}
    assert all(name == f"{name.split('/')[0]}/{side.name}" for name, side in found.items())
    written = [side.tasks for side in found.values()]
    twice = {name for name, side in found.items() if written.count(side.tasks) > 1}
    # three that only have descriptions of their own
    assert twice == {
        *("test/mnist5k", "robustness/unchanged"),
        *("test/mnist5k-14", "robustness/size-14"),
        *("test/breast_cancer", "robustness/tabular"),
    }


def test_every_suite_names_things_that_exist() -> None:
    for name in suite_names():
        suite = find_suite(name)
        assert [split.name for split in splits_of(suite)] == list(suite.splits)
        assert set(suite.splits) <= set(split_names())
        assert all(registry.find_learners(learner) for learner in suite.learners)


def test_paper_suite_is_the_papers_grid() -> None:
    splits = splits_of(find_suite("paper"))
    trained = {split.meta_train.datasets for split in splits}
    tests = {split.meta_test.datasets for split in splits}
    assert (len(splits), len(trained), len(tests)) == (77, 11, 7)
    assert sorted(len(side) for side in trained) == [1] * 5 + [4] * 5 + [5]
    for split in splits:
        seen = split.meta_test.datasets[0] in split.meta_train.datasets
        assert split.relation == ("unseen_tasks" if seen else "unseen_dataset")
        assert split.meta_test.partition == "test" and split.meta_train.partition == "train"
        assert split.meta_test.size == (None if "cifar10" in split.name else 28)


def test_the_two_families_of_meta_train_sides_keep_apart() -> None:
    """The paper's: labels as they are, a stated number of tasks. Ours: permuted, without limit."""
    file = paths.tasks() / "sides"
    found = {name: find_side(name, file, "a test").tasks for name in side_names()}
    as_labelled = {n: t for n, t in found.items() if n.startswith("train-as-labelled/")}
    permuted = {n: t for n, t in found.items() if n.startswith("train/") and t.projection}
    assert {n.split("/")[1] for n in as_labelled} >= {"mnist", "mnist5k", "fashion_mnist", "random"}
    assert all(not t.label_permutation and t.diversity == 128 for t in as_labelled.values())
    assert all(t.label_permutation and t.diversity == 0 for t in permuted.values())
    assert {t.projection for t in (*as_labelled.values(), *permuted.values())} == {0.5}
    for suite in ("paper", "transfer"):
        assert {s.meta_train for s in splits_of(find_suite(suite))} <= {*as_labelled.values()}
    for suite in ("desk", "learners", "robustness"):
        assert {s.meta_train for s in splits_of(find_suite(suite))} <= {*permuted.values()}


def test_transfer_leaves_one_of_three_families_out_and_knows_its_own() -> None:
    splits = splits_of(find_suite("transfer"))
    families = ("mnist5k", "fashion_mnist", "random")
    trained = {split.meta_train.datasets for split in splits}
    assert len(splits) == 42 and len(trained) == 7
    assert {frozenset(families) - {*side} for side in trained if len(side) == 2} == {
        frozenset({family}) for family in families
    }
    assert {split.meta_test.size for split in splits} == {28}
    for split in splits:
        (tested,) = split.meta_test.datasets
        tested = "mnist5k" if tested == "mnist" else tested
        seen = tested in split.meta_train.datasets
        assert split.relation == ("unseen_tasks" if seen else "unseen_dataset"), split.name


def test_diversity_meets_the_tasks_of_meta_training_and_others_on_unseen_examples() -> None:
    suite = find_suite("diversity")
    splits = splits_of(suite)
    trained = {split.meta_train.diversity for split in splits}
    assert trained == {1, 4, 16, 64, 256, 1024, 4096, 0} and len(splits) == 23
    for split in splits:
        train, test = split.meta_train, split.meta_test
        assert (train.partition, test.partition) == ("train", "test")
        assert test.diversity in (0, train.diversity)
        assert (test.diversity > 0) == (split.relation == "same_tasks")
        assert (task_identity(train) == task_identity(test)) == (train.datasets == test.datasets)
    for learner in suite.recipes:  # at another size, or with fewer classes, tasks are others
        (entry,) = registry.find_learners(learner)
        assert entry.cls.recipe is not None
        recipe = entry.cls.recipe.changed(suite.recipes[learner], learner)
        assert recipe.size in (None, 14)
        assert all(phase.classes is None for phase in recipe.phases)


@pytest.mark.parametrize("name", ["robustness", "robustness-grid"])
def test_robustness_suites_change_one_thing_at_a_time(name: str) -> None:
    suite = find_suite(name)
    assert suite.study == "robustness"
    home, *others = splits_of(suite)
    assert home.unchanged == "" and len(others) > 6
    several = {  # names must be drawn in order to be drawn anew; tables have no size
        "robustness/switch": {"label_permutation", "switch"},
        "robustness/tabular": {"datasets", "size"},
    }
    seen = []
    for split in others:
        assert split.unchanged == home.name and split.meta_train == home.meta_train
        differing = {
            field: value
            for field, value in vars(split.meta_test).items()
            if value != getattr(home.meta_test, field)
        }
        assert len(differing) == 1 or set(differing) == several[split.name]
        seen.append(differing)
    assert all(seen.count(differing) == 1 for differing in seen)
