"""CIFAR-10, SVHN and Omniglot, in small files of the real formats."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.data import omniglot_files as omniglot
from vsml_bench.data import datasets, files
from vsml_bench.errors import UnavailableError, VsmlBenchError


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven files as the authors pickle them, with their checksums in torchvision's lists."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = generator.integers(0, 256, (4, 3072)).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    for attribute in ("train_list", "test_list"):
        listed = [[name, _md5(folder / name)] for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, listed)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": _md5(folder / "batches.meta")})
    for file in folder.iterdir():
        monkeypatch.setitem(files.SIZES, file.name, file.stat().st_size)
    return tmp_path


def test_cifar10(cifar: Path) -> None:
    train, test = (datasets.load("cifar10", p, cifar) for p in ("train", "test"))
    assert train.examples is not None and test.examples is not None
    assert train.examples.inputs.shape == (20, 3, 32, 32)
    assert test.examples.labels.tolist() == [0, 1, 2, 9]
    stored = pickle.loads((cifar / "cifar-10-batches-py" / "test_batch").read_bytes())["data"]
    assert np.array_equal(test.examples.inputs.reshape(4, -1), stored)  # red, green, blue planes
    assert datasets.status("cifar10", cifar).available


def test_a_hostile_cifar10_pickle_is_never_executed(cifar: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "executed"
    payload = f"cposix\nsystem\n(S'touch {evidence}'\ntR.".encode()
    (cifar / "cifar-10-batches-py" / "test_batch").write_bytes(payload)
    with pytest.raises(VsmlBenchError, match="cifar-10-batches-py in the data root is broken"):
        datasets.load("cifar10", "test", cifar)
    assert not evidence.exists()


@pytest.mark.parametrize("folder", ["", "SVHN"])
def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    from torchvision.datasets import SVHN

    colours = np.random.default_rng(1).integers(0, 256, (32, 32, 3, 6)).astype(np.uint8)
    path = tmp_path / folder / "test_32x32.mat"
    path.parent.mkdir(exist_ok=True)
    savemat(path, {"X": colours, "y": np.array([[10], [1], [2], [3], [10], [9]])})
    listed = {**SVHN.split_list, "test": ["", "test_32x32.mat", _md5(path)]}
    monkeypatch.setattr(SVHN, "split_list", listed)
    monkeypatch.setitem(files.SIZES, path.name, path.stat().st_size)
    dataset = datasets.load("svhn", "test", tmp_path)
    assert dataset.examples is not None
    assert dataset.examples.labels.tolist() == [0, 1, 2, 3, 0, 9]
    assert np.array_equal(dataset.examples.inputs[5, 2], colours[:, :, 2, 5])
    assert dataset.statistics_from == "test"
    status = datasets.status("svhn", tmp_path)
    assert status.available and status.train is None and "SVHN/train_32x32.mat" in status.reason


def test_a_truncated_svhn_file(tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(VsmlBenchError, match=r"train_32x32\.mat in the data root is broken"):
        datasets.load("svhn", "train", tmp_path)
    status = datasets.status("svhn", tmp_path)
    assert not status.available and "expected 182040794 bytes, found 10" in status.reason


@pytest.mark.parametrize("file", files.CIFAR10_FILES)
def test_a_cut_cifar10_file_is_seen_at_a_glance(cifar: Path, file: str) -> None:
    path = cifar / file
    path.write_bytes(path.read_bytes()[:-1])
    status = datasets.status("cifar10", cifar)
    assert not status.available and f"{path.name} is broken: expected" in status.reason


def test_omniglots_official_archives(tmp_path: Path) -> None:
    omniglot.write_archive(
        tmp_path / "omniglot-py" / "images_background.zip", {"Greek": 3, "Tifinagh": 2}
    )
    omniglot.write_archive(
        tmp_path / "omniglot-py" / "images_evaluation.zip", {"Ge_ez": 2}, seed=100
    )
    train, test = (datasets.load("omniglot", p, tmp_path) for p in ("train", "test"))
    assert train.examples is not None and test.examples is not None
    assert (train.inputs_shape, train.classes, test.classes) == ((1, 105, 105), 5, 2)
    assert train.examples.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    first = np.asarray(Image.open(io.BytesIO(omniglot.png(1))).convert("L"))
    assert np.array_equal(train.examples.inputs[0, 0], first)
    assert set(np.unique(first)) == {0, 255}
    status = datasets.status("omniglot", tmp_path)
    assert (status.train, status.test, status.reason) == (10, 4, "")


def test_the_small_archives_of_omniglot_are_a_dataset_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "omniglot"
    omniglot.write_archive(folder / "images_background_small1.zip", {"Greek": 1, "Balinese": 2})
    omniglot.write_archive(folder / "images_background_small2.zip", {"Greek": 1, "Korean": 3}, 50)
    train, test = (datasets.load("omniglot_small", p, tmp_path) for p in ("train", "test"))
    assert train.examples is not None and test.examples is not None
    assert train.examples.groups == ("Balinese", "Balinese", "Greek")
    assert test.examples.groups == ("Greek", "Korean", "Korean", "Korean")
    assert not datasets.status("omniglot", tmp_path).available
    with pytest.raises(UnavailableError, match=r"no images_evaluation\.zip.*data fetch omniglot"):
        datasets.load("omniglot", "test", tmp_path)
    with pytest.raises(UnavailableError, match=r"no images_background_small1\.zip.*copy it from"):
        datasets.load("omniglot_small", "train", tmp_path / "elsewhere")


def test_groups_are_part_of_a_dataset_standardised_as_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "omniglot" / "images_background_small1.zip"
    omniglot.write_archive(path, {"Balinese": 2, "Greek": 1, "Latin": 2})
    whole = datasets.load("omniglot_small", "train", tmp_path)
    part = datasets.load("omniglot_small", "train", tmp_path, ("Latin", "Balinese"))
    assert whole.examples is not None and part.examples is not None
    rows = [0, 1, 2, 3, 6, 7, 8, 9]
    assert np.array_equal(part.examples.inputs, whole.examples.inputs[rows])
    assert part.examples.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert part.classes == part.examples.classes == 4
    assert part.examples.groups == ("Balinese", "Balinese", "Latin", "Latin")
    assert (part.mean, part.std) == (
        whole.mean,
        whole.std,
    ) and part.content_hash != whole.content_hash
    assert datasets.load("omniglot_small", "train", tmp_path, ("Latin", "Balinese")) is part
    with pytest.raises(VsmlBenchError, match=r"has no group 'Latn'; did you mean 'Latin'"):
        datasets.load("omniglot_small", "train", tmp_path, ("Latn",))
    with pytest.raises(VsmlBenchError, match=r"'digits' \(test\) has no groups"):
        datasets.load("digits", "test", None, ("Latin",))


def test_lakes_runs_are_a_fixed_list_of_episodes(tmp_path: Path) -> None:
    drawn = omniglot.write_runs(tmp_path / "omniglot" / "all_runs", runs=3, characters=4)
    dataset = datasets.load("omniglot_runs", "test", tmp_path)
    examples = dataset.examples
    assert examples is not None and examples.support is not None and dataset.is_fixed_list
    assert examples.groups == ("run01",) * 4 + ("run02",) * 4 + ("run03",) * 4
    assert examples.labels.tolist() == [label for label in range(12) for _ in range(2)]
    assert examples.support.tolist() == [True, False] * 12
    for image, label, learned in zip(
        examples.inputs, examples.labels, examples.support, strict=True
    ):
        run, character = divmod(int(label), 4)
        assert np.array_equal(image[0], drawn[run, character, "training" if learned else "test"])
    status = datasets.status("omniglot_runs", tmp_path)
    assert (status.train, status.test, status.reason) == (None, 24, "")
    with pytest.raises(UnavailableError, match="has no train partition"):
        datasets.load("omniglot_runs", "train", tmp_path)
    with pytest.raises(UnavailableError, match=r"no omniglot-py/all_runs.*copy it from"):
        datasets.load("omniglot_runs", "test", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        ("no labels", "folders with a class_labels.txt"),
        ("one name on a line", "a test and a training image on each line"),
        ("a training image twice", "one test image for each training image"),
        ("no image", r"run01/training/class02\.png is broken: expected a PNG image"),
        ("wrong size", r"run01/training/class02\.png is broken: expected a PNG image"),
    ],
)
def test_broken_runs(tmp_path: Path, breakage: str, words: str) -> None:
    folder = tmp_path / "omniglot-py" / "all_runs"
    omniglot.write_runs(folder, runs=1, characters=3)
    labels, image = folder / "run01/class_labels.txt", folder / "run01/training/class02.png"
    if breakage == "no labels":
        labels.unlink()
    elif breakage == "one name on a line":
        labels.write_text("run01/test/item01.png\n")
    elif breakage == "a training image twice":
        labels.write_text(labels.read_text().replace("class02", "class01"))
    else:
        image.write_bytes(b"text" if breakage == "no image" else omniglot.png(0, 28))
    with pytest.raises(VsmlBenchError, match=words) as caught:
        datasets.load("omniglot_runs", "test", tmp_path)
    assert not isinstance(caught.value, UnavailableError)


@pytest.mark.parametrize("breakage", ["truncated", "empty", "no images", "not png", "wrong size"])
def test_broken_omniglot_archives(tmp_path: Path, breakage: str) -> None:
    path = tmp_path / "omniglot-py" / "images_background.zip"
    omniglot.write_archive(path, {"Greek": 2})
    whole = path.read_bytes()
    if breakage in ("truncated", "empty"):
        path.write_bytes(whole[: len(whole) // 2 if breakage == "truncated" else 0])
    else:
        content = {"no images": b"", "not png": b"text", "wrong size": omniglot.png(0, 28)}[
            breakage
        ]
        with zipfile.ZipFile(path, "w") as archive:
            name = "readme.txt" if breakage == "no images" else "x/Greek/character01/01.png"
            archive.writestr(name, content)
    with pytest.raises(
        VsmlBenchError, match=r"omniglot-py/images_background\.zip is broken"
    ) as caught:
        datasets.load("omniglot", "train", tmp_path)
    assert not isinstance(caught.value, UnavailableError)
