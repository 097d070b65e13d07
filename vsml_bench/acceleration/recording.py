"""Steps recorded as CUDA graphs, so that each is queued at once instead of operator by operator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.acceleration.compiled_libraries import discard_torn
from vsml_bench.acceleration.fast_code import agree
from vsml_bench.learner import State, Step

RECORD_AFTER = 25
"""Steps below which a CUDA graph is not worth its recording."""
_WARM_UPS = 3  # as PyTorch's documentation of CUDA graphs advises
_GRAPHS = 8  # of different shapes


@dataclass(frozen=True)
class _Recording:
    """A CUDA graph, the memory it reads and the memory it writes."""

    graph: torch.cuda.CUDAGraph
    read: list[Tensor]
    written: list[Tensor]
    structure: pytree.TreeSpec  # of what is written

    def replay(self, arguments: list[Tensor]) -> list[Tensor]:
        """The step's results, in memory of their own."""
        torch._foreach_copy_(self.read, arguments)
        self.graph.replay()
        results = [torch.empty_like(part) for part in self.written]
        torch._foreach_copy_(results, self.written)
        return results


class RecordedStep:
    """A step (state, inputs, labels) -> (logits, state) that is recorded at its first call with
    each set of shapes and replayed from then on. What it is given and what it returns belongs to
    the caller, as with any step: it is copied into and out of the graph's own memory.
    """

    def __init__(self, step: Step, *, compiled: bool) -> None:
        """compiled: whether Inductor fuses the operators before they are recorded."""
        self._step, self._compiled = step, compiled
        self._recordings: dict[Any, _Recording | None] = {}
        self._state_grows = False

    @property
    def in_use(self) -> bool:
        """Whether there is a recording, and no call was refused one."""
        return bool(self._recordings) and None not in self._recordings.values()

    def __call__(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        """See `Learner.forward`."""
        if self._state_grows:
            return self._step(state, inputs, labels)
        arguments, structure = pytree.tree_flatten((state, inputs, labels))
        key = (structure, *((leaf.shape, leaf.dtype) for leaf in arguments))
        if key not in self._recordings:
            room = len(self._recordings) < _GRAPHS
            self._recordings[key] = self._record(arguments, structure) if room else None
        recording = self._recordings[key]
        if recording is None:
            return self._step(state, inputs, labels)
        results = recording.replay(arguments)
        found: tuple[Tensor, State] = pytree.tree_unflatten(results, recording.structure)
        return found

    def _record(self, arguments: list[Tensor], structure: pytree.TreeSpec) -> _Recording | None:
        """None where the step cannot be recorded: it waits for the GPU, say."""

        def flat(*leaves: Tensor) -> list[Tensor]:
            """Takes and returns tensors alone: what Dynamo makes of NamedTuples differs between
            releases of PyTorch."""
            return pytree.tree_leaves(self._step(*pytree.tree_unflatten(list(leaves), structure)))

        returned, of_results = pytree.tree_flatten(
            self._step(*pytree.tree_unflatten(arguments, structure))
        )
        if [leaf.shape for leaf in returned[1:]] != [leaf.shape for leaf in arguments[:-2]]:
            self._state_grows = True
            return None
        reason = ""
        discard_torn()
        for run in [torch.compile(flat, dynamic=False), flat] if self._compiled else [flat]:
            try:
                recording = _recorded(run, arguments, of_results)
                if _agree(recording, flat, arguments):
                    return recording
                reason = "its recording gives something else"
            except Exception as error:  # Dynamo, Inductor and CUDA each have their own kinds
                reason = str(error).strip().partition("\n")[0]
        logging.getLogger(__name__).warning("a step runs as it is written: %s", reason)
        return None


@lru_cache(maxsize=1)
def _side_stream() -> torch.cuda.Stream:
    """One for all recordings: cuBLAS keeps a workspace for each stream that it has seen."""
    return torch.cuda.Stream()


def _recorded(
    run: Callable[..., list[Tensor]], arguments: list[Tensor], structure: pytree.TreeSpec
) -> _Recording:
    read = [leaf.clone() for leaf in arguments]
    main, beside = torch.cuda.current_stream(), _side_stream()
    beside.wait_stream(main)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                run(*read)
        with torch.cuda.graph(graph, stream=beside):
            written = run(*read)
    finally:
        torch.cuda.set_stream(main)  # which a failed recording may leave behind
        main.wait_stream(beside)
    return _Recording(graph, read, written, structure)


def _agree(
    recording: _Recording, written: Callable[..., list[Tensor]], arguments: list[Tensor]
) -> bool:
    """Whether a recording does what the step does as it is written, on two steps in a row with
    different examples."""
    *before, inputs, labels = arguments
    for now in ((inputs, labels), (inputs.flip(-1), torch.zeros_like(labels))):
        logits, *after = written(*before, *now)
        found_logits, *found = recording.replay([*before, *now])
        if not agree((logits, after), (found_logits, found), before):
            return False
        before = after
    return True
