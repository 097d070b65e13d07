"""The kernels for CUDA GPUs against the plain form: on a GPU as they are, elsewhere as Triton's
interpreter runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.vsml.kernels_compared import SIZES, relative_errors
from vsml_bench import paths
from vsml_bench.acceleration import COMPILE_AFTER
from vsml_bench.execution import Execution
from vsml_bench.learner import Shape
from vsml_bench.vsml.fast import cuda, fast_code
from vsml_bench.vsml.network import VSMLState
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytest.importorskip("triton", reason="this PyTorch comes without Triton")

CONFIG = VSMLConfig()
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
    assert len(errors) == len(SIZES)
    assert all(error < 1e-5 for of_size in errors for error in of_size)


class Reached(Exception):
    """The kernels would run now."""


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the kernels were to keep a tape, each time that they were reached; as on a GPU."""
    tapes: list[bool] = []

    def apply(ticks: int, mixed: bool, with_tape: bool, *operands: object) -> None:
        tapes.append(with_tape)
        raise Reached

    monkeypatch.setattr(cuda, "available", lambda device: True)
    monkeypatch.setattr(cuda._Lifetimes, "apply", apply)
    return tapes


def offer(
    config: VSMLConfig = CONFIG,
    *,
    inputs: tuple[int, ...] = (3, 2, 6),
    labels: tuple[int, ...] = (3, 2),
    dtype: torch.dtype = torch.float32,
    requires_grad: bool = False,
    cls: type[VSML] = VSML,
) -> object:
    """What the kernels say to three steps of two lifetimes with six inputs and three classes; None
    where they are not asked."""
    learner = cls(config)
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    state = learner.init_state(2, Shape((6,), 3), torch.Generator().manual_seed(0))
    xs = torch.zeros(inputs, dtype=dtype).requires_grad_(requires_grad)
    code = fast_code(learner, Execution(GPU, 1), COMPILE_AFTER)
    return code and code.unroll(state, xs, torch.zeros(labels, dtype=torch.int64))


class Written(VSML):
    """Not as VSML is written."""

    def observe(self, state: VSMLState, labels: torch.Tensor) -> VSMLState:
        return super().observe(state, labels.flip(0))


def test_a_tape_is_kept_for_gradients_alone(offered: list[bool]) -> None:
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with pytest.raises(Reached), context():
            offer()
    assert offered == [True, False, False]


@pytest.mark.parametrize(
    "unfit",
    [
        {"config": VSMLConfig(hidden=(4,))},
        {"config": VSMLConfig(layer_norm=True)},
        {"config": VSMLConfig(ticks=cuda.MAX_TICKS + 1)},
        {"cls": Written},
        {"inputs": (0, 2, 6), "labels": (0, 2)},
        {"inputs": (3, 2, 5)},
        {"inputs": (3, 3, 6), "labels": (3, 3)},
        {"labels": (2, 2)},
        {"dtype": torch.float64},
        {"requires_grad": True},
    ],
    ids=str,
)
def test_what_the_kernels_cannot_take_is_refused(unfit: Any, offered: list[bool]) -> None:
    assert offer(**unfit) is None and not offered


def test_mixed_precision_is_for_runs_without_gradients(offered: list[bool]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert offer() is None
        with pytest.raises(Reached), torch.no_grad():
            offer()


def test_of_this_machine_the_kernels_ask_for_a_gpu() -> None:
    assert not cuda.available(CPU)


@pytest.mark.parametrize(
    ("outputs", "rows"), [(1, 32), (10, 32), (16, 32), (17, 64), (20, 64), (47, 128), (128, 128)]
)
def test_tiles_hold_inputs_with_all_their_outputs(outputs: int, rows: int) -> None:
    assert cuda.rows_for(outputs) == rows >= outputs


class TestOnAGpu:
    pytestmark = on_a_gpu

    @pytest.mark.parametrize("size", [*SIZES, *LARGE], ids=str)
    def test_kernels_equal_the_plain_form(self, size: tuple[int, ...]) -> None:
        assert relative_errors(size, GPU, with_gradients=False)[0] < 1e-5

    @pytest.mark.parametrize("size", [*SIZES, *LARGE], ids=str)
    def test_kernels_and_their_gradient_equal_the_plain_form(self, size: tuple[int, ...]) -> None:
        of_lifetimes, of_sums = relative_errors(size, GPU)
        assert of_lifetimes < 1e-5
        assert of_sums < (1e-4 if size[2] > 100 else 1e-5)  # of so many, which nearly cancel

    def test_mixed_precision(self) -> None:
        error, _ = relative_errors(LARGE[0], GPU, with_gradients=False, mixed=True)
        assert 1e-5 < error < 0.05
