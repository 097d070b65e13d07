"""What a killed compiler leaves in the cache of `torch.compile` is compiled again."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import write
from vsml_bench.acceleration.compiled_libraries import discard_header, discard_torn
from vsml_bench.vsml.fast import library

pytestmark = pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")

COMPILE = """\
import torch
from vsml_bench.acceleration import compiled

points = torch.arange(9.0)
assert torch.allclose(compiled(torch.sin)(points), points.sin())
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept(cache: Path) -> Path:
    """A whole library in the cache."""
    file = cache / "ab/cabcd.main.so"
    file.parent.mkdir(parents=True)
    file.write_bytes(library._library().read_bytes())
    return file


def discard() -> None:
    discard_torn.__wrapped__()


def test_a_whole_library_is_left(kept: Path) -> None:
    whole = kept.read_bytes()
    of_another_system = write(kept.with_name("other.so"), "MZ")
    discard()
    assert kept.read_bytes() == whole and of_another_system.exists()


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_torn_library_is_discarded(kept: Path, share: float, zeros: bool) -> None:
    """zeros: whether the disk gave the room, and then nothing was written there."""
    whole = kept.read_bytes()
    part = whole[: int(share * len(whole))]
    if zeros:
        part = bytes(len(part))
    kept.write_bytes(part)
    discard()
    assert not kept.exists()


def test_a_library_that_is_being_written_is_left(cache: Path, kept: Path) -> None:
    kept.write_bytes(b"")
    (cache / "locks").mkdir()
    writer = os.open(cache / "locks/cabcd.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(writer, fcntl.LOCK_EX)
    discard()
    assert kept.exists()
    os.close(writer)
    discard()
    assert not kept.exists()


ERROR = """\
CppCompileError: C++ compile error

Command:
g++ /c/a.main.cpp -fopenmp -include {header} -I/usr/include -o /c/a.main.so

Output:
<command-line>: fatal error: {output}
compilation terminated.
"""


@pytest.mark.parametrize(
    ("output", "torn"),
    [
        ("cannot read PCH file: No such file or directory", True),
        ("cannot read {header}.gch: No such file or directory", True),
        ("error: while reading precompiled header", True),
        ("bits/stdc++.h: No such file or directory", False),
    ],
)
def test_a_header_that_the_compiler_cannot_read_is_discarded(
    tmp_path: Path, output: str, torn: bool
) -> None:
    """output: as g++ 12 has it for headers that were cut at several places."""
    header = tmp_path / "cabcd.h"
    made = write(tmp_path / "cabcd.h.gch", "gpch")
    (tmp_path / "locks").mkdir()
    error = RuntimeError(ERROR.format(header=header, output=output.format(header=header)))
    with open(tmp_path / "locks/cabcd.lock", "w") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        discard_header(error)
        assert made.exists()
    discard_header(error)
    assert made.exists() != torn
    discard_header(error)  # when there is none any more


def test_all_that_inductor_keeps_is_looked_at(tmp_path: Path, cache: Path) -> None:
    script = write(tmp_path / "compile.py", COMPILE)
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, script], check=True, env={**os.environ, "PYTHONPATH": root})
    found = list(cache.rglob("*.so"))
    assert found
    for file in found:
        assert list((cache / "locks").glob(f"{file.name.split('.')[0]}.lock"))
        os.truncate(file, file.stat().st_size // 2)
    discard()
    assert not list(cache.rglob("*.so"))
