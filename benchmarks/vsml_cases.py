"""VSML against its textbook form."""

from __future__ import annotations

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
from vsml_bench.registry import find_learner
from vsml_bench.vsml.network import VSMLState
from vsml_bench.vsml.sub_rnn import SubRNN
from vsml_bench.vsml.variants import VSML

_GATES = 16 * 64  # multiply-adds of h W in one sub-RNN and micro-tick
_EXPONENTIALS = 5 * 16  # of four gates and tanh(c'), each a polynomial of degree 5
_REST = 7 * 16  # products in the LSTM's update, all of them multiplied out
_TICKS = 2
_FORWARD = 2 * _TICKS * (_GATES + 5 * _EXPONENTIALS + _REST)
_BACKWARD = 2 * _TICKS * (2 * _GATES + 20 * 16)  # dL/dh and dL/dW; what else is per gate


def textbook_unroll(
    learner: VSML, state: VSMLState, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """VSML as its equations read, batched, in eager PyTorch. One dense layer, one tensor operation
    per line of the paper: what a sub-RNN sees is concatenated, every sub-RNN has its gates computed
    from all of it, and the message heads are applied per sub-RNN before the mean. The tests hold it
    to their own oracle, which computes one sub-RNN at a time.

    Logits [T, E, K] of the lifetimes inputs [T, E, A] with labels int64 [T, E], and the last
    hidden and cell states [E, A, K, N].

    learner: a "vsml" with one dense layer; only its meta-parameters and sizes are read. state: what
    its `init_state` returned.
    """
    rnn, config = learner.sub_rnns[0], learner.config
    assert isinstance(rnn, SubRNN)
    weight = torch.cat([rnn.gates_from_forward, rnn.gates_from_backward, rnn.gates_from_hidden])
    hidden, cell = (part[:, 0] for part in state.layers[0])
    lifetimes, rows, columns, _ = hidden.shape
    backward = hidden.new_zeros(lifetimes, columns, config.message_size)
    logits = []
    for x, y in zip(inputs, labels, strict=True):
        forward = x.new_zeros(lifetimes, rows, config.message_size)
        forward[..., 0] = x
        incoming = [
            forward.unsqueeze(2).expand(-1, -1, columns, -1),
            backward.unsqueeze(1).expand(-1, rows, -1, -1),
        ]
        for _ in range(config.ticks):
            gates = torch.cat([*incoming, hidden], -1) @ weight + rnn.gates_bias
            i, g, f, o = gates.chunk(4, -1)
            cell = torch.sigmoid(f + 5) * cell + torch.sigmoid(i - 5) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        upward = rnn.forward_head(hidden).mean(1)
        rnn.backward_head(hidden).mean(2)  # for a layer below, if there were one
        predicted = 100 * torch.tanh(upward[..., 1] / 100)
        error = torch.softmax(predicted, -1) - torch.nn.functional.one_hot(y, columns)
        backward = torch.nn.functional.pad(error.unsqueeze(-1), (0, config.message_size - 1))
        logits.append(predicted)
    return torch.stack(logits), (hidden, cell)


def vsml_forward(inputs: int, lifetimes: int, steps: int, goal: float | None) -> Case:
    """Lifetimes of a network with one dense layer, ten classes."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = fresh_vsml(), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))
        runner = runner_of(learner)
        return (
            lambda: without_gradients(lambda: runner.unroll(state, episode.inputs, episode.labels)),
            lambda: without_gradients(
                lambda: textbook_unroll(learner, state, episode.inputs, episode.labels)
            ),
        )

    return Case(
        f"VSML forward, {inputs} x 10, {lifetimes} lifetimes",
        "textbook form in eager PyTorch",
        "examples",
        lifetimes * steps,
        goal,
        lifetimes * steps * inputs * 10 * _FORWARD,
        sides,
    )


def vsml_meta_gradient(inputs: int, lifetimes: int, steps: int, goal: float | None) -> Case:
    """Backpropagation through whole lifetimes, as in a meta-update."""
    shape = Shape((inputs,), 10)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        learner, episode = fresh_vsml(), random_episode(steps, lifetimes, shape)
        state = learner.init_state(lifetimes, shape, torch.Generator().manual_seed(0))

        def reference() -> None:
            learner.zero_grad(set_to_none=True)
            logits, _ = textbook_unroll(learner, state, episode.inputs, episode.labels)
            stepwise_loss(logits, episode.labels).mean().backward()

        objective = objective_of(runner_of(learner), episode, Online(steps), lambda: state)
        return lambda: lambda: backpropagate(learner, objective), lambda: reference

    flops = lifetimes * steps * inputs * 10 * (2 * _FORWARD + _BACKWARD)  # the way back starts anew
    return Case(
        f"VSML meta-gradient, {inputs} x 10, {lifetimes} lifetimes x {steps} examples",
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


def fresh_vsml() -> VSML:
    """The paper's one-layer model before any meta-training."""
    learner = find_learner("vsml").create(seed=0)
    assert isinstance(learner, VSML)
    return learner
