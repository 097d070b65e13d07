"""The kernels for CUDA GPUs beside the plain form in float64. Run as a module, without a GPU, it
compares what Triton's interpreter makes of them, which TRITON_INTERPRET=1 asks for."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from vsml_bench.learner import Learner, Shape
from vsml_bench.vsml.fast import Lifetimes, cuda
from vsml_bench.vsml.layers import LayerState
from vsml_bench.vsml.network import VSMLState
from vsml_bench.vsml.variants import VSML, VSMLConfig

SIZES = [  # inputs, classes, lifetimes, steps, micro-ticks, programs that share a lifetime
    (4, 3, 2, 3, 2, 1),
    (25, 5, 1, 3, 2, 3),
    (40, 1, 1, 1, 1, 2),
    (3, 33, 1, 2, 3, 2),
]


def relative_errors(
    size: tuple[int, ...],
    device: torch.device,
    *,
    with_gradients: bool = True,
    mixed: bool = False,
) -> tuple[float, float]:
    """The largest relative error of logits, last states and gradients of the first states; and of
    the meta-parameters' gradients, which add up over lifetimes."""
    inputs, classes, count, steps, ticks, _ = size
    learner = with_large_meta_parameters(VSML(VSMLConfig(ticks=ticks)), 3.0)
    shape = Shape((inputs,), classes)
    xs, ys = noise_stream(shape, steps, count)
    state = learner.init_state(count, shape, torch.Generator().manual_seed(1))
    right = _outcomes(learner, lambda s: Learner.unroll(learner, s, xs, ys), state, with_gradients)

    learner.float().to(device)
    xs, ys = xs.float().to(device), ys.to(device)
    start = torch.utils._pytree.tree_map(
        lambda part: (part.float() if part.is_floating_point() else part).to(device), state
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        found = _outcomes(
            learner, lambda s: Lifetimes(learner, cuda).unroll(s, xs, ys), start, with_gradients
        )
    return _largest(found[0], right[0]), _largest(found[1], right[1])


def _outcomes(
    learner: Learner,
    run: Callable[[VSMLState], tuple[Tensor, VSMLState] | None],
    state: VSMLState,
    with_gradients: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits, the end and, of a random function of them, the gradients of the start; and those of
    the meta-parameters."""
    (layer,), (feedback,) = state.layers, state.feedback
    leaves = [part.clone().requires_grad_(with_gradients) for part in (*layer, feedback)]
    start = state._replace(layers=(LayerState(*leaves[:2]),), feedback=(leaves[2],))
    with torch.set_grad_enabled(with_gradients):
        outcome = run(start)
    assert outcome is not None
    logits, end = outcome
    results = [logits, *end.layers[0], end.feedback[0][..., 0]]
    if not with_gradients:
        return results, []
    draw = torch.Generator().manual_seed(3)
    weights = [torch.randn(result.shape, generator=draw).to(result) for result in results]
    loss = torch.stack([(w * r).sum() for w, r in zip(weights, results, strict=True)]).sum()
    wanted = [*learner.parameters(), *leaves]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    used = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
    *own, into_hidden, into_cell, into_feedback = used
    # of a message, all but channel 0 is 0 whatever the learner does
    return [*results, into_hidden, into_cell, into_feedback[..., 0]], own


def _largest(found: list[Tensor], right: list[Tensor]) -> float:
    pairs = [(f.detach().cpu().double(), r.detach()) for f, r in zip(found, right, strict=True)]
    errors = [(f - r).norm() / r.norm().clamp(min=1e-9) for f, r in pairs]
    return float(torch.stack(errors).max()) if errors else 0.0  # NaN where one is


def main() -> None:
    """Prints the errors of each size."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    for size in SIZES:
        cuda.room_for = lambda rows, device, size=size: size[2] * size[5]  # type: ignore[misc]
        with_gradients = relative_errors(size, torch.device("cpu"))
        print(*with_gradients, *relative_errors(size, torch.device("cpu"), with_gradients=False))


if __name__ == "__main__":
    main()
