"""Evolution strategies against gradients worked out by hand, and a population against its members
one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.meta_training.populations import (
    LIFETIMES,
    POPULATION,
    SHAPE,
    STEPS,
    LearnedRates,
    dealt,
    lifetimes_of,
    vsml,
)
from tests.runners import on_cpu
from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode
from vsml_bench.errors import VsmlBenchError
from vsml_bench.learner import ES, Learner, State
from vsml_bench.meta_training import es
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.meta_training.es import Population
from vsml_bench.meta_training.objective import (
    MetaLoss,
    Objective,
    meta_loss,
)
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.protocols.protocol import Predictions
from vsml_bench.seeds import generator
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


class Vector(LearnedRates):
    """Meta-parameters theta in two pieces, for objectives that are functions of nothing else."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        del self.rate, self.start
        self.first = nn.Parameter(values[:2].clone())
        self.rest = nn.Parameter(values[2:].reshape(-1, 1).clone())

    @property
    def theta(self) -> Tensor:
        return torch.cat([self.first, self.rest.flatten()])

    @property
    def gradient(self) -> Tensor:
        assert self.first.grad is not None and self.rest.grad is not None
        return torch.cat([self.first.grad, self.rest.grad.flatten()])


def of_theta(function: object) -> Objective:
    """An objective whose loss is `function(theta)`."""

    def objective(learner: Learner) -> MetaLoss:
        assert isinstance(learner, Vector) and callable(function)
        loss = function(learner.theta)
        return MetaLoss(loss, torch.zeros(()), loss, loss)

    return objective


def noise_of(learner: Learner, population: Population, seed: int) -> Tensor:
    """eps of every pair, [pairs, number of meta-parameters]."""
    parameters = {name: p.detach() for name, p in learner.named_parameters()}
    chunks = es.draw_noise(parameters, population.pairs, population.pairs_at_once, seed)
    flat = [[part.reshape(len(part), -1) for part in chunk.values()] for chunk in chunks]
    return torch.cat([torch.cat(parts, dim=1) for parts in flat])


def test_the_estimate_on_a_quadratic_is_its_gradient_within_sampling_error(double: None) -> None:
    """L = theta^T A theta / 2 + b^T theta has the gradient A theta + b, and smoothing leaves it as
    it is. One pair contributes eps (eps^T gradient), whose standard error is computed from the
    pairs themselves; each of the 5 coordinates must lie within 4.5 of them (one in 30,000 by
    chance), and the standard error must be small enough for that to mean something."""
    half = torch.randn(5, 5, generator=generator(0))
    matrix, slope = half @ half.T, torch.randn(5, generator=generator(1))
    learner = Vector(torch.randn(5, generator=generator(2)))
    theta = learner.theta.detach()
    exact = matrix @ theta + slope

    population = Population(pairs=20_000, noise_std=0.5, pairs_at_once=20_000)
    found = es.meta_gradient(
        learner, of_theta(lambda t: t @ matrix @ t / 2 + slope @ t), population, seed=0
    )
    eps = noise_of(learner, population, 0)
    contributions = eps * (eps @ exact).unsqueeze(1)  # [pairs, 5]
    error = contributions.std(0) / np.sqrt(population.pairs)
    assert ((learner.gradient - exact).abs() < 4.5 * error).all()
    assert (error < 0.02 * exact.norm()).all()
    # The population's mean loss is that of theta plus the price of its distance from theta.
    at_theta = theta @ matrix @ theta / 2 + slope @ theta
    price = ((0.5 * eps) @ matrix * (0.5 * eps)).sum(1).mean() / 2
    assert found.loss == pytest.approx(float(at_theta + price), rel=1e-9)


