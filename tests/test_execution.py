"""What `decide` settles for the whole process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import torch
from vsml_bench.execution import decide

def pages_of(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(mebibytes * 2**18).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

decide("cpu", 1)
print(pages_of(256), pages_of(200))
"""


PEAK = """
import torch
from vsml_bench.execution import decide
from vsml_bench.provenance import peak_memory_bytes, reset_peak_memory

decide("cpu", 1)
before = peak_memory_bytes()
torch.empty(2**26).fill_(1.0)  # 256 MiB, freed at once
after = peak_memory_bytes()
reset_peak_memory()
print(before, after, peak_memory_bytes())
"""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators are left alone"
)


def numbers(program: str, **variables: str) -> list[int]:
    """What the program prints where of glibc's variables only these are set."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in run.stdout.split()]


def test_freed_memory_is_used_again() -> None:
    first, again = numbers(PAGES)
    assert first > 0, "fresh pages, or the count means nothing"
    assert again < first / 10


@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_MMAP_MAX_": "65536"},  # glibc's own choice
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"},
    ],
    ids=["variable", "tunable"],
)
def test_whoever_sets_up_glibc_is_left_alone(variables: dict[str, str]) -> None:
    first, again = numbers(PAGES, **variables)
    assert again > first / 2


def test_kept_memory_counts_into_no_later_peak() -> None:
    before, after, later = numbers(PEAK)
    assert after - before > 200 * 2**20
    assert later - before < 50 * 2**20
