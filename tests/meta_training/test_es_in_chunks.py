"""A population that is evaluated some pairs at a time, and learners that cannot be one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.meta_training.populations import (
    POPULATION,
    FastWeights,
    LearnedRates,
    dealt,
    lifetimes_of,
    vsml,
)
from tests.runners import on_cpu
from vsml_bench.data.episodes import Episode
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import ES, Learner, Shape
from vsml_bench.meta_training import es
from vsml_bench.meta_training.es import Population
from vsml_bench.meta_training.objective import Lifetimes, MetaLoss, meta_loss
from vsml_bench.protocols.online import Online
from vsml_bench.seeds import generator
from vsml_bench.vsml.fast import library
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


@pytest.mark.parametrize("own_lifetimes", [False, True], ids=["common", "own"])
@pytest.mark.parametrize("at_once", [1, 3, 6])
def test_chunks_change_nothing_but_rounding(
    double: None, at_once: int, own_lifetimes: bool
) -> None:
    learner = vsml()
    objective = dealt(learner) if own_lifetimes else lifetimes_of()
    population = replace(POPULATION, own_lifetimes=own_lifetimes)
    whole = es.meta_gradient(learner, objective, population, seed=2)
    expected = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    fewer = replace(population, pairs_at_once=at_once)
    chunked = es.meta_gradient(learner, objective, fewer, seed=2)
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert chunked.loss == pytest.approx(whole.loss, abs=1e-12)
    assert chunked.accuracy == pytest.approx(whole.accuracy, abs=1e-12)


@pytest.mark.skipif(library.load() is None, reason="no C++ compiler")
@pytest.mark.parametrize("own_lifetimes", [False, True], ids=["common", "own"])
def test_chunks_change_no_bit_where_lifetimes_run_in_cpp(own_lifetimes: bool) -> None:
    """There a member's lifetime is computed alone, and sums are over the pairs in their order:
    100 pairs are more than are summed at once."""
    learner = VSML(VSMLConfig())
    learner.init_meta_parameters(generator(0))
    pairs = 100
    objective = (
        dealt(learner, pairs, torch.float32) if own_lifetimes else lifetimes_of(dtype=torch.float32)
    )
    results = []
    for at_once in (pairs, 64, 7):
        population = Population(pairs, 0.3, at_once, own_lifetimes)
        found = es.meta_gradient(learner, objective, population, seed=2)
        results.append((found, _flat_gradient(learner)))
        runner = objective.runner if isinstance(objective, Lifetimes) else None
        assert runner is None or (runner.fast is not None and runner.fast.in_use)
    (first, gradient), *others = results
    assert gradient.any()
    assert all(found == first and torch.equal(other, gradient) for found, other in others)


def _flat_gradient(learner: Learner) -> Tensor:
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def test_a_learner_that_was_compiled_for_its_validation_stays_a_population(double: None) -> None:
    learner, objective = vsml(), lifetimes_of()
    es.meta_gradient(learner, objective, POPULATION, seed=2)
    expected = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    learner.compile()
    es.meta_gradient(learner, objective, POPULATION, seed=2)
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    assert all(map(torch.equal, found, expected))


def test_nothing_is_recorded_for_backpropagation_and_no_parameter_moves() -> None:
    learner, seen = LearnedRates(), []
    chosen = lifetimes_of(dtype=torch.float32)

    def objective(given: Learner) -> MetaLoss:
        found = chosen(given)
        seen.append(found.loss.requires_grad)
        return found

    before = [p.detach().clone() for p in learner.parameters()]
    es.meta_gradient(learner, objective, POPULATION, seed=0)
    assert seen == [False]
    assert all(map(torch.equal, before, learner.parameters()))


def test_as_many_pairs_at_once_as_the_stated_memory_allows() -> None:
    """A member of this learner: 12 + 4 + 3 numbers of state for each lifetime, counted ten times,
    4 x 2 x 3 logits and 13 meta-parameters, 4 bytes each: 1,668 bytes, a pair 3,336."""
    learner, objective = LearnedRates(), lifetimes_of(dtype=torch.float32)
    fitting = 2**20 // 3336
    for pairs, mib, expected in ((5000, 1, fitting), (5000, 3, 3 * 2**20 // 3336), (7, 1, 7)):
        found = es.prepare(learner, objective, ES(pairs=pairs, chunk_mib=mib), "x")
        assert found == Population(pairs, 0.05, expected)
    large = Shape((1, 300, 300), 10)
    wide = Episode(torch.zeros(1, 1, *large.inputs), torch.zeros(1, 1, dtype=torch.int64))

    def too_large(given: Learner) -> MetaLoss:
        return meta_loss(
            on_cpu(given), given.init_state(1, large, generator(0)), wide, Online(len(wide.labels))
        )

    learner = LearnedRates(learned_start=False)
    assert es.prepare(learner, too_large, ES(chunk_mib=1), "x").pairs_at_once == 1


class Branching(LearnedRates):
    def observe(self, state: FastWeights, labels: Tensor) -> FastWeights:
        return super().observe(state, labels) if self.rate > 0 else state


class InPlace(LearnedRates):
    def observe(self, state: FastWeights, labels: Tensor) -> FastWeights:
        state.inputs.add_(self.rate)
        return super().observe(state, labels)


@pytest.mark.parametrize(
    ("learner", "reason"),
    [(Branching, "data-dependent control flow"), (InPlace, "broadcast shape")],
)
def test_a_learner_that_cannot_be_a_population_is_refused(
    learner: type[LearnedRates], reason: str
) -> None:
    with pytest.raises(VsmlBenchError, match="learner 'odd' cannot be meta-trained by") as caught:
        es.prepare(learner(), lifetimes_of(dtype=torch.float32), ES(), "odd")
    said = str(caught.value)
    assert reason in said and 'use engine = "bptt"' in said and "\n" not in said