def test_a_linear_function_is_estimated_without_error_of_its_own(double: None) -> None:
    """(L+ - L-) / (2 sigma) is eps^T a exactly, whatever sigma: only the sample of eps matters."""
    slope = torch.randn(5, generator=generator(0))
    learner = Vector(torch.randn(5, generator=generator(1)))
    for sigma in (1e-3, 10.0):
        population = Population(pairs=6, noise_std=sigma, pairs_at_once=6)
        es.meta_gradient(learner, of_theta(lambda t: slope @ t), population, seed=3)
        eps = noise_of(learner, population, 3)
        torch.testing.assert_close(learner.gradient, eps.T @ eps @ slope / 6, rtol=1e-9, atol=1e-12)


def test_noise_is_standard_normal_and_of_its_seed_alone(double: None) -> None:
    learner = Vector(torch.zeros(5))
    many = Population(pairs=20_000, noise_std=1.0, pairs_at_once=20_000)
    eps = noise_of(learner, many, 0)
    covariance = eps.T @ eps / len(eps)  # entries have a standard error of at most sqrt(2 / 20,000)
    assert (eps.mean(0).abs() < 0.03).all() and (covariance - torch.eye(5)).abs().max() < 0.05
    few = Population(pairs=10, noise_std=0.1, pairs_at_once=3)
    assert torch.equal(noise_of(learner, few, 0), eps[:10])
    assert not torch.isin(noise_of(learner, few, 1), eps).any()


def test_what_does_not_depend_on_the_parameters_cancels(double: None) -> None:
    """Random fresh states and examples are common to all members, so that they differ in nothing:
    the same member twice gives a gradient of exactly zero."""
    learner = LearnedRates(learned_start=False)
    with torch.no_grad():
        learner.rate.zero_()
    chosen = lifetimes_of()

    def objective(given: Learner) -> MetaLoss:
        found = chosen(given)
        state = given.init_state(LIFETIMES, SHAPE, generator(9))
        return found._replace(loss=state.weights.square().mean() + 0 * found.loss)

    es.meta_gradient(learner, objective, POPULATION, seed=0)
    assert learner.rate.grad == 0 and not learner.start.grad.any()  # type: ignore[union-attr]
    # The start is learned, but this learner does not use it: what matters does get a gradient.
    es.meta_gradient(learner, chosen, POPULATION, seed=0)
    assert learner.rate.grad != 0


@pytest.mark.parametrize("own_lifetimes", [False, True], ids=["common", "own"])
@pytest.mark.parametrize(
    "make",
    [
        vsml,
        lambda: vsml(hidden=(2,), layer_norm=True, backward_pass=True, own_backward_sub_rnn=True),
        lambda: vsml(batch=2, feed_label=True),
        LearnedRates,
        lambda: LearnedRates(learned_start=False),
    ],
    ids=["vsml", "vsml-deep", "vsml-batch", "learned-start", "learned-rate"],
)
def test_a_population_equals_its_members_one_by_one(
    double: None, make: object, own_lifetimes: bool
) -> None:
    """The textbook form: pair after pair, half after half, on the same lifetimes and states."""
    assert callable(make)
    learner = make()
    lives = dealt(learner)
    objective = lives if own_lifetimes else lifetimes_of()
    population = replace(
        POPULATION, own_lifetimes=own_lifetimes, states_differ=make is LearnedRates
    )
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    found = es.meta_gradient(learner, objective, population, seed=5)
    gradient = torch.cat([p.grad.flatten() for p in learner.parameters()])

    eps = noise_of(learner, POPULATION, 5)
    expected, losses, accuracies = torch.zeros_like(gradient), [], []
    for index, row in enumerate(eps):
        pair = []
        seeds = [2 * index, 2 * index + 1]
        for sign in (1, -1):
            moved = torch.cat([p.flatten() for p in before.values()])
            moved = moved + sign * POPULATION.noise_std * row
            with torch.no_grad():
                nn.utils.vector_to_parameters(moved, learner.parameters())
                if own_lifetimes:
                    state = fresh_states(learner, seeds, SHAPE, torch.device("cpu"))
                    outcome = meta_loss(on_cpu(learner), state, lives.sample(seeds), Online(STEPS))
                else:
                    outcome = objective(learner)
            pair.append(float(outcome.loss))
            accuracies.append(float(outcome.accuracy))
        expected += row * (pair[0] - pair[1]) / (2 * POPULATION.noise_std) / POPULATION.pairs
        losses += pair
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    assert gradient.abs().max() > 1e-4
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-9)
    assert found.accuracy == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_halves_of_a_pair_share_what_other_pairs_do_not(double: None) -> None:
    """With a step size of 0 that no noise reaches, losses are functions of lifetime and fresh state
    alone: equal in both halves, so that the gradient is 0, and different between pairs."""
    learner = LearnedRates(learned_start=False)
    lives = dealt(learner)
    assert len({tuple(lives.share(i, 1, 7).seeds) for i in range(7)}) == 7
    still = replace(lives, protocol=_Untaught(STEPS))
    population = replace(POPULATION, own_lifetimes=True)
    found = es.meta_gradient(learner, still, population, seed=0)
    assert learner.rate.grad == 0
    each = [still.share(i, 1, 7)(learner).loss.item() for i in range(7)]
    assert found.loss == pytest.approx(np.mean(each), abs=1e-12) and np.std(each) > 1e-2
    es.meta_gradient(learner, lives, population, seed=0)
    assert learner.rate.grad != 0


