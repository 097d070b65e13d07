"""How the step of a learner is made quick for many calls: compiled, and on a GPU recorded as a CUDA
graph, so that it is queued at once instead of operator by operator.

Neither changes what a learner computes, beyond the order of its sums. Where one of them is not
possible, the step runs as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.execution import Execution, compiles_named_tuples
from vsml_bench.learner import Learner, State

RECORD_AFTER = 25
"""Steps below which a CUDA graph is not worth its recording."""
_WARM_UPS = 3  # as PyTorch's documentation of CUDA graphs advises
_GRAPHS = 8  # of different shapes; a state that grows at each step gets no more than these


@contextmanager
def quick_steps(learner: Learner, execution: Execution, steps: int) -> Iterator[None]:
    """Within it, in inference mode, calls of the learner are as quick as `steps` of them pay
    for."""
    if execution.device.type != "cuda":
        compile_step(learner, execution, steps)
        yield
        return
    if steps >= RECORD_AFTER:
        recorded = RecordedStep(learner.forward, compiled=execution.worth_compiling(steps))
        learner.forward = recorded  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(learner).pop("forward", None)


def compile_step(learner: Learner, execution: Execution, steps: int) -> None:
    """Compiles the learner's step if `steps` calls pay for it and this PyTorch can."""
    if execution.worth_compiling(steps) and compiles_named_tuples():
        learner.compile(dynamic=False)


@dataclass(frozen=True)
class _Recording:
    """A CUDA graph, the memory it reads and the memory it writes."""

    graph: torch.cuda.CUDAGraph
    read: list[Tensor]
    written: list[Tensor]
    structure: pytree.TreeSpec  # of what is written


class RecordedStep:
    """A step (state, inputs, labels) -> (logits, state) that is recorded at its first call with
    each set of shapes and replayed from then on. What it is given and what it returns belongs to
    the caller, as with any step: it is copied into and out of the graph's own memory.
    """

    def __init__(
        self, step: Callable[[State, Tensor, Tensor], tuple[Tensor, State]], *, compiled: bool
    ) -> None:
        """compiled: whether Inductor fuses the operators before they are recorded."""
        self._step, self._compiled = step, compiled
        self._recordings: dict[Any, _Recording | None] = {}

    def __call__(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.forward`."""
        arguments, structure = pytree.tree_flatten((state, inputs, labels))
        key = (structure, *((leaf.shape, leaf.dtype) for leaf in arguments))
        if key not in self._recordings:
            room = len(self._recordings) < _GRAPHS
            self._recordings[key] = self._record(arguments, structure) if room else None
        recording = self._recordings[key]
        if recording is None:
            return self._step(state, inputs, labels)
        torch._foreach_copy_(recording.read, arguments)
        recording.graph.replay()
        results = [torch.empty_like(part) for part in recording.written]
        torch._foreach_copy_(results, recording.written)
        found: tuple[Tensor, State] = pytree.tree_unflatten(results, recording.structure)
        return found

    def _record(self, arguments: list[Tensor], structure: pytree.TreeSpec) -> _Recording | None:
        """None where the step cannot be recorded: it waits for the GPU, say."""
        _, of_results = pytree.tree_flatten(
            self._step(*pytree.tree_unflatten(arguments, structure))
        )

        def flat(*leaves: Tensor) -> list[Tensor]:
            """Takes and returns tensors alone: what Dynamo makes of NamedTuples differs between
            releases of PyTorch."""
            return pytree.tree_leaves(self._step(*pytree.tree_unflatten(list(leaves), structure)))

        read = [leaf.clone() for leaf in arguments]
        run = torch.compile(flat, dynamic=False) if self._compiled else flat
        for candidate in (run, flat):
            try:
                graph, written = _captured(candidate, read)
            except Exception:  # Dynamo, Inductor and CUDA each have their own kinds
                torch.cuda.synchronize()
                continue
            return _Recording(graph, read, written, of_results)
        return None


def _captured(
    run: Callable[..., list[Tensor]], read: list[Tensor]
) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(_WARM_UPS):
            run(*read)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        written = run(*read)
    return graph, written
