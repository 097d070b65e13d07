"""Runners compute what learners compute as they are written, compiled and recorded too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench import acceleration
from vsml_bench.acceleration import COMPILE_AFTER, RECORD_AFTER, Runner, accelerate
from vsml_bench.acceleration import recording as module
from vsml_bench.acceleration.recording import RecordedStep
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Shape, State, unroll_by_steps
from vsml_bench.protocols.evaluation import fresh_states, learner_shape
from vsml_bench.registry import find_learner

CPU = Execution(torch.device("cpu"), 1)
GPU = Execution(torch.device("cuda"), 1)
SHAPE = Shape((16,), 5)
STEPS, LIFETIMES = 8, 3
on_a_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    torch.compiler.reset()


def prepared(name: str, device: torch.device) -> tuple[Learner, State, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    learner = find_learner(name).create(seed=0).to(device).eval()
    shape = learner_shape(learner, SHAPE)
    inputs = torch.randn(STEPS, LIFETIMES, *shape.inputs, generator=generator)
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES), generator=generator)
    state = fresh_states(learner, range(LIFETIMES), shape, device)
    return learner, state, inputs.to(device), labels.to(device)


@pytest.mark.parametrize(
    ("steps", "possible", "compiled"),
    [(COMPILE_AFTER, True, True), (COMPILE_AFTER - 1, True, False), (COMPILE_AFTER, False, False)],
)
def test_a_step_is_compiled_where_it_pays_and_can_be(
    steps: int, possible: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(acceleration, "compiles_named_tuples", lambda: possible)
    monkeypatch.setattr(acceleration, "compiled", asked.append)
    learner = find_learner("sgd-linear").create(seed=0)
    accelerate(learner, CPU, steps)
    assert asked == [learner.forward] * compiled


def test_a_pytorch_that_empties_named_tuples_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acceleration.compiles_named_tuples.__wrapped__() == (torch.__version__[:4] != "2.11")
    emptied = lambda **_: lambda step: lambda pair: tuple.__new__(type(pair))  # noqa: E731
    monkeypatch.setattr(torch, "compile", emptied)
    assert not acceleration.compiles_named_tuples.__wrapped__()


@pytest.mark.parametrize(
    ("execution", "steps", "recorded"),
    [(CPU, COMPILE_AFTER, False), (GPU, RECORD_AFTER, True), (GPU, RECORD_AFTER - 1, False)],
    ids=["cpu", "gpu", "a few steps"],
)
def test_long_runs_on_a_gpu_are_recorded(execution: Execution, steps: int, recorded: bool) -> None:
    runner = accelerate(find_learner("sgd-linear").create(seed=0), execution, steps)
    assert (runner.recorded is not None) == recorded


@pytest.mark.parametrize("name", ["vsml", "vsml-deep", "sgd-mlp", "maml", "1-nn", "gpicl", "ridge"])
def test_a_runner_gives_what_the_learner_gives_and_leaves_it_as_it_is(name: str) -> None:
    learner, state, inputs, labels = prepared(name, CPU.device)
    before = dict(vars(learner))
    runner = accelerate(learner, CPU)
    with torch.inference_mode():
        for found, expected in (
            (runner.unroll(state, inputs, labels), learner.unroll(state, inputs, labels)),
            (runner.adapt(state, inputs, labels), learner.adapt(state, inputs, labels)),
            (runner.answer(state, inputs), learner.answer(state, inputs)),
            (runner.predict(state, inputs[0]), learner.predict(state, inputs[0])),
            (runner.step(state, inputs[0], labels[0]), learner(state, inputs[0], labels[0])),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert vars(learner) == before


def test_a_compiled_step_is_the_written_one_and_so_is_its_gradient() -> None:
    learner, state, inputs, labels = prepared("vsml-layer-norm", CPU.device)
    outcomes = []
    for steps in (0, COMPILE_AFTER):
        learner.zero_grad()
        logits, end = accelerate(learner, CPU, steps).unroll(state, inputs, labels)
        logits.square().mean().backward()
        outcomes.append((logits, end, [p.grad for p in learner.parameters()]))
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-5)


class Replaying:
    """In place of a CUDA graph, where there is no GPU: runs the step again on the memory that the
    graph reads, but for the results that it forgot to record."""

    def __init__(
        self, run: Callable[..., list[Tensor]], read: list[Tensor], forgotten: int
    ) -> None:
        self.run, self.read, self.forgotten = run, read, forgotten
        self.written = [result.clone() for result in run(*read)]

    def replay(self) -> None:
        for index, result in enumerate(self.run(*self.read)):
            if index != self.forgotten:
                self.written[index].copy_(result)


@pytest.mark.parametrize("forgotten", [None, 0, 1])
def test_a_recording_that_misses_something_is_not_used(
    forgotten: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PyTorch left out of a recording, the checks would find."""

    def recorded(run: Callable[..., list[Tensor]], arguments: list[Tensor], structure: Any) -> Any:
        read = [leaf.clone() for leaf in arguments]
        graph = Replaying(run, read, -1 if forgotten is None else forgotten)
        return module._Recording(graph, read, graph.written, structure)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_recorded", recorded)
    learner, state, inputs, labels = prepared("sgd-linear", CPU.device)
    with torch.inference_mode():
        expected = learner.unroll(state, inputs, labels)
        step = RecordedStep(learner.forward, compiled=False)
        runner = Runner(learner, learner.forward, step, None)
        torch.testing.assert_close(runner.unroll(state, inputs, labels), expected)
    assert step.in_use == (forgotten is None)


