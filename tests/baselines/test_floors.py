"""Chance, majority, nearest mean and nearest neighbour against counting and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch.nn.functional import cross_entropy

import baselines.nearest_neighbour as nearest_neighbour
from baselines.chance import Chance, Majority
from baselines.nearest_mean import NearestMean
from baselines.nearest_neighbour import NearestNeighbour
from tests.baselines.streams import double_precision, fresh_state, loop, make_stream
from vsml_bench.learner import Learner, NoConfig, Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 60


def test_chance_guesses_every_label_equally_often_and_unpredictably():
    classes, steps, lifetimes = 7, 500, 40
    learner = Chance(NoConfig())
    inputs, labels = make_stream(Shape((2,), classes), steps, lifetimes)
    state = fresh_state(learner, lifetimes, Shape((2,), classes))
    logits, _ = learner.unroll(state, inputs, labels)
    guesses = logits.argmax(-1)  # [T, E]

    def within_five_sigma(hits: torch.Tensor, probability: float) -> bool:
        sigma = math.sqrt(probability * (1 - probability) / hits.numel())
        return abs(hits.double().mean().item() - probability) < 5 * sigma

    for label in range(classes):
        assert within_five_sigma(guesses == label, 1 / classes)
    assert within_five_sigma(guesses == labels, 1 / classes)
    assert within_five_sigma(guesses[1:] == guesses[:-1], 1 / classes)
    assert within_five_sigma(guesses[:, 1:] == guesses[:, :-1], 1 / classes)
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    assert (loss - math.log(classes)).abs().max() < 1e-3


def test_chance_follows_lehmers_generator():
    """The published check of the multiplier 48271: from 1, the 10,000th number is 399268537."""
    learner = Chance(NoConfig())
    state = fresh_state(learner, 1, Shape((1,), 2))._replace(stream=torch.ones(1).long())
    for _ in range(10_000):
        _, state = learner.predict(state, torch.zeros(1, 1))
    assert state.stream.item() == 399_268_537


def test_majority_is_the_rule_of_succession():
    learner = Majority(NoConfig())
    labels = torch.tensor([[2], [0], [0], [2], [2]])
    state = fresh_state(learner, 1, Shape((1,), 3))
    logits, _ = learner.unroll(state, torch.zeros(5, 1, 1), labels)
    expected = torch.tensor(
        [
            [1 / 3, 1 / 3, 1 / 3],
            [1 / 4, 1 / 4, 2 / 4],
            [2 / 5, 1 / 5, 2 / 5],
            [3 / 6, 1 / 6, 2 / 6],
            [3 / 7, 1 / 7, 3 / 7],
        ]
    )
    torch.testing.assert_close(logits[:, 0].exp(), expected)
    assert logits[:, 0].argmax(-1).tolist() == [0, 2, 0, 0, 0]


def test_nearest_mean_is_the_nearest_centroid():
    learner = NearestMean(NoConfig())
    with double_precision():
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)
    flat = inputs.flatten(2).numpy()
    compared = 0
    for lifetime in range(LIFETIMES):
        for step in (5, 11, 30, STEPS - 1):
            seen = labels[:step, lifetime].numpy()
            if len(set(seen)) < 2:
                continue
            model = NearestCentroid().fit(flat[:step, lifetime], seen)
            predicted = model.predict(flat[step : step + 1, lifetime])
            assert logits[step, lifetime].argmax().item() == predicted.item()
            distances = ((flat[step, lifetime] - model.centroids_) ** 2).mean(-1)
            torch.testing.assert_close(
                logits[step, lifetime][model.classes_], torch.as_tensor(-0.5 * distances)
            )
            compared += 1
    assert compared >= 9


@pytest.mark.parametrize("block_elements", [None, 500], ids=["one block", "many blocks"])
def test_nearest_neighbour_is_scikit_learns(block_elements, monkeypatch: pytest.MonkeyPatch):
    if block_elements is not None:
        monkeypatch.setattr(nearest_neighbour, "BLOCK_ELEMENTS", block_elements)
    learner = NearestNeighbour(NoConfig())
    inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES, noise=2.0)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    looped, _ = loop(learner, state, inputs, labels)
    unrolled, _ = learner.unroll(state, inputs, labels)
    flat = inputs.flatten(2).numpy()
    for lifetime in range(LIFETIMES):
        for step in range(1, STEPS):
            model = KNeighborsClassifier(1).fit(flat[:step, lifetime], labels[:step, lifetime])
            predicted = model.predict(flat[step : step + 1, lifetime]).item()
            assert looped[step, lifetime].argmax().item() == predicted
            assert unrolled[step, lifetime].argmax().item() == predicted
            distance = model.kneighbors(flat[step : step + 1, lifetime])[0].item()
            expected = -0.5 * distance**2 / SHAPE.features
            assert unrolled[step, lifetime].max().item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("learner", [NearestMean(NoConfig()), NearestNeighbour(NoConfig())])
def test_classes_not_seen_yet_come_last(learner: Learner):
    """However far the seen ones are, and equal among themselves."""
    inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
    logits, _ = learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), 1e4 * inputs, labels)
    assert (logits[0] == logits[0, 0, 0]).all()
    compared = 0
    for lifetime in range(LIFETIMES):
        for step in range(1, STEPS):
            seen = torch.zeros(SHAPE.classes, dtype=torch.bool)
            seen[labels[:step, lifetime]] = True
            if not seen.all():
                now = logits[step, lifetime]
                assert now[~seen].max() < now[seen].min()
                assert len(now[~seen].unique()) == 1
                compared += 1
    assert compared > 5
