"""What the GPU's table says of what was measured."""

from __future__ import annotations

import os

import pytest
import torch

from benchmarks import gpu

DOCUMENT = {
    "machine": {
        **{"device": "a GPU", "copied": 2e12, "cpu": "a CPU", "threads": 4},
        **{"commit": "c" * 40, "dirty": False, "versions": {"torch": "2"}},
    },
    "rows": [
        {
            **{"inputs": 64, "lifetimes": 4096, "eager": 1000.0, "recorded": 1500.0},
            **{"ours": 2500.0, "of_bandwidth": 0.125, "bfloat16": 3000.0, "cpu": None},
        }
    ],
    "meta_gradients": [{"lifetimes": 16, "eager": 10.0, "ours": 45.0, "cpu": 1234.0}],
}


def test_the_tables_say_what_was_measured() -> None:
    text = gpu.as_markdown(DOCUMENT)
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| 64 x 10") or line.startswith("| 16")
    ]
    assert cells == [
        ["64 x 10", "4,096", "1,000", "1,500", "2,500", "3,000", "", "2.5x", "12.5 %"],
        ["16", "10", "45", "1,234", "4.5x"],
    ]
    assert "a GPU (2.00 TB/s in a copy)" in text and "with changes" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit, match="no usable CUDA GPU"):
        gpu.main()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_size_is_measured() -> None:
    row = gpu.forward(16, 2, copied=1e12)
    assert min(row[name] for name in ("eager", "recorded", "ours", "bfloat16", "cpu")) > 0
    assert row["of_bandwidth"] == pytest.approx(row["ours"] * 40_960 / 1e12)
    assert "VSML_BENCH_KERNEL" not in os.environ
    assert min(gpu.meta_gradient(2)[name] for name in ("eager", "ours", "cpu")) > 0
