"""Networks of synapses against a loop over single ones, and what "forward only" means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.runners import on_cpu
from vsml_bench import cards
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import Shape
from vsml_bench.meta_training.job import NO_TASKS, Job
from vsml_bench.studies.cloning.backpropagation import CONSTANT
from vsml_bench.studies.cloning.learner import Clone, CloneConfig, Synapse, SynapseConfig
from vsml_bench.studies.cloning.protocol import Cloning

SHAPE = Shape((1, 1, 3), 2)
OPTIONS = {
    "one layer": CloneConfig(),
    "two layers": CloneConfig(hidden=(4,)),
    "the rate is an input": CloneConfig((4,), 0.5, SynapseConfig(rate_range=4.0)),
    "momentum": CloneConfig((4,), synapse=SynapseConfig(momentum=0.9, ticks=3)),
}
every_option = pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS)


def make(config: CloneConfig) -> Clone:
    clone = Clone(config).double()
    clone.init_meta_parameters(torch.Generator().manual_seed(0))
    return clone


def live(synapse: Synapse, phase: int, message: float, rate: float, state: Tensor) -> Tensor:
    """One phase of one synapse, as an LSTM of everything that it receives; state is (h, c)."""
    size = synapse.config.state_size
    hidden, cell = state
    for _ in range(synapse.config.ticks):
        gates = synapse.from_phase[phase] + message * synapse.from_message[phase]
        if synapse.from_rate is not None:
            gates = gates + torch.log(torch.tensor(rate / synapse.config.rate)) * synapse.from_rate
        gates = gates + hidden @ synapse.from_hidden
        i, g, f, o = (gates[k * size : (k + 1) * size] for k in range(4))
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
    return torch.stack([hidden, cell])


@every_option
@torch.no_grad()
def test_a_network_is_its_synapses(config: CloneConfig) -> None:
    clone = make(config)
    synapse, rate = clone.synapse, config.rate_factor * config.synapse.rate
    state = clone.init_state(1, SHAPE, torch.Generator().manual_seed(1))
    inputs = torch.randn(3, 1, *SHAPE.inputs, dtype=torch.float64)
    labels = torch.tensor([[0], [1], [1]])
    logits, last = clone.unroll(state, inputs, labels)

    grids = [torch.stack([layer.hidden[0], layer.cell[0]], 2) for layer in state.layers]
    for x, y, found in zip(inputs, labels, logits, strict=True):
        units = x.flatten().tolist()
        for grid in grids:
            sums = [0.0] * grid.shape[1]
            for a, unit in enumerate([*units, CONSTANT]):
                for b in range(grid.shape[1]):
                    grid[a, b] = live(synapse, 0, unit, rate, grid[a, b])
                    sent = synapse.heads(grid[a, b, 0])[0]
                    sums[b] = sums[b] + sent.item()
            units = sums
        torch.testing.assert_close(found[0], torch.tensor(units, dtype=torch.float64))
        received = torch.tensor(units, dtype=torch.float64).softmax(0)
        received[y[0]] -= 1  # dL/dlogits of the cross-entropy
        down = received.tolist()
        for grid in reversed(grids):
            sums = [0.0] * grid.shape[0]
            for a in range(grid.shape[0]):
                for b, error in enumerate(down):
                    grid[a, b] = live(synapse, 1, error, rate, grid[a, b])
                    sums[a] = sums[a] + synapse.heads(grid[a, b, 0])[1].item()
            down = sums[:-1]
    for grid, layer in zip(grids, last.layers, strict=True):
        torch.testing.assert_close(grid[..., 1, :], layer.cell[0])


@every_option
def test_it_starts_from_the_weights_of_what_it_imitates(config: CloneConfig) -> None:
    clone = make(config)
    reference = clone.reference()
    own = clone.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    true = reference.init_state(2, SHAPE, torch.Generator().manual_seed(1))
    for stored, weight in zip(clone.weights(own), true.weights, strict=True):
        torch.testing.assert_close(stored, weight.double())
    again = clone.starting_from(tuple(clone.weights(own)))
    torch.testing.assert_close(again, own)


def test_meta_testing_knows_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a lifetime makes is an inference tensor, for which autograd keeps nothing,
    and nobody asks autograd for anything."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("autograd was asked for a gradient")

    for module, name in ((torch.autograd, "grad"), (torch.autograd, "backward")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(Tensor, "backward", refuse)
    clone = make(CloneConfig(hidden=(4,)))
    with torch.inference_mode():
        state = clone.init_state(2, SHAPE, torch.Generator().manual_seed(1))
        inputs = torch.randn(200, 2, *SHAPE.inputs, dtype=torch.float64)
        episode = Episode(inputs, torch.randint(SHAPE.classes, (200, 2)))
        logits, _, last, _ = Cloning(200).run(on_cpu(clone), state, episode)
    assert logits.is_inference() and not logits.requires_grad
    for before, after in zip(state.layers, last.layers, strict=True):
        assert after.cell.is_inference()
        assert not torch.equal(clone.synapse.weight(before.cell), clone.synapse.weight(after.cell))


def test_one_synapse_serves_networks_of_any_depth() -> None:
    names = ("clone-1", "clone-2", "clone-3", "clone-any-rate")
    found = [cards.find_one(name) for name in names]
    jobs = [Job(card, NO_TASKS, 0, card.recipe) for card in found]
    assert jobs[0].name == jobs[1].name == jobs[2].name != jobs[3].name
