"""What the benchmarks of both protocols share."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from vsml_bench.acceleration import COMPILE_AFTER, accelerate
from vsml_bench.execution import decide, synchronize
from vsml_bench.learner import Shape
from vsml_bench.registry import find_learner

PROFILE = os.environ.get("VSML_BENCH_PROFILE", "fast")
"""fast: minutes, for the gate. regular: every learner of the desk suite and more. large: the sizes
of the papers, for GPUs."""
if PROFILE not in ("fast", "regular", "large"):
    raise ValueError(f"VSML_BENCH_PROFILE: expected fast, regular or large, found '{PROFILE}'")
LEARNERS = {
    "fast": "vsml vsml-deep sgd-linear gpicl maml",
    "regular": "vsml vsml-deep vsml-label vsml-backward-pass sgd-linear sgd-mlp adam-mlp maml "
    "gpicl fast-weight-programmer meta-rnn hebbian-oja 1-nn",
    "large": "vsml vsml-deep sgd-mlp maml gpicl fast-weight-programmer",
}[PROFILE].split()
LIFETIMES = {"fast": 8, "regular": 8, "large": 256}[PROFILE]
DEVICE = "auto" if PROFILE == "large" else "cpu"


class LifetimeBenchmark(ABC):
    """Lifetimes of one learner at one size. Subclasses say which sizes there are, and what a run
    is."""

    param_names: ClassVar[list[str]] = ["learner", "inputs"]
    params: ClassVar[list[Any]] = []
    steps: ClassVar[int]
    """Examples of a lifetime."""
    timeout = 600
    warmup_time = 0.0  # setup has run it
    number = 1  # states and caches are those of one run
    rounds = 2
    repeat = (3, 10, 20.0)

    def setup(self, name: str, inputs: int) -> None:
        """Makes learner and data, and runs once, which compiles what is compiled."""
        self.execution = decide(DEVICE, 1 if DEVICE == "cpu" else None)
        device = self.execution.device
        learner = find_learner(name).create(seed=0).to(device).eval()
        self.shape = learner.fixed_shape or Shape((inputs,), 10)
        generator = torch.Generator().manual_seed(0)
        size = (self.steps, LIFETIMES)
        self.inputs = torch.randn(*size, *self.shape.inputs, generator=generator).to(device)
        self.labels = torch.randint(5, size, generator=generator).to(device)
        self.learner = learner
        self.runner = accelerate(learner, self.execution, COMPILE_AFTER)
        with torch.inference_mode():
            began = time.perf_counter()
            self.run()
            self.first = time.perf_counter() - began
            began = time.perf_counter()
            self.run()
            self.second = time.perf_counter() - began

    @abstractmethod
    def run(self) -> None:
        """What is measured."""

    def fresh(self) -> Any:
        """States at the start."""
        generator = torch.Generator(self.execution.device).manual_seed(0)
        return self.learner.init_state(LIFETIMES, self.shape, generator)

    def time_run(self, name: str, inputs: int) -> None:
        """Seconds of a run, on one core or one GPU."""
        with torch.inference_mode():
            self.run()
            synchronize(self.execution.device)

    def peakmem_run(self, name: str, inputs: int) -> None:
        """Peak memory of a process that runs it."""
        with torch.inference_mode():
            self.run()

    def track_compile_seconds(self, name: str, inputs: int) -> float:
        """By how much the first run takes longer than the second."""
        return max(0.0, self.first - self.second)

    track_compile_seconds.unit = "seconds"  # type: ignore[attr-defined]
