from __future__ import annotations

import base64
import copy
import dataclasses
import getpass
import json
import pickle
import socket
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.boards.factory import make_cell, make_plan
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import cell_path, load_cell, load_cells, path_of, save_cell
from vsml_bench.evaluation.outcomes import Outcomes, decode_outcomes, encode_outcomes
from vsml_bench.identity import agrees
from vsml_bench.provenance import scrub
from vsml_bench.storage import seal, unseal

shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)


def test_round_trip(tmp_path: Path) -> None:
    cell = make_cell(seed=3, checkpoint="f" * 64, tuning_effort={"trials": 2.0})
    assert load_cell(save_cell(tmp_path, cell)) == cell


def test_a_failed_cell_keeps_status_and_reason(tmp_path: Path) -> None:
    cell = make_cell(status="diverged", reason="the loss is not finite from step 3 on")
    assert load_cell(save_cell(tmp_path, cell)) == cell


@settings(deadline=None)
@given(st.data())
def test_outcomes_round_trip(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    correct = data.draw(arrays.arrays(np.bool_, shape))
    loss = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(0, 60_000, width=32)))
    outcomes = Outcomes(correct, loss)
    text = json.dumps(encode_outcomes(outcomes))
    decoded = decode_outcomes(json.loads(text), "x")
    assert decoded == outcomes
    np.testing.assert_array_equal(decoded.correct, correct)
    np.testing.assert_array_equal(decoded.loss, loss.astype(np.float16))


@settings(deadline=None)
@given(arrays.arrays(np.float32, arrays.array_shapes(max_side=4), elements=st.floats(width=32)))
def test_traces_round_trip(trace: Any) -> None:
    correct = np.ones((len(trace), 2), np.bool_)
    outcomes = Outcomes(correct, np.zeros((len(trace), 2)), {"drift": trace})
    decoded = decode_outcomes(json.loads(json.dumps(encode_outcomes(outcomes))), "x")
    assert decoded == outcomes
    np.testing.assert_array_equal(decoded.traces["drift"], trace)
    assert outcomes != Outcomes(correct, np.zeros((len(trace), 2)))


def test_a_trace_must_cover_every_lifetime() -> None:
    with pytest.raises(VsmlBenchError, match="trace 'drift' has shape"):
        Outcomes(np.ones((2, 3), np.bool_), np.zeros((2, 3)), {"drift": np.zeros(3)})


@pytest.mark.parametrize("damage", [{"shape": [-1]}, {"shape": [2, 9]}, {"float32": "?"}, None])
def test_damaged_traces_are_named(damage: Any) -> None:
    outcomes = Outcomes(np.ones((2, 3), np.bool_), np.zeros((2, 3)), {"drift": np.zeros(2)})
    encoded = encode_outcomes(outcomes)
    encoded["traces"]["drift"] = {**encoded["traces"]["drift"], **damage} if damage else 1
    with pytest.raises(VsmlBenchError, match="cannot be decoded"):
        decode_outcomes(encoded, "cell x")


def test_the_encoding_is_compact() -> None:
    correct = np.arange(64_000).reshape(32, 2000) % 7 > 0
    loss = np.random.default_rng(0).exponential(size=correct.shape)
    size = len(json.dumps(encode_outcomes(Outcomes(correct, loss))))
    assert size < 2.3 * correct.size  # as bare float32 and bool, in base64: 6.7 bytes a step


def test_a_huge_loss_is_kept_as_the_largest() -> None:
    outcomes = Outcomes(np.array([[True]]), np.array([[1e6]], np.float32))
    assert outcomes.loss.tolist() == [[65504.0]]


def test_outcomes_are_neither_shared_nor_writable() -> None:
    correct = np.array([[True, False]])
    outcomes = Outcomes(correct, np.zeros((1, 2)))
    correct[0, 0] = False
    assert outcomes.correct[0, 0]
    with pytest.raises(ValueError, match="read-only"):
        outcomes.correct[0, 0] = False


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(VsmlBenchError, match="1 not finite"):
        Outcomes(np.array([[True, False]]), np.array([[0.5, value]]))


