"""The few-shot driver against slow loops, and what must not matter to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import LEARNER, write
from tests.runners import on_cpu
from vsml_bench import learner as contract
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Shape, State
from vsml_bench.meta_training.bptt import backpropagate
from vsml_bench.meta_training.objective import meta_loss
from vsml_bench.protocols.evaluation import evaluate, fresh_states
from vsml_bench.protocols.few_shot import FewShot
from vsml_bench.registry import find_learner
from vsml_bench.seeds import derive_seed, generator, lifetime_seeds
from vsml_bench.sides import TaskDistribution

pytestmark = pytest.mark.usefixtures("one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
PROTOCOL = FewShot(ways=4, shots=2, queries=3)
SUPPORT = PROTOCOL.learning_steps
SEEDS = lifetime_seeds(5, "few-shot")

BY_PLACE = (
    LEARNER
    + """
class ByPlace(Base):
    # Never looks at a label: the class of a support example is the place at which it came.
    variants = {"by-place": Config("")}

    def adapt(self, state, inputs, labels):
        return Count(inputs.flatten(2).transpose(0, 1), state.logits)

    def predict(self, state, inputs):
        distances = (inputs.flatten(1)[:, None] - state.steps).square().sum(-1)
        return -distances, state
"""
)


@pytest.fixture(scope="module")
def sampler() -> EpisodeSampler:
    return EpisodeSampler(TaskDistribution(("digits",), "test", classes=4))


def learner(name: str) -> Learner:
    return find_learner(name).create(derive_seed(0, "meta-initialisation"))


def states(of: Learner, shape: Shape) -> State:
    return fresh_states(of, SEEDS, shape, torch.device("cpu"))


@pytest.mark.parametrize("name", ["vsml", "sgd-linear", "adam-mlp", "1-nn", "chance"])
@pytest.mark.parametrize("state_floats", [1, 2**22], ids=["one by one", "at once"])
def test_scores_equal_a_loop_over_episodes_and_queries(
    sampler: EpisodeSampler, name: str, state_floats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "ANSWERING_FLOATS", state_floats)
    scores = evaluate(learner(name), sampler, SEEDS, PROTOCOL, EXECUTION, learner_seed=7)
    assert scores.correct.shape == scores.loss.shape == (5, PROTOCOL.predictions) == (5, 12)
    one = learner(name)
    for index, seed in enumerate(SEEDS):
        episode = sampler.sample_shots([seed], PROTOCOL.shots, PROTOCOL.queries)
        state = one.init_state(1, sampler.shape, generator(derive_seed(7, "inner", seed)))
        with torch.inference_mode():
            for x, y in zip(episode.inputs[:SUPPORT], episode.labels[:SUPPORT], strict=True):
                _, state = one.predict(state, x)
                state = one.observe(state, y)
            for query in range(PROTOCOL.predictions):
                logits, _ = one.predict(state, episode.inputs[SUPPORT + query])
                label = int(episode.labels[SUPPORT + query, 0])
                loss = -float(logits[0].double().log_softmax(0)[label])
                assert scores.loss[index, query] == pytest.approx(loss, abs=5e-5)
                assert scores.correct[index, query] == (int(logits[0].argmax()) == label)


def test_nearest_mean_against_means_by_hand(sampler: EpisodeSampler) -> None:
    scores = evaluate(learner("nearest-mean"), sampler, SEEDS, PROTOCOL, EXECUTION)
    for index, seed in enumerate(SEEDS):
        episode = sampler.sample_shots([seed], PROTOCOL.shots, PROTOCOL.queries)
        x, y = episode.inputs[:, 0].flatten(1).double().numpy(), episode.labels[:, 0].numpy()
        means = np.stack([x[:SUPPORT][y[:SUPPORT] == k].mean(0) for k in range(4)])
        distances = ((x[SUPPORT:, None] - means) ** 2).sum(-1)
        assert np.array_equal(scores.correct[index], distances.argmin(1) == y[SUPPORT:])
    assert 0.5 < scores.correct.mean() < 1


def test_place_tells_a_learner_nothing(sampler: EpisodeSampler, tmp_path: Path) -> None:
    """The learner takes the place of the nearest support example for its class: at chance where the
    support is shuffled, as good as one nearest neighbour where it comes in the order of labels."""
    cheat = find_learner(str(write(tmp_path / "by_place.py", BY_PLACE))).create()
    protocol = FewShot(ways=4, shots=1, queries=5)
    seeds = lifetime_seeds(300, "place")

    def accuracy(of: Learner) -> float:
        return float(evaluate(of, sampler, seeds, protocol, EXECUTION).correct.mean())

    assert abs(accuracy(cheat) - 1 / 4) < 0.05  # 6,000 answers that come in clumps of an episode
    assert accuracy(learner("1-nn")) > 0.6
    episode = protocol.sample(sampler, seeds)
    order = episode.labels[:4].argsort(0)  # [K, E]
    support = episode.inputs[:4].gather(0, order[..., None, None, None].expand(-1, -1, 1, 8, 8))
    in_order = Episode(torch.cat([support, episode.inputs[4:]]), episode.labels)
    state = fresh_states(cheat, seeds, sampler.shape, torch.device("cpu"))
    logits, labels, *_ = protocol.run(on_cpu(cheat), state, in_order)
    assert (logits.argmax(-1) == labels).float().mean() > 0.6


@pytest.mark.parametrize("name", ["nearest-mean", "1-nn", "majority"])
def test_the_order_of_the_support_is_all_one_to_learners_without_order(
    sampler: EpisodeSampler, name: str
) -> None:
    episode = PROTOCOL.sample(sampler, SEEDS)
    order = torch.cat([torch.arange(SUPPORT - 1, -1, -1), torch.arange(SUPPORT, 20)])
    turned = Episode(episode.inputs[order], episode.labels[order])
    one = learner(name)
    start = states(one, sampler.shape)
    found, back = (PROTOCOL.run(on_cpu(one), start, e).logits for e in (episode, turned))
    torch.testing.assert_close(found, back, atol=1e-5, rtol=1e-5)


def test_queries_are_not_learned_from(sampler: EpisodeSampler) -> None:
    """Neither another label of a query nor other queries beside it move an answer."""
    episode = PROTOCOL.sample(sampler, SEEDS)
    one = learner("sgd-linear")
    start = states(one, sampler.shape)
    whole = PROTOCOL.run(on_cpu(one), start, episode).logits
    labels = episode.labels.clone()
    labels[SUPPORT:] = (labels[SUPPORT:] + 1) % 4
    assert torch.equal(
        PROTOCOL.run(on_cpu(one), start, Episode(episode.inputs, labels)).logits, whole
    )
    fewer = Episode(episode.inputs[: SUPPORT + 5], episode.labels[: SUPPORT + 5])
    torch.testing.assert_close(PROTOCOL.run(on_cpu(one), start, fewer).logits, whole[:5])
    labels[:SUPPORT] = (labels[:SUPPORT] + 1) % 4
    moved = PROTOCOL.run(on_cpu(one), start, Episode(episode.inputs, labels)).logits
    assert not torch.allclose(moved, whole), "labels of the support do matter"


def test_episodes_do_not_influence_each_other(
    sampler: EpisodeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vsml_bench.protocols import evaluation

    shares: list[float] = []
    whole = evaluate(learner("vsml"), sampler, SEEDS, PROTOCOL, EXECUTION, 0, shares.append)
    assert shares == [1.0] and whole.seconds > 0 and whole.state_floats > 64 * 4 * 16
    monkeypatch.setattr(evaluation, "LIFETIMES_AT_ONCE", 2)
    chunked = evaluate(learner("vsml"), sampler, SEEDS, PROTOCOL, EXECUTION)
    np.testing.assert_allclose(chunked.loss, whole.loss, atol=1e-5)


def test_the_meta_loss_is_the_mean_over_queries(sampler: EpisodeSampler) -> None:
    """And its gradient flows through the support set: as finite differences say."""
    one = find_learner("vsml").configured({"state_size": 4, "message_size": 3}).create(0).double()
    episode = PROTOCOL.sample(sampler, SEEDS[:2])
    episode = Episode(episode.inputs.double(), episode.labels)
    start = one.init_state(2, sampler.shape, generator(1))

    def loss() -> float:
        with torch.no_grad():
            state = one.unroll(start, episode.inputs[:SUPPORT], episode.labels[:SUPPORT])[1]
            losses = [
                torch.nn.functional.cross_entropy(one.predict(state, x)[0], y)
                for x, y in zip(episode.inputs[SUPPORT:], episode.labels[SUPPORT:], strict=True)
            ]
        return float(torch.stack(losses).mean())

    found = backpropagate(one, lambda given: meta_loss(on_cpu(given), start, episode, PROTOCOL))
    assert found.loss == pytest.approx(loss(), abs=1e-12)
    parameter = max(one.parameters(), key=lambda p: 0.0 if p.grad is None else p.grad.abs().max())
    assert parameter.grad is not None
    position = int(parameter.grad.abs().argmax())
    slopes = []
    for step in (1e-5, -1e-5):
        parameter.data.view(-1)[position] += step
        slopes.append(loss())
        parameter.data.view(-1)[position] -= step
    slope = (slopes[0] - slopes[1]) / 2e-5
    assert float(parameter.grad.view(-1)[position]) == pytest.approx(slope, rel=1e-4)
    assert abs(slope) > 1e-5
