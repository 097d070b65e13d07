"""Code that a learner names is used where it does what the learner does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from vsml_bench.acceleration import COMPILE_AFTER, Runner, accelerate, fast_code
from vsml_bench.acceleration.fast_code import CheckedCode
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Shape, State
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.registry import find_learner

CPU, GPU = (Execution(torch.device(name), 1) for name in ("cpu", "cuda"))
SHAPE = Shape((6,), 3)
STEPS, LIFETIMES = 5, 2
Run: TypeAlias = Callable[..., Any]
calls: list[int] = []


@dataclass
class Code:
    """Does what a function says; only unrolls."""

    run: Run
    learner: Learner

    def unroll(self, state: State, inputs: Tensor, labels: Tensor) -> Any:
        return self.run(self.learner, state, inputs, labels)


def quick(learner: Learner, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
    calls.append(len(inputs))
    return learner.unroll(state, inputs, labels)


def wrong_logits(*arguments: Any) -> tuple[Tensor, State]:
    logits, state = quick(*arguments)
    return logits + 0.1, state


def wrong_state(*arguments: Any) -> tuple[Tensor, State]:
    logits, state = quick(*arguments)
    return logits, pytree.tree_map(lambda part: part.flip(-1), state)


def overwriting(
    learner: Learner, state: State, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, State]:
    logits, after = quick(learner, state, inputs, labels)
    for part in pytree.tree_leaves(state):
        part.add_(1)
    return logits + 0.1, after


def wrong_gradient(*arguments: Any) -> tuple[Tensor, State]:
    logits, state = quick(*arguments)
    return logits.detach() + 0.5 * (logits - logits.detach()), state


def failing(*arguments: Any) -> tuple[Tensor, State]:
    raise RuntimeError("no room\nwhatsoever")


def refusing(*arguments: Any) -> None:
    return None


def lifetimes_on(execution: Execution) -> tuple[Learner, State, Tensor, Tensor]:
    learner = find_learner("vsml").create(seed=0).to(execution.device)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(STEPS, LIFETIMES, *SHAPE.inputs, generator=draw)
    labels = torch.randint(SHAPE.classes, (STEPS, LIFETIMES), generator=draw)
    state = fresh_states(learner, range(LIFETIMES), SHAPE, execution.device)
    return learner, state, inputs.to(execution.device), labels.to(execution.device)


def prepared(run: Run) -> tuple[Runner, State, Tensor, Tensor]:
    """VSML on a CPU, with `run` as its fast code."""
    calls.clear()
    learner, *stream = lifetimes_on(CPU)
    code = CheckedCode(learner, Code(run, learner))
    return Runner(learner, learner.forward, None, code), *stream


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    own = [record for record in caplog.records if record.name == fast_code.__name__]
    return [record.getMessage() for record in own]


def in_use(runner: Runner) -> bool:
    return runner.fast is not None and runner.fast.in_use


def test_what_agrees_is_used_after_one_comparison() -> None:
    runner, state, inputs, labels = prepared(quick)
    with torch.inference_mode():
        for _ in range(2):
            found = runner.unroll(state, inputs, labels)
    assert in_use(runner) and calls == [2, STEPS, STEPS]
    expected = runner.learner.unroll(state, inputs, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_other_shapes_are_compared_anew_and_one_step_is_not_enough() -> None:
    runner, state, inputs, labels = prepared(quick)
    with torch.inference_mode():
        runner.unroll(state, inputs[:1], labels[:1])
        runner.unroll(state, inputs, labels)
        wider = fresh_states(runner.learner, range(LIFETIMES), Shape(SHAPE.inputs, 4), CPU.device)
        runner.unroll(wider, inputs, labels)
    assert calls == [1, 1, 2, STEPS, 2, STEPS]


FILE = """
from vsml_bench.vsml.variants import VSML, VSMLConfig

asked = []


class Quick:
    def __init__(self, learner):
        self.learner, self.calls = learner, 0

    def unroll(self, state, inputs, labels):
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("the device is gone")
        return self.learner.unroll(state, inputs, labels)


def quick(learner, execution, steps):
    asked.append((execution.device.type, steps))
    return Quick(learner) if steps > 10 else None


class Mine(VSML):
    variants = {"mine": VSMLConfig()}
    fast_code = ":quick"


class Astray(Mine):
    variants = {"astray": VSMLConfig()}
    fast_code = "no_such_module:quick"


class Heir(Mine):
    variants = {"heir": VSMLConfig()}