@pytest.mark.parametrize(
    "correct", [np.ones(3, bool), np.ones((0, 3), bool), np.ones((2, 3)), np.ones((1, 2, 3), bool)]
)
def test_correctness_of_another_kind_is_refused(correct: Any) -> None:
    with pytest.raises(VsmlBenchError, match="expected bool"):
        Outcomes(correct, np.zeros(correct.shape))


def test_an_expanding_bomb_is_not_expanded() -> None:
    bomb = base64.b64encode(zlib.compress(b"\0" * 10_000_000, 9)).decode()
    with pytest.raises(VsmlBenchError, match="2 bytes where 1 were expected"):
        decode_outcomes({"lifetimes": 2, "steps": 4, "correct": bomb, "loss": bomb}, "x.json")


@pytest.mark.parametrize("status", ["diverged", "timeout", "crashed", "out_of_memory"])
def test_a_failed_cell_has_no_number(status: Any) -> None:
    with pytest.raises(VsmlBenchError, match="outcomes exactly if its status is 'ok'"):
        dataclasses.replace(make_cell(), status=status, reason="why")


def test_an_ok_cell_has_outcomes() -> None:
    with pytest.raises(VsmlBenchError, match="no outcomes"):
        dataclasses.replace(make_cell(), outcomes=None)


def test_exactly_failed_cells_have_a_reason() -> None:
    with pytest.raises(VsmlBenchError, match="reason"):
        dataclasses.replace(make_cell(), reason="why")
    with pytest.raises(VsmlBenchError, match="reason"):
        dataclasses.replace(make_cell(status="crashed"), reason=" \n")


def test_the_file_name_can_be_read_and_stays_in_its_folder() -> None:
    folder = Path("cells")
    key = "0123456789abcdef"
    assert cell_path(folder, make_plan("mnist5k-same", "vsml", 2), key) == Path(
        "cells/mnist5k-same--vsml--seed2--01234567.json"
    )
    hostile = cell_path(folder, make_plan("../..", "/etc/x y", 0), key)
    assert hostile.parent == folder
    assert hostile.name == ".._..--_etc_x_y--seed0--01234567.json"


def change(path: Path, **values: Any) -> None:
    """Changes the document and seals it anew, as someone would who knows how."""
    document = unseal(path.read_bytes(), "x")
    path.write_bytes(seal({**document, **values}))


def test_one_tampered_cell_is_listed_and_the_others_load(tmp_path: Path) -> None:
    good = make_cell(seed=0)
    save_cell(tmp_path, good)
    bad = save_cell(tmp_path, make_cell(seed=1))
    tampered = bad.read_bytes().replace(b'"git_dirty": true', b'"git_dirty": false')
    assert tampered != bad.read_bytes()
    bad.write_bytes(tampered)
    torn = tmp_path / "torn.json"
    torn.write_bytes(tampered[:100])
    (tmp_path / "folder.json").mkdir()
    cells, problems = load_cells(tmp_path)
    assert cells == [good]
    assert sorted(p.file for p in problems) == sorted([bad.name, "folder.json", "torn.json"])
    reasons = {p.file: p.reason for p in problems}
    assert "was changed after it was written" in reasons[bad.name]
    assert all(problem.file in problem.reason for problem in problems)
    assert bad.read_bytes() == tampered
    assert torn.exists()


def test_no_folder_means_no_cells(tmp_path: Path) -> None:
    assert load_cells(tmp_path / "absent") == ([], [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"status": "excellent"}, "status"),
        ({"plan": {"suite": "desk"}}, "missing"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"format": 99}, "a record of another version"),
        ({"identity": {"seed": 1}}, "holds the record of"),
        ({"outcomes": {"lifetimes": 3, "steps": 20}}, "cannot be decoded"),
        ({"outcomes": "AAAA"}, "cannot be decoded"),
        ({"provenance": {}}, "missing"),
    ],
)
def test_a_well_sealed_but_wrong_record_is_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    path = save_cell(tmp_path, make_cell())
    change(path, **values)
    with pytest.raises(VsmlBenchError, match=message):
        load_cell(path)


def test_a_cell_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    path = save_cell(tmp_path, make_cell(seed=1))
    other = path_of(tmp_path, make_cell(seed=2))
    path.rename(other)
    with pytest.raises(VsmlBenchError, match=r"holds the record of .*seed1"):
        load_cell(other)


