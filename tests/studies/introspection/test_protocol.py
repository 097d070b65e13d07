"""The introspection protocol against learners whose responses can be worked out by hand."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils import _pytree as pytree

from tests.harness import LEARNER, write
from tests.runners import on_cpu
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner
from vsml_bench.protocols.evaluation import evaluate, fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.registry import find_learner
from vsml_bench.seeds import derive_seed, lifetime_seeds
from vsml_bench.sides import TaskDistribution
from vsml_bench.studies.introspection.protocol import (
    ACCURACY,
    CONFIDENCE,
    LAGS,
    OCCURRENCES,
    RESPONSES,
    Introspection,
    moments,
)

pytestmark = pytest.mark.usefixtures("one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
SEEDS = lifetime_seeds(4, "introspection")
STEPS = 60

COUNTING = (
    LEARNER
    + """
class Counting(Base):
    # Logit of a class: how often it was seen, whatever the example.
    variants = {"counting": Config("")}

    def init_state(self, lifetimes, shape, generator):
        return Count(torch.zeros(lifetimes), torch.zeros(lifetimes, shape.classes))

    def observe(self, state, labels):
        seen = torch.nn.functional.one_hot(labels, state.logits.shape[1])
        return state._replace(logits=state.logits + seen)
"""
)


@pytest.fixture(scope="module")
def sampler() -> EpisodeSampler:
    return EpisodeSampler(TaskDistribution(("digits",), "test"))


@pytest.fixture
def counting(tmp_path: Path) -> Learner:
    return find_learner(str(write(tmp_path / "counting.py", COUNTING))).create()


def learner(name: str) -> Learner:
    return find_learner(name).create(derive_seed(0, "meta-initialisation"))


def probability(counts: npt.NDArray[np.int64], of: int) -> float:
    weights = np.exp(counts.astype(float))
    return float(weights[of] / weights.sum())


def branching(labels: list[int], moment: int) -> tuple[list[int], int, set[int], set[int]] | None:
    """By hand: what the second lifetime has learned from and what it learns from next, the classes
    it knows and those that have two examples; None where it does not get so far."""
    reserved: set[int] = set()
    there = set()
    for k in set(labels):
        places = [t for t, label in enumerate(labels) if label == k]
        if len(places) >= 2:
            there.add(k)
        reserved |= set(places[-2:])
    kept = [y for t, y in enumerate(labels) if y != labels[0] and t not in reserved]
    if len(kept) <= moment:
        return None
    return kept[:moment], kept[moment], set(kept[:moment]) & there, there


@pytest.mark.parametrize("name", ["vsml", "1-nn", "sgd-linear", "gpicl"])
def test_scores_are_those_of_the_online_protocol_to_the_bit(
    sampler: EpisodeSampler, name: str
) -> None:
    online = evaluate(learner(name), sampler, SEEDS, Online(STEPS), EXECUTION, learner_seed=3)
    looked = evaluate(
        learner(name), sampler, SEEDS, Introspection(STEPS), EXECUTION, learner_seed=3
    )
    assert np.array_equal(online.correct, looked.correct)
    assert np.array_equal(online.loss, looked.loss)
    assert online.state_floats == looked.state_floats
    assert set(looked.traces) == {CONFIDENCE, ACCURACY, *RESPONSES} and not online.traces
    assert looked.traces[CONFIDENCE].shape == (4, OCCURRENCES)
    for response in RESPONSES:
        assert looked.traces[response].shape == (4, len(moments(STEPS)), len(LAGS), 2, 2)


@pytest.mark.parametrize("name", ["vsml", "1-nn", "gpicl"])
def test_looking_writes_to_no_state(sampler: EpisodeSampler, name: str) -> None:
    one = learner(name)
    shape = one.fixed_shape or sampler.shape
    state = fresh_states(one, SEEDS, shape, torch.device("cpu"))
    before = pytree.tree_map(torch.clone, state)
    episode = Online(12).sample(sampler, SEEDS)
    if one.fixed_shape is not None:
        padded = torch.nn.functional.pad(episode.inputs, (0, 20, 0, 20))
        episode = Episode(padded, episode.labels)
    with torch.inference_mode():
        Introspection(12).run(on_cpu(one), state, episode)
    for part, kept in zip(pytree.tree_leaves(state), pytree.tree_leaves(before), strict=True):
        assert torch.equal(part, kept)


def test_confidence_and_accuracy_by_occurrence(sampler: EpisodeSampler, counting: Learner) -> None:
    traces = evaluate(counting, sampler, SEEDS, Introspection(STEPS), EXECUTION).traces
    labels = sampler.sample(SEEDS, STEPS).labels.T.tolist()
    for lifetime, stream in enumerate(labels):
        confidence: dict[int, list[float]] = {}
        accuracy: dict[int, list[bool]] = {}
        counts = np.zeros(10, np.int64)
        for label in stream:
            confidence.setdefault(counts[label], []).append(probability(counts, label))
            accuracy.setdefault(counts[label], []).append(int(counts.argmax()) == label)
            counts[label] += 1
        for n in range(OCCURRENCES):
            if n in confidence:
                assert traces[CONFIDENCE][lifetime, n] == pytest.approx(np.mean(confidence[n]))
                assert traces[ACCURACY][lifetime, n] == pytest.approx(np.mean(accuracy[n]))
            else:
                assert np.isnan(traces[CONFIDENCE][lifetime, n])


@pytest.mark.parametrize("steps", [8, STEPS])
def test_responses_by_hand(sampler: EpisodeSampler, counting: Learner, steps: int) -> None:
    """A learner that counts: an example of class k moves the logit of k by one and no other."""
    traces = evaluate(counting, sampler, SEEDS, Introspection(steps), EXECUTION).traces
    labels = sampler.sample(SEEDS, steps).labels.T.tolist()
    finite = 0
    for (lifetime, stream), (index, moment), lag in product(
        enumerate(labels), enumerate(moments(steps)), range(len(LAGS))
    ):
        expected: dict[str, list[tuple[float, float]]] = {name: [] for name in RESPONSES}
        branch = branching(stream, moment)
        if branch is not None:
            learned, further, known, there = branch
            counts = np.bincount(learned + lag * [further], minlength=10)
            for shown, asked in product(there, there):
                after = counts + np.eye(10, dtype=np.int64)[shown]
                pair = probability(counts, asked), probability(after, asked)
                if shown == asked:
                    expected["same example"].append(pair)
                if shown == asked and shown in known:
                    expected["same class"].append(pair)
                if shown == asked == stream[0]:
                    expected["first of its class"].append(pair)
                if shown != asked and {shown, asked} <= known:
                    expected["other class"].append(pair)
                if shown == stream[0] and asked in known:
                    expected["new class"].append(pair)
        for name, pairs in expected.items():
            found = traces[name][lifetime, index, lag, :, 0]
            if pairs:
                finite += 1
                np.testing.assert_allclose(found, np.mean(pairs, 0), rtol=1e-5)
            else:
                assert np.isnan(found).all(), (name, moment)
    assert finite > (3 if steps == 8 else 80)


def test_one_nearest_neighbour_knows_what_it_was_shown(sampler: EpisodeSampler) -> None:
    traces = evaluate(learner("1-nn"), sampler, SEEDS, Introspection(STEPS), EXECUTION).traces
    assert (traces["same example"][:, :2, :, 1, 1] == 1).all()
    first = traces["first of its class"][:, 0, 0]
    assert (first[:, 0, 1] == 0).sum() >= 3 and (first[:, 1, 1] == 1).all(), "all it knows of"
    others = traces["other class"][:, 1, 0]
    assert (others[:, 1, 0] <= others[:, 0, 0] + 1e-6).all(), "others only get farther away"


def test_a_lifetime_does_not_depend_on_its_neighbours(sampler: EpisodeSampler) -> None:
    whole = evaluate(learner("sgd-linear"), sampler, SEEDS, Introspection(30), EXECUTION).traces
    alone = evaluate(learner("sgd-linear"), sampler, SEEDS[2:3], Introspection(30), EXECUTION)
    for name, trace in alone.traces.items():
        np.testing.assert_allclose(trace, whole[name][2:3], atol=1e-5)


def test_padded_outputs_share_the_probability(sampler: EpisodeSampler) -> None:
    """A fresh learner with 62 outputs is no surer than one in 62."""
    traces = evaluate(learner("gpicl"), sampler, SEEDS, Introspection(4), EXECUTION).traces
    assert 0 < np.nanmean(traces[CONFIDENCE]) < 0.05


def test_a_lifetime_of_one_example_is_refused(sampler: EpisodeSampler) -> None:
    with pytest.raises(VsmlBenchError, match="2 examples or more, found 1"):
        Introspection(1).check(sampler)


def test_moments_lie_within_the_lifetime() -> None:
    assert moments(2) == (0,) and moments(301) == (0, 10, 30, 100, 300) and 300 not in moments(300)
