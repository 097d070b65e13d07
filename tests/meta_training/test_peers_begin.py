"""What a process of several is told when it begins: by whom it was started, and where the others
are."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from tests.asking import ask
from vsml_bench import api, cards
from vsml_bench.errors import VsmlBenchError
from vsml_bench.meta_training import peers
from vsml_bench.meta_training.peers import Peers

SPLIT = "digits-held-out"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "a RANK less than WORLD_SIZE"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x, WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2"}, "expected what torchrun sets"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE=2 without MASTER_ADDR"),
    ],
)
def test_an_environment_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VsmlBenchError, match=words):
        Peers.of_environment()


def test_who_finds_nobody_names_the_address_and_the_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "PATIENCE", timedelta(seconds=1))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(nobody.getsockname()[1])}
        for name, value in {**place, "GLOO_SOCKET_IFNAME": "eth7"}.items():
            monkeypatch.setenv(name, value)
        words = rf"find each other at 127.0.0.1:{place['MASTER_PORT']} .*GLOO_SOCKET_IFNAME.*eth7"
        with (
            pytest.raises(VsmlBenchError, match=words),
            Peers(1, 2, 0, 1).joined(torch.device("cpu")),
        ):
            pass


def test_a_tuned_learner_is_for_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cards, "_ask", ask)
    values = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VsmlBenchError, match="'sgd-mlp' is tuned, which one process does"):
        api.meta_train(SPLIT, "sgd-mlp", out=tmp_path)


def test_threads_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    two = Peers(0, 2)
    assert (Peers().threads(None), two.threads(None), two.threads(4)) == (None, 1, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (two.threads(None), Peers().threads(None)) == (3, None)
