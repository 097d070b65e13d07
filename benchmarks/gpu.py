"""`python -m benchmarks.gpu`: VSML on a CUDA GPU, from one lifetime to thousands; written to
results/speed as Markdown and JSON.

Each size is measured as eager PyTorch runs it, as a recorded and fused step, by VSML's kernels, in
mixed precision too, and by the C++ code on all CPUs of the same machine. The share of the memory
bandwidth is what the states of all lifetimes take, read and written once an example, at the rate of
a copy on the same GPU: what a step that keeps all else on the chip could not fall below.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from tabulate import tabulate
from torch.utils import _pytree as pytree

from benchmarks.case import objective_of, random_episode
from benchmarks.speed import parser, publish
from benchmarks.vsml_cases import fresh_vsml
from vsml_bench.acceleration import COMPILE_AFTER, Runner, accelerate
from vsml_bench.data.episodes import Episode
from vsml_bench.execution import Execution, decide, device_name, synchronize, without_gradients
from vsml_bench.learner import Learner, Shape, State
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.provenance import git_state, versions
from vsml_bench.vsml.fast import SWITCH
from vsml_bench.vsml.variants import VSMLConfig

INPUTS = (64, 784)
CLASSES = 10
LIFETIMES = (1, 8, 64, 512, 4096)
META_LIFETIMES, META_STEPS = (16, 64, 256), 100
MOST_ON_CPU = 512
REPEATS = 3
DRAWN = 64
"""States are drawn for so many lifetimes; more have copies of them."""
STATE_BYTES = 2 * VSMLConfig().state_size * 4
"""h and c of one sub-RNN."""


def forward(inputs: int, lifetimes: int, copied: float) -> dict[str, Any]:
    """Lifetimes of a network with one dense layer, ten classes; examples per second. copied: bytes
    per second of a copy."""
    shape = Shape((inputs,), CLASSES)
    steps = 400 if inputs * lifetimes <= 2**16 else 20
    episode = random_episode(steps, lifetimes, shape)

    def rate(execution: Execution, calls: int, *, kernels: bool = True) -> float:
        """As quick as so many calls pay for."""
        with _lifetimes(episode, shape, execution, calls, kernels) as run:
            return episode.labels.numel() / _quickest(run, execution.device)

    gpu = decide("cuda")
    ours = rate(gpu, COMPILE_AFTER)
    return {
        "inputs": inputs,
        "lifetimes": lifetimes,
        "eager": rate(gpu, 0),
        "recorded": rate(gpu, COMPILE_AFTER, kernels=False),
        "ours": ours,
        "of_bandwidth": ours * 2 * inputs * CLASSES * STATE_BYTES / copied,
        "bfloat16": rate(decide("cuda", precision="bfloat16"), COMPILE_AFTER),
        "cpu": rate(decide("cpu"), 0) if lifetimes <= MOST_ON_CPU else None,
    }


def meta_gradient(lifetimes: int) -> dict[str, Any]:
    """Backpropagation through lifetimes of 100 examples, 64 x 10; examples per second."""
    shape = Shape((64,), CLASSES)
    episode = random_episode(META_STEPS, lifetimes, shape)

    def rate(execution: Execution, steps: int = COMPILE_AFTER) -> float:
        learner, state, placed = _placed(episode, shape, execution.device)
        runner = accelerate(learner, execution, steps)
        objective = objective_of(runner, placed, Online(META_STEPS), lambda: state)
        run = partial(backpropagate, learner, objective)
        run()
        _check_use(runner)
        return episode.labels.numel() / _quickest(run, execution.device)

    gpu = decide("cuda")
    return {
        "lifetimes": lifetimes,
        "eager": rate(gpu, 0),
        "ours": rate(gpu),
        "cpu": rate(decide("cpu")),
    }


@contextmanager
def _lifetimes(
    episode: Episode, shape: Shape, execution: Execution, calls: int, kernels: bool
) -> Iterator[Callable[[], Any]]:
    """The run of all lifetimes, warmed up, as quick as `calls` steps pay for."""
    torch.compiler.reset()
    learner, state, placed = _placed(episode, shape, execution.device)
    if kernels:
        os.environ.pop(SWITCH, None)
    else:
        os.environ[SWITCH] = "0"
    try:
        runner = accelerate(learner, execution, calls)
        with without_gradients(), execution.autocast():
            runner.unroll(state, placed.inputs[:2], placed.labels[:2])
            if kernels:
                _check_use(runner)
            elif runner.recorded is not None and not runner.recorded.in_use:
                sys.exit("make gpu: VSML's step could not be recorded; the warning says why.")
            yield partial(runner.unroll, state, placed.inputs, placed.labels)
    finally:
        os.environ.pop(SWITCH, None)


def _check_use(runner: Runner) -> None:
    if runner.fast is not None and not runner.fast.in_use:
        sys.exit("make gpu: VSML's kernels were not used; the warning above says why.")


def _placed(episode: Episode, shape: Shape, device: torch.device) -> tuple[Learner, State, Episode]:
    """A fresh VSML, its states and the episode, all on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    learner, lifetimes = fresh_vsml().to(device), episode.labels.shape[1]
    drawn = fresh_states(learner, range(min(lifetimes, DRAWN)), shape, device)
    copies = max(1, lifetimes // DRAWN)
    state = pytree.tree_map(lambda part: part.repeat(copies, *[1] * (part.ndim - 1)), drawn)
    return learner, state, Episode(episode.inputs.to(device), episode.labels.to(device))


def _quickest(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the quickest of a few runs."""
    best = float("inf")
    for _ in range(REPEATS):
        synchronize(device)
        began = time.perf_counter()
        run()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def copy_rate(device: torch.device) -> float:
    """Bytes per second, read and written, of a large copy."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _quickest(lambda: target.copy_(source), device)


def as_markdown(document: dict[str, Any]) -> str:
    """The tables for people."""
    on = document["machine"]
    columns = ("eager", "recorded", "ours", "bfloat16", "cpu")
    sizes = [
        (
            f"{r['inputs']} x {CLASSES}",
            f"{r['lifetimes']:,}",
            *(_count(r[name]) for name in columns),
            f"{r['ours'] / r['eager']:.1f}x",
            f"{100 * r['of_bandwidth']:.1f} %",
        )
        for r in document["rows"]
    ]
    gradients = [
        (
            f"{r['lifetimes']:,}",
            *(_count(r[name]) for name in ("eager", "ours", "cpu")),
            f"{r['ours'] / r['eager']:.1f}x",
        )
        for r in document["meta_gradients"]
    ]
    headers = (
        *("network", "lifetimes", "eager", "recorded and fused", "ours", "ours, bfloat16"),
        *("on the CPUs", "ours to eager", "of the bandwidth"),
    )
    lines = [
        "# VSML on a GPU",
        "",
        f"Measured by `make gpu` on {on['device']} ({on['copied'] / 1e12:.2f} TB/s in a copy), "
        f"{on['threads']} threads of {on['cpu']} beside it, at commit {on['commit'][:10]}"
        f"{' with changes' if on['dirty'] else ''}, PyTorch {on['versions']['torch']}.",
        "Examples per second of all lifetimes together, the quickest of a few runs, without "
        "recording and compiling; eager: PyTorch, operator by operator; recorded and fused: what "
        "other learners get; ours: VSML's kernels.",
        "",
        tabulate(sizes, headers, tablefmt="github", disable_numparse=True),
        "",
        f"Meta-gradients through {META_STEPS} examples, 64 x {CLASSES}, examples per second:",
        "",
        tabulate(
            gradients,
            ("lifetimes", "eager", "ours", "on the CPUs", "ours to eager"),
            tablefmt="github",
            disable_numparse=True,
        ),
        "",
    ]
    return "\n".join(lines)


def _count(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}"


def main() -> None:
    """Measures all sizes and writes what it finds."""
    out = parser(main.__doc__).parse_args().out
    if not torch.cuda.is_available():
        sys.exit("make gpu: this machine has no usable CUDA GPU; run it on one that has.")
    gpu, commit = decide("cuda"), git_state()
    copied = copy_rate(gpu.device)
    rows = []
    for inputs in INPUTS:
        for lifetimes in LIFETIMES:
            rows.append(forward(inputs, lifetimes, copied))
            print(rows[-1], flush=True)
    document = {
        "machine": {
            "device": device_name(gpu.device),
            "copied": copied,
            "cpu": device_name(torch.device("cpu")),
            "threads": gpu.threads,
            "versions": versions(),
            "commit": commit[0],
            "dirty": commit[1],
        },
        "rows": rows,
        "meta_gradients": [meta_gradient(lifetimes) for lifetimes in META_LIFETIMES],
    }
    publish(document, as_markdown, out, "gpu")


if __name__ == "__main__":
    main()