"""


def test_a_file_names_its_own_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    learner, astray, heir = (
        find_learner(f"{tmp_path / 'mine.py'}:{name}").create(seed=0)
        for name in ("Mine", "Astray", "Heir")
    )
    state = fresh_states(learner, range(LIFETIMES), SHAPE, CPU.device)
    stream = torch.randn(STEPS, LIFETIMES, 6), torch.zeros(STEPS, LIFETIMES, dtype=torch.int64)
    assert accelerate(astray, CPU, 11).fast is None
    assert "Astray runs without its fast code: No module named 'no_such" in warnings(caplog)[0]
    assert accelerate(heir, CPU, 10).fast is None
    runner = accelerate(heir, CPU, 11)
    asked = sys.modules[type(heir).__module__].asked
    assert asked == [("cpu", 10), ("cpu", 11)]
    with torch.inference_mode():
        expected = learner.unroll(state, *stream)
        runner.unroll(state, *stream)
        assert in_use(runner)
        found = runner.unroll(state, *stream)  # fails, though it agreed
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not in_use(runner) and runner.fast is not None and runner.fast.refused
    assert warnings(caplog)[1:] == ["Heir runs without its fast code: the device is gone"]


@pytest.mark.parametrize(
    ("run", "with_gradients", "warning"),
    [
        (wrong_logits, False, "it gives something else"),
        (wrong_state, False, "it gives something else"),
        (overwriting, False, "it gives something else"),
        (wrong_gradient, True, "it gives something else"),
        (failing, False, "no room"),
        (refusing, False, None),
    ],
)
def test_what_does_not_agree_is_left_out(
    run: Run, with_gradients: bool, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    runner, state, inputs, labels = prepared(run)
    with torch.set_grad_enabled(with_gradients):
        expected = runner.learner.unroll(state, inputs, labels)
        for _ in range(2):
            found = runner.unroll(state, inputs, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not in_use(runner)
    assert warnings(caplog) == ([f"VSML runs without its fast code: {warning}"] if warning else [])


def test_a_wrong_gradient_does_no_harm_where_none_is_asked_for() -> None:
    runner, state, inputs, labels = prepared(wrong_gradient)
    with torch.inference_mode():
        runner.unroll(state, inputs, labels)
    assert in_use(runner)


def test_a_lost_gradient_of_the_inputs_is_seen() -> None:
    runner, state, inputs, labels = prepared(
        lambda learner, state, *stream: quick(learner, state, stream[0].detach(), stream[1])
    )
    runner.unroll(state, inputs, labels)
    assert in_use(runner)
    runner.unroll(state, inputs.requires_grad_(), labels)[0].sum().backward()
    assert not in_use(runner) and inputs.grad is not None


def test_a_check_leaves_the_gradients_of_what_came_before_alone() -> None:
    """States that were computed from the meta-parameters, as where a lifetime is cut in two."""
    runner, state, inputs, labels = prepared(quick)
    with torch.enable_grad():
        _, state = runner.learner.unroll(state, inputs, labels)
        logits, _ = runner.unroll(state, inputs, labels)
        logits.sum().backward()
    assert in_use(runner)


class Steps:
    """Of a learner, with `predict` or `observe` gone wrong."""

    def __init__(self, learner: Learner, wrong: str) -> None:
        self.learner, self.wrong = learner, wrong

    def predict(self, state: State, inputs: Tensor) -> tuple[Tensor, State]:
        logits, state = self.learner.predict(state, inputs)
        return logits + (self.wrong == "predict"), state

    def observe(self, state: State, labels: Tensor) -> State:
        return self.learner.observe(state, (labels + (self.wrong == "observe")) % 3)


@pytest.mark.parametrize("wrong", ["", "predict", "observe"])
def test_single_steps_are_compared_as_well(wrong: str) -> None:
    learner, state, inputs, labels = lifetimes_on(CPU)
    fast = CheckedCode(learner, Steps(learner, wrong))
    runner = Runner(learner, learner.forward, None, fast)
    with torch.inference_mode():
        expected = learner.unroll(state, inputs, labels)
        found = runner.unroll(state, inputs, labels)
        assert fast.refused == (wrong != "")
        answers = runner.answer(state, inputs)
        torch.testing.assert_close(answers, learner.answer(state, inputs), rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("run", [quick, wrong_logits, wrong_state])
def test_a_population_is_compared_by_its_first_member(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    runner, state, inputs, labels = prepared(run)
    whole = Whole(runner)
    members = {
        f"runner_learner.{name}": torch.stack([p.detach(), 0.5 * p.detach()])
        for name, p in runner.learner.named_parameters()
    }

    def live(parameters: dict[str, Tensor]) -> tuple[Tensor, State]:
        return functional_call(whole, parameters, (state, inputs, labels))  # type: ignore[no-any-return]

    logits, _ = vmap(live)(members)
    assert in_use(runner) == (run is quick)
    assert warnings(caplog) == (
        [] if run is quick else ["VSML runs without its fast code: it gives something else"]
    )
    for index in range(2):
        alone, _ = runner.learner.unroll(state, inputs, labels)
        torch.testing.assert_close(logits[index], alone.detach(), rtol=1e-5, atol=1e-6)
        for parameter in runner.learner.parameters():
            parameter.data.mul_(0.5)


class Whole(nn.Module):
    """A runner's lifetimes, as the module whose parameters `functional_call` replaces."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner, self.runner_learner = runner, runner.learner

    def forward(self, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
        return self.runner.unroll(state, inputs, labels)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_vsml_runs_by_its_kernels_and_waits_for_nothing() -> None:
    learner, state, inputs, labels = lifetimes_on(GPU)
    expected = learner.unroll(state, inputs, labels)
    runner = accelerate(learner, GPU, COMPILE_AFTER)
    with torch.inference_mode():
        runner.unroll(state, inputs, labels)
        assert in_use(runner)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = runner.unroll(state, inputs, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
