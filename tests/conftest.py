"""One small suite, run once for all tests that look at finished results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.harness import MEETING, Outcome, call, write, write_split, write_suite


@dataclass(frozen=True)
class Finished:
    """A run of a suite: two splits that work and one whose data are not here, VSML with two seeds,
    floors, and a pair of learners that finish only where two processes run side by side."""

    suite: Path
    folder: Path
    run: Outcome

    @property
    def cells(self) -> Path:
        return self.folder / "cells"


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the data root nor the runs of whoever started the tests."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VSML_BENCH_DATA", str(tmp_path / "no-data-here"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads and, on a busy machine, lose much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    splits = [
        "digits-held-out",
        "digits-to-random",
        write_split(folder / "to-kmnist.toml", "kmnist", relation="unseen_dataset"),
    ]
    learners = ["vsml", "nearest-mean", "chance", write(folder / "meeting.py", MEETING)]
    suite = write_suite(folder / "tiny.toml", list(splits), list(learners), seeds="[0, 1]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSML_BENCH_DATA", str(folder / "no-data-here"))
        patch.setenv("VSML_TEST_PIPE", str(pipe))
        outcome = call(
            "run", "--suite", suite, "--out", folder / "out", "--jobs", 2, "--device", "cpu"
        )
        yield Finished(suite, folder / "out", outcome)
