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

from vsml_bench.data import datasets
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


def _png(seed: int, side: int = 105) -> bytes:
    ink = np.random.default_rng(seed).integers(0, 2, (side, side)).astype(bool)
    buffer = io.BytesIO()
    Image.fromarray(~ink).save(buffer, format="PNG")
    return buffer.getvalue()


def _archive(path: Path, alphabets: dict[str, int], seed: int = 0) -> None:
    """Alphabet -> number of characters, two drawings each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                for drawing in (1, 2):
                    seed += 1
                    name = f"{path.stem}/{alphabet}/character{character:02}/{drawing:02}.png"
                    archive.writestr(name, _png(seed))


def test_omniglots_official_archives(tmp_path: Path) -> None:
    _archive(tmp_path / "omniglot-py" / "images_background.zip", {"Greek": 3, "Tifinagh": 2})
    _archive(tmp_path / "omniglot-py" / "images_evaluation.zip", {"Ge_ez": 2}, seed=100)
    train, test = (datasets.load("omniglot", p, tmp_path) for p in ("train", "test"))
    assert train.examples is not None and test.examples is not None
    assert (train.inputs_shape, train.classes, test.classes) == ((1, 105, 105), 5, 2)
    assert train.examples.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    first = np.asarray(Image.open(io.BytesIO(_png(1))).convert("L"))
    assert np.array_equal(train.examples.inputs[0, 0], first)
    assert set(np.unique(first)) == {0, 255}
    status = datasets.status("omniglot", tmp_path)
    assert (status.train, status.test, status.reason) == (10, 4, "")


def test_omniglots_small_archives_share_no_alphabet(tmp_path: Path) -> None:
    folder = tmp_path / "omniglot"
    _archive(folder / "images_background_small1.zip", {"Greek": 1, "Balinese": 2, "Latin": 1})
    _archive(folder / "images_background_small2.zip", {"Greek": 1, "Latin": 1, "Korean": 3}, 50)
    train, test = (datasets.load("omniglot", p, tmp_path) for p in ("train", "test"))
    assert (train.classes, test.classes) == (4, 3)


def test_omniglots_small_archives_are_no_test_partition_of_the_full_one(tmp_path: Path) -> None:
    for name in ("images_background_small1", "images_background_small2", "images_background"):
        _archive(tmp_path / "omniglot" / f"{name}.zip", {"Korean": 1})
    assert datasets.status("omniglot", tmp_path).test is None
    with pytest.raises(UnavailableError, match=r"no images_evaluation\.zip"):
        datasets.load("omniglot", "test", tmp_path)


@pytest.mark.parametrize("breakage", ["truncated", "empty", "no images", "not png", "wrong size"])
def test_broken_omniglot_archives(tmp_path: Path, breakage: str) -> None:
    path = tmp_path / "omniglot-py" / "images_background.zip"
    _archive(path, {"Greek": 2})
    whole = path.read_bytes()
    if breakage in ("truncated", "empty"):
        path.write_bytes(whole[: len(whole) // 2 if breakage == "truncated" else 0])
    else:
        content = {"no images": b"", "not png": b"text", "wrong size": _png(0, 28)}[breakage]
        with zipfile.ZipFile(path, "w") as archive:
            name = "readme.txt" if breakage == "no images" else "x/Greek/character01/01.png"
            archive.writestr(name, content)
    with pytest.raises(
        VsmlBenchError, match=r"omniglot-py/images_background\.zip is broken"
    ) as caught:
        datasets.load("omniglot", "train", tmp_path)
    assert not isinstance(caught.value, UnavailableError)
