from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsml_bench.errors import VsmlBenchError
from vsml_bench.storage import (
    canonical_json,
    check_writable,
    seal,
    sha256_hex,
    unseal,
    write_atomically,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.text().filter(lambda key: key != "sha256"), json_values, max_size=5)

WRITER = """
import sys
from pathlib import Path
from vsml_bench.storage import write_atomically
path = Path(sys.argv[1])
while True:
    for letter in (b"A", b"B"):
        write_atomically(path, letter * 2_000_000)
        print("written", flush=True)
"""

FULL_DISK = """
import resource, sys
from pathlib import Path
from vsml_bench.errors import VsmlBenchError
from vsml_bench.storage import check_writable, write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for attempt in (
    lambda: write_atomically(Path(sys.argv[1]), b"n" * 100_000),
    lambda: check_writable(Path(sys.argv[1]).parent),
):
    try:
        attempt()
    except VsmlBenchError as error:
        print(error)
"""


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == ordinary.stat().st_mode


def test_kill_during_a_write_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    for round_number in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(1 + round_number):
                assert process.stdout.readline() == "written\n"
            os.kill(process.pid, signal.SIGKILL)
        content = path.read_bytes()
        assert content in (b"A" * 2_000_000, b"B" * 2_000_000)


def test_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    write_error, check_error = done.stdout.splitlines()
    assert f"cannot write file.bin into the folder {tmp_path}" in write_error
    assert "choose another folder" in write_error
    assert f"cannot write into the folder {tmp_path}" in check_error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replace_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(VsmlBenchError, match="cannot write file into the folder"):
        write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    folder = tmp_path / "file" / "folder"
    with pytest.raises(VsmlBenchError, match="choose another folder"):
        check_writable(folder)
    with pytest.raises(VsmlBenchError, match="choose another folder"):
        write_atomically(folder / "x", b"")
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_check_writable_creates_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_canonical_json_by_hand() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,null]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_is_no_number(value: float) -> None:
    with pytest.raises(VsmlBenchError, match="finite"):
        canonical_json({"x": [value]})


def test_sha256_of_a_known_text() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_hex("abc") == sha256_hex(b"abc") == expected


@settings(deadline=None)
@given(documents)
def test_seal_round_trip(document: dict[str, object]) -> None:
    assert unseal(seal(document), "x.json") == document
    assert seal(dict(reversed(document.items()))) == seal(document)


@settings(deadline=None)
@given(st.data())
def test_any_torn_document_is_refused(data: st.DataObject) -> None:
    sealed = seal({"numbers": [1, 2, 3], "name": "vsml"})
    kept = data.draw(st.integers(0, len(sealed) - 2))  # the last byte is a line end
    with pytest.raises(VsmlBenchError, match=r"x\.json .*delete it"):
        unseal(sealed[:kept], "x.json")


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_changes_the_content_unnoticed(data: st.DataObject) -> None:
    document = {"numbers": [1, 2, 3], "name": "vsml"}
    sealed = bytearray(seal(document))
    index = data.draw(st.integers(0, len(sealed) - 1))
    sealed[index] = data.draw(st.integers(0, 255))
    try:
        found = unseal(bytes(sealed), "x.json")
    except VsmlBenchError as error:
        assert "x.json" in str(error)
    else:
        assert found == document


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"sha256": 3}',
        b'{"a": NaN, "sha256": "0"}',
        b'{"a": 1e999, "sha256": "0"}',
        b"\xff\xfe",
        b"[" * 200_000,
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(VsmlBenchError, match=r"x\.json"):
        unseal(data, "x.json")


def test_a_key_given_twice_is_refused() -> None:
    sealed = seal({"a": 1}).decode().replace("{", '{"a": 7,', 1)
    assert json.loads(sealed)["a"] == 1
    with pytest.raises(VsmlBenchError, match="twice"):
        unseal(sealed.encode(), "x.json")


def test_line_ends_do_not_break_the_seal() -> None:
    assert unseal(seal({"a": 1}).replace(b"\n", b"\r\n"), "x.json") == {"a": 1}


def test_a_sealed_document_cannot_be_sealed_again() -> None:
    with pytest.raises(VsmlBenchError, match="sha256"):
        seal({"sha256": "x"})
