"""Checkpoints: what goes in comes out, and nothing else is ever believed or run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from vsml_bench.errors import VsmlBenchError
from vsml_bench.meta_training.checkpoint import (
    load_checkpoint,
    load_meta_parameters,
    save_checkpoint,
)

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "adam/step/weight": torch.tensor(4.0),  # no axes
    "none": torch.zeros(0, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "count": torch.tensor([1, 2]),
}
DOCUMENT = {"identity": {"seed": 0}, "history": [{"loss": 0.1}], "name": "grüße"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "one.safetensors"
    save_checkpoint(path, TENSORS, DOCUMENT)
    return path


def test_round_trip(path: Path) -> None:
    found = load_checkpoint(path)
    assert found.document == DOCUMENT and found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_same_content_gives_the_same_hash(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, dict(reversed(TENSORS.items())), DOCUMENT)
    assert load_checkpoint(again).sha256 == load_checkpoint(path).sha256
    save_checkpoint(again, TENSORS, {**DOCUMENT, "name": "other"})
    assert load_checkpoint(again).sha256 != load_checkpoint(path).sha256


def test_a_change_of_any_byte_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(VsmlBenchError, match=r"checkpoint one\.safetensors .*restore it"):
            load_checkpoint(path)
        assert path.read_bytes() == changed


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(VsmlBenchError, match="not a complete vsml-bench checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("document", ["[]", "1", '"text"', "null", "{", "{}"])
def test_metadata_of_another_kind_are_refused(tmp_path: Path, document: str) -> None:
    from safetensors.torch import save

    path = tmp_path / "odd.safetensors"
    path.write_bytes(save({"weight": torch.zeros(1)}, {"vsml_bench": document}))
    with pytest.raises(VsmlBenchError, match="not a complete vsml-bench checkpoint"):
        load_checkpoint(path)


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(VsmlBenchError, match="not a complete vsml-bench checkpoint"):
        load_checkpoint(tmp_path / "theirs.safetensors")


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("as_torch_file", [False, True])
def test_a_hostile_pickle_is_refused_unexecuted(tmp_path: Path, as_torch_file: bool) -> None:
    path, trace = tmp_path / "evil.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Hostile(trace)))
    if as_torch_file:
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr("archive/data.pkl", path.read_bytes())
        (tmp_path / "evil.zip").rename(path)
    kept = path.read_bytes()
    with pytest.raises(VsmlBenchError, match="not a complete vsml-bench checkpoint"):
        load_checkpoint(path)
    assert not trace.exists() and path.read_bytes() == kept
    if not as_torch_file:
        pickle.loads(kept).close()
        assert trace.exists(), "the pickle was not hostile"


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(VsmlBenchError, match=r"cannot read checkpoint none\.safetensors: No such"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(VsmlBenchError, match="cannot read checkpoint"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    learner = torch.nn.Linear(2, 3)
    before = learner.weight.clone()
    for tensors in (
        {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)},
        {"weight": torch.zeros(3, 2)},
        {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "other": torch.zeros(1)},
    ):
        save_checkpoint(tmp_path / "a.safetensors", tensors, {})
        with pytest.raises(VsmlBenchError, match="does not fit the learner") as refused:
            load_meta_parameters(learner, load_checkpoint(tmp_path / "a.safetensors"), "a")
        assert "\n" not in str(refused.value)
    assert before.shape == learner.weight.shape
