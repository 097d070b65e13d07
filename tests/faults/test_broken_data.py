"""Data that are cut, expand without end, are locked, or were packed again by another program."""

from __future__ import annotations

import copy
import gzip
import io
import json
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from tools.fuzz_files import idx, png
from vsml_bench import paths
from vsml_bench.data import datasets
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.storage import seal, unseal

COUNT = 20
IMAGES = idx((COUNT, 28, 28), bytes(range(COUNT)) * 784)
LABELS = idx((COUNT,), bytes(i % 10 for i in range(COUNT)))
BOMB = idx((COUNT, 28, 28), bytes(300_000_000))


def put(root: Path, images: bytes, ending: str = "") -> None:
    raw = root / "KMNIST/raw"
    raw.mkdir(parents=True)
    for name, data in (("images-idx3", images), ("labels-idx1", LABELS)):
        data = gzip.compress(data, 1) if ending and name.startswith("labels") else data
        (raw / f"t10k-{name}-ubyte{ending}").write_bytes(data)


@pytest.mark.parametrize(
    ("images", "ending"),
    [
        (IMAGES[: len(IMAGES) // 2], ""),
        (IMAGES + b"\0", ""),
        (gzip.compress(IMAGES)[:-100], ".gz"),
        (gzip.compress(IMAGES)[:-4] + struct.pack("<I", len(IMAGES) + 1), ".gz"),
        (gzip.compress(idx((COUNT, 0, 28), b"")), ".gz"),
        (gzip.compress(BOMB, 1), ".gz"),
        (gzip.compress(BOMB, 1)[:-4] + struct.pack("<I", len(IMAGES)), ".gz"),  # and it lies
        (gzip.compress(idx((COUNT, 2**16, 2**16), bytes(99))), ".gz"),
    ],
    ids=["half", "more", "half, packed", "another size", "no side", "bomb", "liar", "claims much"],
)
def test_idx_files_that_are_not_what_they_say(tmp_path: Path, images: bytes, ending: str) -> None:
    put(tmp_path, images, ending)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = datasets.status("kmnist", tmp_path)
    lies = images[-4:] == struct.pack("<I", len(IMAGES)) and len(images) > 100_000
    assert lies or "is broken" in said.reason, said
    with pytest.raises(VsmlBenchError, match="is broken"):
        datasets.load("kmnist", "test", tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert grown < 100_000


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_whole_idx_files_are_here(tmp_path: Path, ending: str) -> None:
    put(tmp_path, gzip.compress(IMAGES) if ending else IMAGES, ending)
    assert datasets.status("kmnist", tmp_path).test == COUNT
    assert len(datasets.load("kmnist", "test", tmp_path).examples) == COUNT  # type: ignore[arg-type]


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def drawing(side: int = 105) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), 255, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def locked(data: bytes) -> bytes:
    """The archive with the flags of one that is encrypted."""
    data = data.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")
    return data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")


MEMBER = "images_background_small1/Greek/character01/01.png"


def put_zips(root: Path, data: bytes) -> None:
    (root / "omniglot-py").mkdir(parents=True)
    for name in ("images_background_small1", "images_background_small2"):
        (root / f"omniglot-py/{name}.zip").write_bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        lambda: locked(archive({MEMBER: drawing()})),
        lambda: archive({MEMBER: png(50_000, 50_000)}),
        lambda: archive({MEMBER: png(105, 105)[:-20]}),
        lambda: archive({MEMBER: drawing(104)}),
        lambda: archive({MEMBER: drawing()[:60]}),
        lambda: archive({MEMBER: drawing()}).replace(b"PK\x03\x04\x14", b"PK\x03\x04\xff", 1),
        lambda: archive({"__MACOSX/._01.png": b"\0\5\x16\7"}),
    ],
    ids=["encrypted", "PNG bomb", "no pixels", "104", "cut", "odd version", "only macOS"],
)
def test_archives_that_hold_no_drawings(tmp_path: Path, data: Callable[[], bytes]) -> None:
    if (made := data()) == archive({MEMBER: drawing()}):
        pytest.fail("the archive is sound")
    put_zips(tmp_path, made)
    try:
        datasets.load("omniglot_small", "test", tmp_path)
    except VsmlBenchError as error:
        assert "is broken" in str(error)
    else:
        assert b"PK\x03\x04\xff" in made  # which Python may overlook


def test_an_archive_that_macos_packed_again(tmp_path: Path) -> None:
    beside = {f"__MACOSX/{MEMBER.replace('01.png', '._01.png')}": b"\0\5\x16\7"}
    put_zips(tmp_path, archive({MEMBER: drawing(), **beside, "x/.DS_Store": b""}))
    assert datasets.status("omniglot_small", tmp_path).test == 1
    assert len(datasets.load("omniglot_small", "test", tmp_path).examples) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("told", ["[" * 5_000, "[" * 200_000, "null", "[]", '{"sha256": 3}', "{"])
def test_checkpoints_whose_metadata_are_odd(tmp_path: Path, told: str) -> None:
    file = tmp_path / "a.safetensors"
    data = save({"a": np.zeros(4, np.float32)}, {"vsml_bench": "{}"})
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["vsml_bench"] = told
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(VsmlBenchError):
        load_checkpoint(file)


CELL = min((paths.results() / "desk/cells").glob("*.json"))


@pytest.mark.parametrize("table", ["", "plan", "plan split", "plan split meta_test", "provenance"])
def test_a_record_that_is_sealed_again_without_a_field(tmp_path: Path, table: str) -> None:
    sound = unseal(CELL.read_bytes(), CELL.name)
    for field in list(_inside(sound, table)):
        document = copy.deepcopy(sound)
        del _inside(document, table)[field]
        file = tmp_path / CELL.name
        file.write_bytes(seal(document))
        with pytest.raises(VsmlBenchError):
            load_cell(file)


@pytest.mark.parametrize("name", ["../x", "\x1b[31m", "![x](javascript:x)", ""])
@pytest.mark.parametrize("place", ["plan.suite", "plan.split.name", "plan.job.learner.name"])
def test_a_record_that_is_sealed_again_under_a_name_that_nobody_has(
    tmp_path: Path, place: str, name: str
) -> None:
    *table, field = place.split(".")
    document = unseal(CELL.read_bytes(), CELL.name)
    _inside(document, " ".join(table))[field] = name
    (tmp_path / CELL.name).write_bytes(seal(document))
    with pytest.raises(VsmlBenchError):
        load_cell(tmp_path / CELL.name)


def _inside(document: dict[str, Any], table: str) -> dict[str, Any]:
    for key in table.split():
        document = document[key]
    return document
