"""What `decide` settles for the whole process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource
import torch
from vsml_bench.execution import decide

decide("cpu", 1)
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**26).fill_(1.0)  # 256 MiB, freed at once
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_freed_memory_is_used_again() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True
    )
    first, again = map(int, run.stdout.split())
    assert first > 100, "fresh pages, or the count means nothing"
    assert again < first / 10