def test_a_cell_under_the_identity_of_another_is_refused(tmp_path: Path) -> None:
    """What is replayed is what the plan says, and what a board shows it as is the identity."""
    easy, hard = make_cell(learner="ridge"), make_cell(learner="sgd-mlp")
    path = save_cell(tmp_path, dataclasses.replace(easy, identity=hard.identity))
    with pytest.raises(VsmlBenchError, match="the identity of another cell than it says was run"):
        load_cell(path)
    then = copy.deepcopy(easy.identity)
    then["meta_test"]["transforms"] = 0
    then["meta_test"]["datasets"] = [[name, 99, ""] for name, *_ in then["meta_test"]["datasets"]]
    stale = save_cell(tmp_path, dataclasses.replace(easy, identity=then))
    assert load_cell(stale).identity == then, "versions of data change"


@pytest.mark.parametrize(
    ("dataset", "said", "same"),
    [
        (["digits", 3, ""], "digits", True),
        (["digits", 1, ""], "random", False),
        (["leaves", 1, "c0ffee"], "mine.py:Leaves", True),
        (["digits", 1, ""], "mine.py:Leaves", False),
        (["digits"], "digits", False),
    ],
)
def test_a_dataset_of_an_identity_and_of_a_plan(dataset: Any, said: str, same: bool) -> None:
    """One by a path has any name, and code; vsml-bench's own have none."""
    assert agrees({"datasets": [dataset]}, {"datasets": [said]}) == same


@pytest.mark.parametrize("seeds", [5, [0, "1"], None])
def test_a_cell_without_a_list_of_seeds_is_refused(tmp_path: Path, seeds: Any) -> None:
    cell = make_cell()
    of = {**cell.provenance.seeds, "meta_test": seeds}
    provenance = dataclasses.replace(cell.provenance, seeds=of)
    path = save_cell(tmp_path, dataclasses.replace(cell, provenance=provenance))
    with pytest.raises(VsmlBenchError, match="names no list of seeds"):
        load_cell(path)


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_a_hostile_pickle_posing_as_a_cell_is_refused_unexecuted(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    payload = pickle.dumps(Hostile(victim))
    pickle.loads(payload)
    assert victim.exists(), "the payload must be able to do harm"
    victim.unlink()
    path = path_of(tmp_path, make_cell())
    path.write_bytes(payload)
    with pytest.raises(VsmlBenchError, match="no vsml-bench record"):
        load_cell(path)
    assert load_cells(tmp_path)[1][0].file == path.name
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('File "/opt/jane/my code/run.py", line 3', 'File "run.py", line 3'),
        ("cannot open /data/set/train.gz: gone", "cannot open train.gz: gone"),
        ("path=/a/b.py,/c/d.py", "path=b.py,d.py"),
        ("file:///srv/x/y.txt", "y.txt"),
        (r"C:\Users\Jane\x.py is bad", "x.py is bad"),
        ("in /var/tmp/", "in tmp"),
        ("see https://example.org/a/b.html", "see https://example.org/a/b.html"),
        ("and/or 1/2, ../x/y, 3 / 4", "and/or 1/2, ../x/y, 3 / 4"),
        ("shape [2, 3] is not [2, 4]", "shape [2, 3] is not [2, 4]"),
    ],
)
def test_scrub(text: str, expected: str) -> None:
    assert scrub(text) == expected
    assert scrub(expected) == expected


def test_scrub_takes_out_home_user_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jdoe")
    monkeypatch.setenv("LOGNAME", "jdoe")
    assert getpass.getuser() == "jdoe"
    assert scrub("jdoe asked jdoe's /home/jdoe and /home/jdoe/x.py, not jdoes") == (
        "<user> asked <user>'s ~ and x.py, not jdoes"
    )
    host = socket.gethostname()
    if host != "localhost":
        assert scrub(f"on {host}: down") == "on <host>: down"


def test_a_stored_cell_names_no_path(tmp_path: Path) -> None:
    reason = f'Traceback: File "{tmp_path}/learner.py", line 1'
    path = save_cell(tmp_path, make_cell(status="crashed", reason=reason))
    assert str(tmp_path) not in path.read_text()
    assert load_cell(path).reason == 'Traceback: File "learner.py", line 1'