def test_a_growing_state_is_not_recorded() -> None:
    learner, state, inputs, labels = prepared("1-nn", CPU.device)
    with torch.inference_mode():
        expected, _ = unroll_by_steps(learner, state, inputs, labels)
        step = RecordedStep(learner.forward, compiled=True)
        torch.testing.assert_close(unroll_by_steps(step, state, inputs, labels)[0], expected)
    assert not step.in_use and len(step._recordings) == 1


def test_with_gradients_no_recording_is_used() -> None:
    """It would know nothing of them."""
    learner, state, inputs, labels = prepared("vsml-layer-norm", CPU.device)

    def never(*arguments: Any) -> Any:
        raise AssertionError("recorded")

    runner = Runner(learner, learner.forward, RecordedStep(never, compiled=False), None)
    assert runner.unroll(state, inputs, labels)[0].requires_grad
    with pytest.raises(AssertionError, match="recorded"), torch.no_grad():
        runner.unroll(state, inputs, labels)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["vsml-layer-norm", "sgd-mlp", "hebbian", "clone-2", "maml"])
class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_a_recorded_step_equals_the_written_one(self, name: str, compiled: bool) -> None:
        learner, state, inputs, labels = prepared(name, GPU.device)
        before = pytree.tree_map(torch.clone, state)
        with torch.inference_mode():
            logits, end = learner.unroll(state, inputs, labels)
            runner = accelerate(learner, GPU, COMPILE_AFTER if compiled else RECORD_AFTER)
            found, found_end = runner.unroll(state, inputs, labels)
            assert runner.recorded is not None and (runner.recorded.in_use or name == "maml")
            again, _ = runner.unroll(state, inputs, labels)
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if compiled else {"rtol": 0, "atol": 0}
        torch.testing.assert_close((found, found_end), (logits, end), **tolerance)
        torch.testing.assert_close(again, found, rtol=0, atol=0)
        torch.testing.assert_close(state, before, rtol=0, atol=0)  # what was given is unharmed

    def test_nothing_waits_for_the_gpu(self, name: str, compiled: bool) -> None:
        learner, state, inputs, labels = prepared(name, GPU.device)
        steps = COMPILE_AFTER if compiled else RECORD_AFTER
        runner = accelerate(learner, GPU, steps)
        with torch.inference_mode():
            runner.unroll(state, inputs, labels)
            torch.cuda.set_sync_debug_mode("error")
            try:
                runner.unroll(state, inputs, labels)
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_step_that_waits_for_the_gpu_runs_as_it_is_written() -> None:
    learner, state, inputs, labels = prepared("sgd-linear", GPU.device)

    def waiting(state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        assert labels.max().item() < SHAPE.classes
        return Learner.forward(learner, state, inputs, labels)

    step = RecordedStep(waiting, compiled=False)
    with torch.inference_mode():
        found = step(state, inputs[0], labels[0])
        torch.testing.assert_close(found, waiting(state, inputs[0], labels[0]), rtol=0, atol=0)
    assert not step.in_use
