"""The kernels for CUDA GPUs against the plain form: on a GPU as they are, elsewhere as Triton's
interpreter runs them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.vsml.kernels_compared import SIZES, relative_errors
from vsml_bench import paths

pytest.importorskip("triton", reason="this PyTorch comes without Triton")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LARGE = [(784, 10, 2, 3, 2, 0), (16, 10, 600, 3, 2, 0), (64, 47, 2, 3, 2, 0)]
on_a_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU they run as they are")
def test_interpreted_kernels_and_their_gradient_equal_the_plain_form() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.vsml.kernels_compared"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=paths.home(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    errors = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert len(errors) == len(SIZES) and max(map(max, errors)) < 1e-5


class TestOnAGpu:
    pytestmark = on_a_gpu

    @pytest.mark.parametrize("size", [*SIZES, *LARGE], ids=str)
    def test_kernels_and_their_gradient_equal_the_plain_form(self, size: tuple[int, ...]) -> None:
        of_lifetimes, of_sums = relative_errors(size, GPU)
        assert of_lifetimes < 1e-5
        assert of_sums < (1e-4 if size[2] > 100 else 1e-5)  # of so many, which nearly cancel

    def test_mixed_precision(self) -> None:
        assert 1e-5 < relative_errors(LARGE[0], GPU, mixed=True)[0] < 0.05