class _Untaught(Online):
    """Predictions from fresh states."""

    def run(self, runner: Runner, state: State, episode: Episode) -> Predictions:
        logits = torch.stack([runner.predict(state, x)[0] for x in episode.inputs])
        return Predictions(logits, episode.scored, state)


def test_fresh_states_are_drawn_once_where_no_meta_parameter_enters_them() -> None:
    for learner, differ in (
        (LearnedRates(), True),
        (LearnedRates(learned_start=False), False),
        (vsml(), False),
    ):
        engine = ES(pairs=POPULATION.pairs, own_lifetimes=True)
        lives = dealt(learner, dtype=torch.float32)
        assert es.prepare(learner, lives, engine, "x").states_differ is differ


def test_a_source_without_lifetimes_cannot_deal_them_out() -> None:
    engine = ES(pairs=2, own_lifetimes=True)
    with pytest.raises(VsmlBenchError, match=r"learner 'x': own_lifetimes: .* leave it out"):
        es.prepare(Vector(torch.zeros(5)), of_theta(torch.sum), engine, "x")


def test_a_population_agrees_with_the_kernel_that_runs_its_members_one_by_one() -> None:
    """In single precision and at this size a single VSML goes through the hand-written kernel,
    where there is a compiler; a population must not."""
    learner = VSML(VSMLConfig())
    learner.init_meta_parameters(generator(0))
    objective = lifetimes_of(dtype=torch.float32)
    population = Population(pairs=3, noise_std=0.3, pairs_at_once=3)
    found = es.meta_gradient(learner, objective, population, seed=1)
    theta = nn.utils.parameters_to_vector(learner.parameters()).detach()
    losses = []
    for row in noise_of(learner, population, 1):
        for sign in (1, -1):
            with torch.no_grad():
                nn.utils.vector_to_parameters(theta + sign * 0.3 * row, learner.parameters())
                losses.append(float(objective(learner).loss))
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert np.std(losses) > 1e-3


def test_small_noise_and_many_pairs_agree_with_backpropagation(double: None) -> None:
    learner, objective = LearnedRates(), lifetimes_of()
    population = Population(pairs=4_000, noise_std=1e-3, pairs_at_once=4_000)
    es.meta_gradient(learner, objective, population, seed=0)
    estimate = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    backpropagate(learner, objective)
    exact = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    # Var(g_i) = (|g|^2 + g_i^2) / pairs for a linear function, which this nearly is.
    error = ((exact.norm() ** 2 + exact**2) / population.pairs).sqrt()
    assert ((estimate - exact).abs() < 4.5 * error).all()
