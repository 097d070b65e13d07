"""The online protocol against a hand-written loop, and what its scores must not depend on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import LEARNER, write
from vsml_bench.data.episodes import EpisodeSampler
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Shape
from vsml_bench.protocols import evaluation
from vsml_bench.protocols.evaluation import evaluate, fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.registry import find_learner
from vsml_bench.seeds import derive_seed, generator, lifetime_seeds
from vsml_bench.sides import TaskDistribution

pytestmark = pytest.mark.usefixtures("one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
DIGITS = TaskDistribution(("digits",), "test", projection=0.5, label_permutation=True)
SEEDS = lifetime_seeds(5, "online")

FIXED = (
    LEARNER
    + """
from vsml_bench.learner import Shape


class Fixed(Base):
    # Takes 3 x 10 x 12 images and 62 classes only, and remembers whether it was given others.
    variants = {"fixed": Config("")}
    fixed_shape = Shape((3, 10, 12), 62)

    def predict(self, state, inputs):
        assert inputs.shape[1:] == (3, 10, 12) and state.logits.shape[1] == 62
        return inputs.flatten(1).sum(1, keepdim=True) * state.logits, state
"""
)


@pytest.fixture(scope="module")
def sampler() -> EpisodeSampler:
    return EpisodeSampler(DIGITS)


def learner(name: str) -> Learner:
    return find_learner(name).create(derive_seed(0, "meta-initialisation"))


@pytest.mark.parametrize("name", ["vsml", "sgd-linear", "nearest-mean"])
def test_scores_equal_a_hand_written_loop(sampler: EpisodeSampler, name: str) -> None:
    scores = evaluate(learner(name), sampler, SEEDS, Online(12), EXECUTION, learner_seed=7)
    assert scores.correct.shape == scores.loss.shape == (5, 12)
    assert scores.correct.dtype == np.bool_ and scores.loss.dtype == np.float32
    for index, seed in enumerate(SEEDS):
        one = learner(name)
        episode = sampler.sample([seed], 12)
        state = one.init_state(1, sampler.shape, generator(derive_seed(7, "inner", seed)))
        with torch.inference_mode():
            for t in range(12):
                logits, state = one.predict(state, episode.inputs[t])
                label = int(episode.labels[t, 0])
                assert scores.correct[index, t] == (int(logits[0].argmax()) == label)
                loss = -float(logits[0].double().log_softmax(0)[label])
                assert scores.loss[index, t] == pytest.approx(loss, abs=2e-5)
                state = one.observe(state, episode.labels[t])


@pytest.mark.parametrize("name", ["vsml", "sgd-linear"])
def test_a_lifetime_does_not_depend_on_its_neighbours(
    sampler: EpisodeSampler, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(learner(name), sampler, SEEDS, Online(10), EXECUTION)
    alone = evaluate(learner(name), sampler, SEEDS[3:4], Online(10), EXECUTION)
    np.testing.assert_allclose(alone.loss, whole.loss[3:4], atol=1e-5)
    back = evaluate(learner(name), sampler, SEEDS[::-1], Online(10), EXECUTION)
    np.testing.assert_allclose(back.loss[::-1], whole.loss, atol=1e-5)
    monkeypatch.setattr(evaluation, "LIFETIMES_AT_ONCE", 2)
    chunked = evaluate(learner(name), sampler, SEEDS, Online(10), EXECUTION)
    np.testing.assert_allclose(chunked.loss, whole.loss, atol=1e-5)
    assert chunked.correct.shape == whole.correct.shape


def test_equal_seeds_give_equal_bits_and_others_do_not(sampler: EpisodeSampler) -> None:
    def losses(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return evaluate(learner("sgd-linear"), sampler, SEEDS, Online(8), EXECUTION, seed).loss

    assert np.array_equal(losses(0), losses(0))
    assert not np.array_equal(losses(0), losses(1)), "fresh weights must depend on the seed"


def test_fresh_states_differ_between_lifetimes() -> None:
    states = fresh_states(learner("vsml"), [1, 2, 1], Shape((1, 2, 2), 3), torch.device("cpu"))
    cell = states.layers[0].cell
    assert torch.equal(cell[0], cell[2]) and not torch.equal(cell[0], cell[1])


def test_lifetime_seeds_are_distinct_and_named_by_their_axes() -> None:
    seeds = lifetime_seeds(64, "meta-test", "x")
    assert len(set(seeds)) == 64 and seeds[:8] == lifetime_seeds(8, "meta-test", "x")
    assert not set(seeds) & set(lifetime_seeds(64, "meta-test", "y"))


def test_progress_and_cost_are_reported(sampler: EpisodeSampler) -> None:
    shares: list[float] = []
    seeds = lifetime_seeds(10, "online")
    scores = evaluate(learner("vsml"), sampler, seeds, Online(3), EXECUTION, 0, shares.append)
    assert shares == [0.8, 1.0]
    assert scores.seconds > 0 and scores.compile_seconds > 0
    # h and c of 64 x 10 sub-RNNs with N = 16, feedback 10 x 8, logits 10 and the turn
    assert scores.state_floats == 2 * 64 * 10 * 16 + 10 * 8 + 10 + 1


def test_fixed_shapes_are_padded_by_the_harness(sampler: EpisodeSampler, tmp_path: Path) -> None:
    fixed = find_learner(str(write(tmp_path / "fixed.py", FIXED))).create()
    scores = evaluate(fixed, sampler, SEEDS, Online(6), EXECUTION)
    total = sampler.sample(SEEDS, 6).inputs.flatten(2).sum(2)  # padding adds nothing to a sum
    start = fresh_states(
        fixed,
        [derive_seed(0, "inner", seed) for seed in SEEDS],
        Shape((3, 10, 12), 62),
        torch.device("cpu"),
    ).logits
    labels = sampler.sample(SEEDS, 6).labels
    for t in range(6):
        expected = torch.nn.functional.cross_entropy(
            total[t][:, None] * start, labels[t], reduction="none"
        )
        np.testing.assert_allclose(scores.loss[:, t], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_uniform_predictions_cost_the_logarithm_of_the_classes(sampler: EpisodeSampler) -> None:
    scores = evaluate(learner("nearest-mean"), sampler, SEEDS, Online(1), EXECUTION)
    np.testing.assert_allclose(scores.loss, math.log(10), atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", ["vsml", "sgd-linear"])
def test_a_gpu_gives_the_same_scores(sampler: EpisodeSampler, name: str) -> None:
    cpu = evaluate(learner(name), sampler, SEEDS, Online(30), EXECUTION)
    gpu = evaluate(learner(name), sampler, SEEDS, Online(30), Execution(torch.device("cuda"), 1))
    np.testing.assert_allclose(gpu.loss, cpu.loss, rtol=1e-3, atol=1e-3)


ECHO = (
    LEARNER
    + """
class Echo(Base):
    # Predicts the label that it observed last.
    variants = {"echo": Config("")}

    def observe(self, state, labels):
        onehot = torch.nn.functional.one_hot(labels, state.logits.shape[1])
        return state._replace(logits=onehot.float())
"""
)


def test_wrong_labels_are_observed_and_true_ones_scored(tmp_path: Path) -> None:
    noisy = EpisodeSampler(TaskDistribution(("digits",), "test", label_noise=0.5))
    scores = evaluate(
        learner(str(write(tmp_path / "echo.py", ECHO))), noisy, SEEDS, Online(30), EXECUTION
    )
    episode = noisy.sample(SEEDS, 30)
    assert episode.targets is not None and not torch.equal(episode.labels, episode.targets)
    by_hand = (episode.labels[:-1] == episode.targets[1:]).T.numpy()
    assert np.array_equal(scores.correct[:, 1:], by_hand)
