from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tests.data import idx_files
from vsml_bench.data import datasets
from vsml_bench.data.files import IdxImages, read_idx
from vsml_bench.errors import UnavailableError, VsmlBenchError


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_what_was_written_without_touching_the_root(tmp_path: Path, suffix: str) -> None:
    images, labels = idx_files.images_and_labels(12, seed=1)
    idx_files.write_pair(tmp_path / "KMNIST" / "raw", "train", images, labels, suffix)
    before = sorted(tmp_path.rglob("*"))
    dataset = datasets.load("kmnist", "train", tmp_path)
    assert dataset.examples is not None
    assert np.array_equal(dataset.examples.inputs[:, 0], images)
    assert np.array_equal(dataset.examples.labels, labels)
    assert (dataset.inputs_shape, dataset.classes) == ((1, 28, 28), 10)
    assert sorted(tmp_path.rglob("*")) == before


def test_agrees_with_torchvisions_reader(tmp_path: Path) -> None:
    from torchvision.datasets.mnist import read_image_file

    images, _ = idx_files.images_and_labels(5, seed=2)
    path = tmp_path / "images"
    idx_files.write(path, idx_files.idx(images))
    assert np.array_equal(read_idx(path, 3), read_image_file(str(path)).numpy())


def _write_test_part(root: Path) -> tuple[Path, Path]:
    folder = root / "MNIST" / "raw"
    idx_files.write_pair(folder, "t10k", *idx_files.images_and_labels(20, seed=3))
    return folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"


def test_a_root_may_hold_one_partition_only(tmp_path: Path) -> None:
    _write_test_part(tmp_path)
    dataset = datasets.load("mnist", "test", tmp_path)
    assert dataset.statistics_from == "test"
    with pytest.raises(UnavailableError, match=r"train partition.*`vsml-bench data fetch mnist`"):
        datasets.load("mnist", "train", tmp_path)
    status = datasets.status("mnist", tmp_path)
    assert (status.available, status.train, status.test) == (True, None, 20)
    assert "train-images" in status.reason


BREAKAGES = {
    "cut off inside the gzip stream": lambda data: gzip.compress(data)[:-200],
    "bad checksum of the gzip stream": lambda data: gzip.compress(data)[:-8] + bytes(8),
    "no gzip at all": lambda data: data,
    "too few bytes": lambda data: gzip.compress(data[:-1]),
    "too many bytes": lambda data: gzip.compress(data + b"x"),
    "a bad magic number": lambda data: gzip.compress(b"\x00\x00\x0d\x03" + data[4:]),
    "half a header": lambda data: gzip.compress(data[:9]),
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_file_is_one_clear_sentence(tmp_path: Path, breakage: str) -> None:
    images, _ = _write_test_part(tmp_path)
    whole = gzip.decompress(images.read_bytes())
    images.write_bytes(BREAKAGES[breakage](whole))
    with pytest.raises(VsmlBenchError) as caught:
        datasets.load("mnist", "test", tmp_path)
    assert not isinstance(caught.value, UnavailableError)
    assert re.fullmatch(
        r"MNIST/raw/t10k-images-idx3-ubyte\.gz is broken: expected .+, found .+; delete it and .+",
        str(caught.value),
    )
    datasets.status("mnist", tmp_path)  # looks at headers only, and never raises


def test_a_broken_header_is_no_available_dataset(tmp_path: Path) -> None:
    images, _ = _write_test_part(tmp_path)
    images.write_bytes(b"not gzip")
    status = datasets.status("mnist", tmp_path)
    assert not status.available
    # The absent train partition matters less.
    assert "t10k-images-idx3-ubyte.gz is broken" in status.reason


def test_images_and_labels_must_match(tmp_path: Path) -> None:
    _, labels = _write_test_part(tmp_path)
    idx_files.write(labels, idx_files.idx(np.zeros(19, np.uint8)))
    with pytest.raises(VsmlBenchError, match="expected 19 images, one for each label, found 20"):
        datasets.load("mnist", "test", tmp_path)
    assert datasets.status("mnist", tmp_path).test is None


def test_labels_must_be_classes(tmp_path: Path) -> None:
    _, labels = _write_test_part(tmp_path)
    idx_files.write(labels, idx_files.idx(np.full(20, 10, np.uint8)))
    with pytest.raises(VsmlBenchError, match="expected labels from 0 to 9, found the label 10"):
        datasets.load("mnist", "test", tmp_path)


def _fashion(system_folder: Path) -> IdxImages:
    return IdxImages(
        "fashion_mnist", "FashionMNIST", 10, system_folder=system_folder, system_origin="a package"
    )


def test_the_systems_package_folder_comes_after_the_root(tmp_path: Path) -> None:
    system, root = tmp_path / "usr", tmp_path / "root"
    idx_files.write_dataset(system, 30, 10, seed=4)
    assert _fashion(system).find(root).origin == "a package"
    assert len(_fashion(system).read("train", root)) == 30
    idx_files.write_dataset(root / "FashionMNIST" / "raw", 40, 10, seed=5)
    assert _fashion(system).find(root).origin == "data root"
    assert len(_fashion(system).read("train", root)) == 40


def test_the_debian_folder_is_where_debian_installs_it() -> None:
    source = datasets.find("fashion_mnist").source
    assert isinstance(source, IdxImages)
    assert source.system_folder == Path("/usr/share/datasets/fashion-mnist")


def test_the_root_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_test_part(tmp_path)
    monkeypatch.setenv("VSML_BENCH_DATA", str(tmp_path))
    assert datasets.status("mnist").test == 20
    assert datasets.load("mnist", "test").content_hash
    elsewhere = tmp_path / "elsewhere"
    assert datasets.status("mnist", elsewhere).test is None  # the argument wins
    monkeypatch.delenv("VSML_BENCH_DATA")
    assert datasets.data_root() == Path("runs/data")


@pytest.mark.skipif(
    not Path(
        os.environ.get("VSML_BENCH_DATA", ""), "MNIST/raw/t10k-images-idx3-ubyte.gz"
    ).is_file(),
    reason="VSML_BENCH_DATA has no MNIST test images",
)
def test_official_mnist_test_images() -> None:
    dataset = datasets.load("mnist", "test")
    assert dataset.examples is not None
    assert dataset.examples.inputs.shape == (10_000, 1, 28, 28)
    # Counts of the labels as published for t10k.
    assert np.bincount(dataset.examples.labels).tolist() == [
        *(980, 1135, 1032, 1010, 982),
        *(892, 958, 1028, 974, 1009),
    ]
