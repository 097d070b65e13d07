"""VSML against its textbook form."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.case import (
    CPU,
    Case,
    Run,
    objective_of,
    random_episode,
    runner_of,
    without_gradients,
)
from vsml_bench.learner import ES, Shape
from vsml_bench.meta_training import es
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import stepwise_loss
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork, VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN
from vsml_bench.vsml.variants import VSML

_CONFIGS = {
    "vsml": VSMLConfig(),
    "deep": VSMLConfig(hidden=(32,), layer_norm=True, feed_label=True),
}
_GATES = 16 * 64  # multiply-adds of h W in one sub-RNN and micro-tick
_EXPONENTIALS = 5 * 16  # of four gates and tanh(c'), each a polynomial of degree 5
_REST = 7 * 16  # products in the LSTM's update, all of them multiplied out
_TICKS = 2
_FORWARD = 2 * _TICKS * (_GATES + 5 * _EXPONENTIALS + _REST)
_BACKWARD = 2 * _TICKS * (2 * _GATES + 20 * 16)  # dL/dh and dL/dW; what else is per gate


def textbook_unroll(
    learner: VSMLNetwork, state: VSMLState, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """VSML as its equations read, batched, in eager PyTorch. Dense layers, one tensor operation per
    line of the paper: what a sub-RNN sees is concatenated, every sub-RNN has its gates computed
    from all of it, and the message heads are applied per sub-RNN before the mean. The tests hold it
    to their own oracle, which computes one sub-RNN at a time.

    Logits [T, E, K] of the lifetimes inputs [T, E, A] with labels int64 [T, E], and each layer's
    last hidden and cell states [E, A, B, N].

    learner: a network of dense layers with or without LayerNorm and the fed label; only its
    meta-parameters and sizes are read. state: what its `init_state` returned.
    """
    rnn, config = learner.sub_rnns[0], learner.config
    assert isinstance(rnn, SubRNN)
    weight = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
    forward_norm, backward_norm = (
        norm or torch.nn.Identity() for norm in (rnn.forward_norm, rnn.backward_norm)
    )
    layers = [(layer.hidden[:, 0], layer.cell[:, 0]) for layer in state.layers]
    from_above = [messages[:, 0] for messages in state.feedback]
    classes = state.logits.shape[1]
    logits = []
    for x, y in zip(inputs, labels, strict=True):
        upward = torch.nn.functional.pad(x.unsqueeze(-1), (0, config.message_size - 1))
        for index, (hidden, cell) in enumerate(layers):
            _, rows, columns, _ = hidden.shape
            incoming = [
                upward.unsqueeze(2).expand(-1, -1, columns, -1),
                from_above[index].unsqueeze(1).expand(-1, rows, -1, -1),
            ]
            for _ in range(config.ticks):
                gates = torch.cat([*incoming, hidden], -1) @ weight + rnn.gates_bias
                i, g, f, o = gates.chunk(4, -1)
                cell = torch.sigmoid(f + 5) * cell + torch.sigmoid(i - 5) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
            layers[index] = hidden, cell
            upward = forward_norm(rnn.forward_head(hidden)).mean(1)
            downward = backward_norm(rnn.backward_head(hidden)).mean(2)
            if index > 0:
                from_above[index - 1] = downward
        predicted = 100 * torch.tanh(upward[..., 1] / 100)
        onehot = torch.nn.functional.one_hot(y, classes).to(x.dtype)
        channels = [torch.softmax(predicted, -1) - onehot]
        if config.feed_label:
            channels.append(onehot)
        error = torch.stack(channels, -1)
        from_above[-1] = torch.nn.functional.pad(error, (0, config.message_size - len(channels)))
        logits.append(predicted)
    return torch.stack(logits), layers


def vsml_forward(
    inputs: int, lifetimes: int, steps: int, goal: float | None, name: str = "vsml"
) -> Case:
    """Lifetimes of a network of dense layers, ten classes. name: see `fresh_vsml`."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = fresh_vsml(name), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))
        runner = runner_of(learner)
        return (
            lambda: without_gradients(lambda: runner.unroll(state, episode.inputs, episode.labels)),
            lambda: without_gradients(
                lambda: textbook_unroll(learner, state, episode.inputs, episode.labels)
            ),
        )

    return Case(
        f"{_title(name, 'forward', inputs)}, {lifetimes} lifetimes",
        "textbook form in eager PyTorch",
        "examples",
        lifetimes * steps,
        goal,
        lifetimes * steps * _sub_rnns(name, inputs) * _FORWARD,
        sides,
    )


