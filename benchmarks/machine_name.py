"""`python -m benchmarks.machine_name`: what asv calls this machine. asv would take the host's name,
which says nothing to others; times compare where CPU, vectors and number of cores are the same."""

from __future__ import annotations

import re

import torch

from vsml_bench.execution import device_name


def machine_name() -> str:
    """Of the CPU's model, its widest vectors that PyTorch uses, and the number of threads."""
    model = device_name(torch.device("cpu"))
    vectors, cores = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return re.sub(r"[^a-z0-9]+", "-", f"{model} {vectors} {cores} cores".lower()).strip("-")


if __name__ == "__main__":
    print(machine_name())
