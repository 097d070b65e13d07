from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import idx_files, omniglot_files
from vsml_bench.data import datasets
from vsml_bench.data.distributions import check_disjoint, largest, members
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Split, find_split


def split(train: TaskDistribution, test: TaskDistribution, relation: Any = "unseen_tasks") -> Split:
    return Split("planted", "", relation, train, test)


def images(name: str, partition: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    examples = datasets.load(name, partition).examples
    assert examples is not None
    return examples.inputs[:, 0], examples.labels.astype(np.uint8)


def test_bundled_partitions_are_disjoint() -> None:
    for name in ("mnist5k", "digits", "wine", "breast_cancer", "iris", "random"):
        check_disjoint(split(TaskDistribution((name,), "train"), TaskDistribution((name,), "test")))


def test_overlap_across_datasets_is_caught_before_transforms(tmp_path: Path) -> None:
    pixels, labels = images("mnist5k", "train")
    other, other_labels = idx_files.images_and_labels(5, seed=0)
    idx_files.write_pair(
        tmp_path / "MNIST" / "raw",
        "t10k",
        np.concatenate([other, pixels[:7]]),
        np.concatenate([other_labels, 9 - labels[:7]]),  # other labels do not hide an image
    )
    planted = split(
        TaskDistribution(("digits", "mnist5k"), "train", size=8, projection=0.5),
        TaskDistribution(("sum_sign", "mnist"), "test", size=14),
        "unseen_dataset",
    )
    with pytest.raises(
        VsmlBenchError, match=r"'planted'.*mnist5k \(train\).*mnist \(test\) share 7 examples"
    ):
        check_disjoint(planted, tmp_path)
    clean = split(TaskDistribution(("mnist5k",), "test"), TaskDistribution(("mnist",), "test"))
    check_disjoint(clean, tmp_path)


@pytest.mark.parametrize("relation", ["unseen_tasks", "unseen_classes", "unseen_shape"])
def test_one_partition_on_both_sides_is_refused(relation: str) -> None:
    side = TaskDistribution(("digits",), "train")
    with pytest.raises(VsmlBenchError, match="share 297 examples"):
        check_disjoint(split(side, side, relation))


def test_same_tasks_may_share_everything() -> None:
    side = TaskDistribution(("digits",), "train")
    check_disjoint(split(side, side, "same_tasks"))


def test_shared_finite_tasks_share_generated_points() -> None:
    train = TaskDistribution(("random",), "train", size=4, diversity=3)
    test = TaskDistribution(("random",), "test", size=4, diversity=5)
    with pytest.raises(VsmlBenchError, match="same points of random"):
        check_disjoint(split(train, test))
    check_disjoint(split(train, TaskDistribution(("random",), "test", size=4)))
    check_disjoint(split(train, TaskDistribution(("random",), "test", size=5, diversity=5)))


SMALL_1 = {"Balinese": 2, "Greek": 2, "Latin": 1}
SMALL_2 = {"Greek": 2, "Latin": 1, "Sanskrit": 3}


def small(partition: Any, *groups: str) -> TaskDistribution:
    return TaskDistribution(("omniglot_small",), partition, size=28, classes=2, groups=groups)


def test_alphabets_in_both_archives_of_omniglot_are_caught(tmp_path: Path) -> None:
    for name, alphabets, seed in (("small1", SMALL_1, 1000), ("small2", SMALL_2, 2000)):
        path = tmp_path / "omniglot" / f"images_background_{name}.zip"
        omniglot_files.write_archive(path, alphabets, seed, same=5000)

    def check(train: TaskDistribution, test: TaskDistribution) -> None:
        check_disjoint(split(train, test, "unseen_classes"), tmp_path)

    with pytest.raises(VsmlBenchError, match=r"\(train\).*\(test\) share 6 examples by content"):
        check(small("train"), small("test"))
    with pytest.raises(VsmlBenchError, match=r"share 4 examples by content.*or groups"):
        check(small("train", "Greek", "Balinese"), small("test", "Greek", "Sanskrit"))
    check(small("train"), small("test", "Sanskrit"))
    check(small("train", "Balinese"), small("test"))
    check(small("train", "Balinese"), small("train", "Greek"))  # one archive, two sides


@pytest.mark.skipif(
    not Path(
        os.environ.get("VSML_BENCH_DATA", ""), "omniglot/images_background_small2.zip"
    ).is_file(),
    reason="VSML_BENCH_DATA has no small archives of Omniglot",
)
def test_the_shipped_split_keeps_greek_and_latin_apart() -> None:
    shipped = find_split("omniglot-small")
    check_disjoint(shipped)
    # 24 + 26 characters, 20 drawings of each
    everything = dataclasses.replace(shipped.meta_test, groups=())
    with pytest.raises(VsmlBenchError, match="share 1000 examples by content"):
        check_disjoint(dataclasses.replace(shipped, meta_test=everything))


def test_absent_data_are_unavailable(tmp_path: Path) -> None:
    absent = split(TaskDistribution(("digits",), "train"), TaskDistribution(("kmnist",), "test"))
    with pytest.raises(UnavailableError):
        check_disjoint(absent, tmp_path)


@pytest.mark.skipif(
    not Path(
        os.environ.get("VSML_BENCH_DATA", ""), "MNIST/raw/t10k-images-idx3-ubyte.gz"
    ).is_file(),
    reason="VSML_BENCH_DATA has no MNIST test images",
)
def test_mnist5k_has_nothing_of_the_official_test_partition() -> None:
    for partition in ("train", "test"):
        side = TaskDistribution(("mnist5k",), partition)
        check_disjoint(split(side, TaskDistribution(("mnist",), "test")))


def mixed(**fields: Any) -> TaskDistribution:
    return TaskDistribution(("digits",), "train", projection=0.5, **fields)


def test_members_by_hand() -> None:
    assert members(mixed(class_counts=(7, 3), sizes=(4, 8))) == (
        mixed(classes=3, size=4),
        mixed(classes=3, size=8),
        mixed(classes=7, size=4),
        mixed(classes=7, size=8),
    )
    assert members(mixed(sizes=(8, 4), classes=5)) == (
        mixed(classes=5, size=4),
        mixed(classes=5, size=8),
    )


def test_a_plain_side_is_its_only_member() -> None:
    assert members(mixed(size=8)) == (mixed(size=8),)
    assert largest(mixed()) == mixed()


def test_the_largest_has_most_classes_at_the_largest_size() -> None:
    assert largest(mixed(class_counts=(3, 7), sizes=(8, 4))) == mixed(classes=7, size=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_counts": (3,), "classes": 4}, "class_counts: .*`classes` = 4"),
        ({"sizes": (3,), "size": 8}, "sizes: .*`size` = 8"),
    ],
)
def test_a_number_given_twice_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(VsmlBenchError, match=message):
        members(mixed(**fields))