def vsml_meta_gradient(
    inputs: int, lifetimes: int, steps: int, goal: float | None, name: str = "vsml"
) -> Case:
    """Backpropagation through whole lifetimes, as in a meta-update. name: see `fresh_vsml`."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = fresh_vsml(name), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))

        def reference() -> None:
            learner.zero_grad(set_to_none=True)
            logits, _ = textbook_unroll(learner, state, episode.inputs, episode.labels)
            stepwise_loss(logits, episode.labels).mean().backward()

        objective = objective_of(runner_of(learner), episode, Online(steps), lambda: state)
        return lambda: lambda: backpropagate(learner, objective), lambda: reference

    # The way back starts anew.
    flops = lifetimes * steps * _sub_rnns(name, inputs) * (2 * _FORWARD + _BACKWARD)
    return Case(
        f"{_title(name, 'meta-gradient', inputs)}, {lifetimes} lifetimes x {steps} examples",
        "textbook form in eager PyTorch",
        "examples",
        lifetimes * steps,
        goal,
        flops,
        sides,
    )


def vsml_evolution(inputs: int, population: int, steps: int, goal: float | None) -> Case:
    """One step of evolution strategies, a lifetime for each member."""
    shape = Shape((inputs,), 10)
    pairs = population // 2

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = fresh_vsml(), random_episode(steps, 1, shape)
        objective = objective_of(
            *(runner_of(learner), episode, Online(steps)),
            lambda: fresh_states(learner, [0], shape, CPU),
        )
        engine = ES(pairs=pairs)

        def reference() -> None:
            """The same members, one after the other."""
            own = {name: p.detach().clone() for name, p in learner.named_parameters()}
            gradient = {name: torch.zeros_like(p) for name, p in own.items()}
            for noise in es.draw_noise(own, pairs, 1, seed=0):
                losses = []
                for sign in (1, -1):
                    for name, p in learner.named_parameters():
                        p.copy_(own[name] + sign * engine.noise_std * noise[name][0])
                    state = fresh_states(learner, [0], shape, CPU)
                    logits, _ = textbook_unroll(learner, state, episode.inputs, episode.labels)
                    losses.append(stepwise_loss(logits, episode.labels).mean())
                slope = (losses[0] - losses[1]) / (2 * engine.noise_std)
                for name, eps in noise.items():
                    gradient[name] += slope * eps[0] / pairs
            for name, p in learner.named_parameters():
                p.copy_(own[name])
                p.grad = gradient[name]

        def ours() -> Run:
            prepared = es.prepare(learner, objective, engine, "vsml")
            return lambda: es.meta_gradient(learner, objective, prepared, seed=0)

        return ours, lambda: torch.no_grad()(reference)

    return Case(
        f"ES step, population {population}, {inputs} x 10, {steps} examples",
        "the members one by one through the textbook form",
        "examples",
        population * steps,
        goal,
        population * steps * inputs * 10 * _FORWARD,
        sides,
    )


def fresh_vsml(name: str = "vsml") -> VSMLNetwork:
    """A network before any meta-training: "vsml", the paper's one-layer model, or "deep", the
    released configuration with 32 hidden units, LayerNorm and the fed label."""
    learner = VSML(_CONFIGS[name])
    learner.init_meta_parameters(torch.Generator().manual_seed(0))
    return learner


def _title(name: str, what: str, inputs: int) -> str:
    config = _CONFIGS[name]
    sizes = " x ".join(map(str, (inputs, *config.hidden, 10)))
    options = ", LayerNorm, fed label" if config.layer_norm else ""
    return f"VSML {what}, {sizes}{options}"


def _sub_rnns(name: str, inputs: int) -> int:
    widths = (inputs, *_CONFIGS[name].hidden, 10)
    return sum(below * above for below, above in itertools.pairwise(widths))
