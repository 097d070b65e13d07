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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
@pytest.mark.parametrize("variable", [None, "MALLOC_MMAP_MAX_"])
def test_freed_memory_is_used_again_unless_glibc_is_told_otherwise(variable: str | None) -> None:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("MALLOC_")}
    if variable is not None:
        environment[variable] = "65536"  # glibc's own choice
    run = subprocess.run(
        [sys.executable, "-c", PAGES], env=environment, capture_output=True, text=True, check=True
    )
    first, again = map(int, run.stdout.split())
    assert first > 100, "fresh pages, or the count means nothing"
    assert again > first / 2 if variable else again < first / 10
