"""Code that a learner names for a device is used where it does what the learner does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vsml_bench.execution import COMPILE_AFTER, Execution
from vsml_bench.learner import Learner, Shape, State
from vsml_bench.protocols import quick_unroll
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.quick_steps import quick_steps, quicken
from vsml_bench.protocols.quick_unroll import QuickUnroll
from vsml_bench.registry import find_learner

CPU, GPU = (Execution(torch.device(name), 1) for name in ("cpu", "cuda"))
SHAPE = Shape((6,), 3)
STEPS, LIFETIMES = 5, 2
Run = Callable[[Learner, State, Tensor, Tensor], "tuple[Tensor, State] | None"]
calls: list[int] = []


def quick(learner: Learner, state: State, inputs: Tensor, labels: Tensor) -> tuple[Tensor, State]:
    calls.append(len(inputs))
    return Learner.unroll(learner, state, inputs, labels)


def wrong_logits(*arguments: Any) -> tuple[Tensor, State]:
    logits, state = quick(*arguments)
    return logits + 0.1, state


def wrong_state(*arguments: Any) -> tuple[Tensor, State]:
    logits, state = quick(*arguments)
    return logits, pytree.tree_map(lambda part: part.flip(-1), state)


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


def prepared(monkeypatch: pytest.MonkeyPatch, run: Run) -> tuple[Learner, State, Tensor, Tensor]:
    """On a CPU, with `run` as what VSML names for one."""
    calls.clear()
    made = lifetimes_on(CPU)
    reference = f"{run.__module__}:{run.__name__}"
    monkeypatch.setattr(type(made[0]), "quick_unroll", {"cpu": reference})
    return made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    own = [record for record in caplog.records if record.name == quick_unroll.__name__]
    return [record.getMessage() for record in own]


def quick_unroll_of(learner: Learner) -> QuickUnroll:
    own = learner.unroll
    assert isinstance(own, QuickUnroll)
    return own


def test_what_agrees_is_used_after_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, state, inputs, labels = prepared(monkeypatch, quick)
    with torch.inference_mode(), quick_steps(learner, CPU, COMPILE_AFTER):
        for _ in range(2):
            found = learner.unroll(state, inputs, labels)
        assert quick_unroll_of(learner).in_use
    assert calls == [2, STEPS, STEPS] and "unroll" not in vars(learner)
    expected = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_other_shapes_are_compared_anew_and_one_step_is_not_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, state, inputs, labels = prepared(monkeypatch, quick)
    quicken(learner, CPU, COMPILE_AFTER)
    with torch.inference_mode():
        learner.unroll(state, inputs[:1], labels[:1])
        learner.unroll(state, inputs, labels)
        wider = fresh_states(learner, range(LIFETIMES), Shape(SHAPE.inputs, 4), CPU.device)
        learner.unroll(wider, inputs, labels)
    assert calls == [1, 1, 2, STEPS, 2, STEPS]


FILE = """
from vsml_bench.learner import Learner
from vsml_bench.vsml.learner import VSML, VSMLConfig

calls = []


def quick(learner, state, inputs, labels):
    calls.append(len(inputs))
    if len(calls) > 2:
        raise RuntimeError("the device is gone")
    return Learner.unroll(learner, state, inputs, labels)


class Mine(VSML):
    variants = {"mine": VSMLConfig()}
    quick_unroll = {"cpu": ":quick"}


class Astray(Mine):
    variants = {"astray": VSMLConfig()}
    quick_unroll = {"cpu": "no_such_module:quick"}


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
    quicken(heir, CPU, COMPILE_AFTER)
    quicken(astray, CPU, COMPILE_AFTER)
    assert "unroll" not in vars(astray)
    assert "Astray runs without its quick unroll: No module named 'no_such" in warnings(caplog)[0]
    with torch.inference_mode():
        expected = learner.unroll(state, *stream)
        heir.unroll(state, *stream)
        assert quick_unroll_of(heir).in_use
        found = heir.unroll(state, *stream)  # fails, though it agreed
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not quick_unroll_of(heir).in_use
    assert warnings(caplog)[1:] == ["Heir runs without its quick unroll: the device is gone"]


def test_short_runs_and_other_devices_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, *_ = prepared(monkeypatch, quick)
    with torch.inference_mode(), quick_steps(learner, CPU, COMPILE_AFTER - 1):
        assert "unroll" not in vars(learner)
    monkeypatch.setattr(type(learner), "quick_unroll", {"cuda": "nowhere:nothing"})
    with torch.inference_mode(), quick_steps(learner, CPU, COMPILE_AFTER):
        assert "unroll" not in vars(learner)


@pytest.mark.parametrize(
    ("run", "with_gradients", "warning"),
    [
        (wrong_logits, False, "it gives something else"),
        (wrong_state, False, "it gives something else"),
        (wrong_gradient, True, "it gives something else"),
        (failing, False, "no room"),
        (refusing, False, None),
    ],
)
def test_what_does_not_agree_is_left_out(
    run: Run,
    with_gradients: bool,
    warning: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    learner, state, inputs, labels = prepared(monkeypatch, run)
    with torch.set_grad_enabled(with_gradients):
        expected = learner.unroll(state, inputs, labels)
        quicken(learner, CPU, COMPILE_AFTER)
        for _ in range(2):
            found = learner.unroll(state, inputs, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not quick_unroll_of(learner).in_use
    assert warnings(caplog) == (
        [f"VSML runs without its quick unroll: {warning}"] if warning else []
    )


def test_a_wrong_gradient_does_no_harm_where_none_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, state, inputs, labels = prepared(monkeypatch, wrong_gradient)
    quicken(learner, CPU, COMPILE_AFTER)
    with torch.inference_mode():
        learner.unroll(state, inputs, labels)
    assert quick_unroll_of(learner).in_use


def test_validation_amid_meta_training_leaves_it_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, *_ = prepared(monkeypatch, quick)
    quicken(learner, CPU, COMPILE_AFTER)
    own = quick_unroll_of(learner)
    with torch.inference_mode(), quick_steps(learner, CPU, COMPILE_AFTER):
        assert quick_unroll_of(learner) is not own
    assert quick_unroll_of(learner) is own


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_vsml_runs_by_its_kernels_and_waits_for_nothing() -> None:
    learner, state, inputs, labels = lifetimes_on(GPU)
    expected = learner.unroll(state, inputs, labels)
    with torch.inference_mode(), quick_steps(learner, GPU, COMPILE_AFTER):
        learner.unroll(state, inputs, labels)
        assert quick_unroll_of(learner).in_use
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = learner.unroll(state, inputs, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
