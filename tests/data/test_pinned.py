"""Published cells were run on these data and these lifetimes: nothing here may ever move."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from vsml_bench.data import datasets
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.sides import PartitionName, TaskDistribution

pytestmark = pytest.mark.usefixtures("one_thread")

CONTENT: dict[tuple[str, PartitionName], str] = {
    ("mnist5k", "train"): "05be7ba1a2024698b6c320c3e807825146547e1696c219ba4fb66fd720afc9f2",
    ("mnist5k", "test"): "b783e5c2e2f11d8520fcda43715f02317806c35526f93040f63510f802fcd655",
    ("digits", "train"): "6406b9220b78c7b37ab6785bfe4e9e381a446613a216c98c5cb7e101af7c5eaa",
    ("digits", "test"): "159a4d58c06f502345a8647cc96f3acf00868f7760f2989fe2bdafb989c97a48",
    ("wine", "train"): "bacd2f86f57aa002a86f95f819d895f1ce2e2e16d76aed86f8ea7c31af8418c0",
    ("wine", "test"): "618bb7c71a7d4bbb37d94322016c27ce815e98a47fa7abecd750dca04e7b7398",
    ("random", "train"): "57dec9bc514e6a3d19be9f03ec9034c876ec88f91579f993a2c7a23ca83db6d1",
    ("random", "test"): "2277a148872c047c3f3361dd6b2efba2fe3d34310ea04c7c03d7a19366323d4d",
    ("sum_sign", "train"): "52a3c6265f48ec5211e3134b71194be60eebbaaebc92ae24c417cf37832fd35f",
    ("sum_sign", "test"): "884a7044291185a3db24ee280ba5da10d2e0d6f62a8f1000a9d93eff0abeebe0",
}

SEEDS = list(range(7, 15))


def side(*names: str, **fields: Any) -> TaskDistribution:
    return TaskDistribution(names, fields.pop("partition", "test"), **fields)


def streams(distribution: TaskDistribution) -> Episode:
    return EpisodeSampler(distribution).sample(SEEDS, 40)


def halves(distribution: TaskDistribution, subset: Any) -> Episode:
    return EpisodeSampler(distribution, subset=subset).sample(SEEDS, 20)


def shots(distribution: TaskDistribution) -> Episode:
    return EpisodeSampler(distribution).sample_shots(SEEDS, 2, 3)


MOVED = {"pixel_shuffle": 0.5, "label_permutation": True}
PROJECTED = {"projection": 0.5, "label_permutation": True}
EPISODES = {
    "plain": lambda: streams(side("digits")),
    "shuffled": lambda: streams(side("mnist5k", **MOVED)),
    "vectors": lambda: streams(side("wine", **MOVED)),
    "rotations": lambda: streams(side("digits", rotations=True, classes=5, **MOVED)),
    "switch": lambda: streams(side("digits", switch=True, **MOVED)),
    "label noise": lambda: streams(side("digits", label_noise=0.2, **MOVED)),
    "late class": lambda: streams(side("digits", late_class=True)),
    "inverted": lambda: streams(side("digits", invert=True, scale=0.5)),
    "finite": lambda: streams(side("digits", diversity=3, **MOVED)),
    "fit": lambda: halves(side("digits", partition="train"), "fit"),
    "validation": lambda: halves(side("digits", partition="train"), "validation"),
    "fit classes": lambda: halves(side("digits", partition="train", classes=2), "fit_classes"),
    "few-shot": lambda: shots(side("digits", classes=4, **MOVED)),
    "projected": lambda: streams(side("digits", **PROJECTED)),
    "projected anew": lambda: streams(side("digits", switch=True, **PROJECTED)),
    "smaller": lambda: streams(side("mnist5k", size=9, **PROJECTED)),
    "larger": lambda: streams(side("digits", size=13, classes=4)),
    "several": lambda: streams(side("digits", "mnist5k", "sum_sign", size=8, **MOVED)),
    "projected few-shot": lambda: shots(side("digits", classes=4, **PROJECTED)),
    "random": lambda: streams(side("random", size=6)),
    "finite random": lambda: streams(side("digits", "random", size=8, projection=1.0, diversity=3)),
    "sum_sign": lambda: streams(side("sum_sign", size=6)),
}
BITS = {
    "plain": "49663bf87da9a16c6e037284ecdc9a78ea9d0ed1fb09f2946249ac38b44a903c",
    "shuffled": "c1e5e5d3991875b5feedc4e8e083521cc2945e12c23446313ad662b7d616c8a6",
    "vectors": "68e62c289e77e85c415d153eae326d0b112a1966256a32a09e8fa188ff4d60cf",
    "rotations": "99a67de7f814114b0d88983ccca30aeaf2671c17f2f805ea3ad50c9d7b025ee2",
    "switch": "88c5f01658d633c0e36c38e5b9bdd75de5be9b33ba95531b751de80d36d810f7",
    "label noise": "309a17f6c33e4ea7a06c04319281afa260da50bb4794922c65193e4c843e09d9",
    "late class": "1be401296ba1b1c10ce5ae9b0566fb9d52f3fba89e208132556e57c1d1c67dcd",
    "inverted": "c1d9b27bc65cd2cb6c5fdf02b00890d68344b970784b48fb28b3a71ace4a8f7b",
    "finite": "9107c00c0e854a1890e7b5d926380d51bfa0bddcded2de9c02a21863a67c26a9",
    "fit": "f17c1304e788ea7c153fa0ab73f523f1654b91eb6e64e430e02ec6052c33a705",
    "validation": "2a8eb0caad271ef83312b2c319f4cc87f613b16e782792b70f4813d4ca84ddad",
    "fit classes": "2433b247e1a1f55b79431e212a2a2bfb4e3ab1c158df103cc08df2c277e1c551",
    "few-shot": "d86bd80751c1eb7d56867d6cde8b40d452f96a5bf5cd402bbc62562ddd88149c",
}
"""SHA-256 of inputs, labels and targets, where inputs are only moved, standardised and scaled."""
NUMBERS = {
    "projected": (
        "a8f9f7a36856bb2b769df787cb7c305554d43e13ba94f4964a6f44558ac9e688",
        213.2918,
    ),
    "projected anew": (
        "58cb46a19b99831a7a7c7863a5e78785ef5733d7f040ecc909b7eb14d2764ee1",
        178.4418,
    ),
    "smaller": (
        "2e60955d016f5545e3fb109e821826d83b86248219d4e141f5ab327a037f2432",
        -54.0546,
    ),
    "larger": (
        "6aa7e4d2e7dc65a07289e2f0884741be767f349b94cf21c6472ea67f1a467d8c",
        -34.3428,
    ),
    "several": (
        "9030589bb81d582c17f176f098579418d52fbbb310a7a28e3d1ccef9e7207542",
        153.2506,
    ),
    "projected few-shot": (
        "e6e7b71f233970f0ac961d53563d50757ee9a09003a43c34b114232432b587c2",
        50.6390,
    ),
    "random": (
        "cd14b560033ee4624c594da0dab885d13d9510cc660e5b9cc4c0340fcad75f78",
        -2.5421,
    ),
    "finite random": (
        "48d3cc7baa271ee138030a6259347c8ea07e03fd15dc00ee9285dbfc27060a22",
        -53.8963,
    ),
    "sum_sign": (
        "0601a589d1450b2aaedb577d3cac5a4c4b863d8e37f0e971808b2de23fdaf274",
        7.8372,
    ),
}
"""SHA-256 of labels, and a weighted sum of the inputs, whose last bits are the processor's."""


@pytest.mark.parametrize(("name", "partition"), CONTENT)
def test_content_hashes(name: str, partition: PartitionName) -> None:
    assert datasets.load(name, partition).content_hash == CONTENT[name, partition]


def sha256(*parts: torch.Tensor | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if part is not None:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def weighted(inputs: torch.Tensor) -> float:
    values = inputs.double().numpy().ravel()
    return float(values @ np.cos(np.arange(len(values))))


@pytest.mark.parametrize("name", BITS)
def test_lifetimes_bit_for_bit(name: str) -> None:
    episode = EPISODES[name]()
    assert sha256(episode.inputs, episode.labels, episode.targets) == BITS[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_lifetimes_that_are_computed(name: str) -> None:
    episode, (labels, total) = EPISODES[name](), NUMBERS[name]
    assert sha256(episode.labels) == labels
    assert weighted(episode.inputs) == pytest.approx(total, abs=0.01)


def test_everything_is_pinned_once() -> None:
    assert sorted([*BITS, *NUMBERS]) == sorted(EPISODES)
