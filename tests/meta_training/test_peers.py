"""Meta-training in several processes: as many as there are change no bit, and no process goes on
alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.asking import ask
from tests.harness import LEARNER, call, write
from vsml_bench import cards
from vsml_bench.api import meta_training_job
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.tasks import Failure, Task
from vsml_bench.execution import decide
from vsml_bench.learner import BPTT, ES, Phase, Recipe
from vsml_bench.meta_training import bptt, es
from vsml_bench.meta_training.artifact import make_artifact
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.meta_training.job import Job, artifact_path, partial_path
from vsml_bench.meta_training.loop import Training
from vsml_bench.meta_training.objective import Lifetimes
from vsml_bench.meta_training.peers import Peers

pytestmark = pytest.mark.usefixtures("one_thread")

SPLIT = "digits-held-out"
CASES: dict[str, tuple[str, dict[str, object]]] = {
    # vsml runs in C++; the LSTM by batched matrix products, whose rounding chunks can change
    "vsml by ES": ("vsml", {"engine": "es", "pairs": 5, "lifetimes": 4, "chunk_mib": 1}),
    "vsml by ES, own lifetimes": (
        "vsml",
        {"engine": "es", "pairs": 7, "own_lifetimes": True, "lifetimes": 3, "chunk_mib": 1},
    ),
    "vsml by BPTT": ("vsml", {"micro_batch": 2, "lifetimes": 8}),
    "meta-rnn by ES": ("meta-rnn", {"engine": "es", "pairs": 5, "lifetimes": 1, "chunk_mib": 10}),
    "meta-rnn by BPTT": ("meta-rnn", {"micro_batch": 1, "lifetimes": 3}),
}
INTERRUPTED = ("vsml by ES", "meta-rnn by BPTT")


def planned(learner: str, fields: dict[str, object]) -> Job:
    phases = [{"steps": 3, "lifetime": 6, "learning_rate": 0.01, "classes": 3}]
    size = {"size": 4} if learner == "vsml" else {}
    own = {"validation_lifetimes": 1, "validate_every": 2, "checkpoint_every": 1, **size, **fields}
    return meta_training_job(SPLIT, learner, 0, None, {"phases": phases, **own})


def digest(path: Path) -> str:
    """Of the meta-parameters."""
    found = load_checkpoint(path)
    content = [t.contiguous().numpy().tobytes() for _, t in sorted(found.tensors.items())]
    return hashlib.sha256(b"".join(content)).hexdigest()


@dataclass(frozen=True)
class Places:
    """Where the processes meet, and where the first of them writes."""

    ports: tuple[int, int]
    folder: Path


def everything(
    number: int, jobs: dict[str, Job], places: Places, report: Callable[[float], None]
) -> tuple[str, ...]:
    """One of three processes; the first two of them meet once more. What it was refused."""
    execution = decide("cpu", 1)
    refused = []
    for count, port in zip((3, 2), places.ports, strict=True):
        if number >= count:
            break
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        peers = Peers(number, count, number, count)
        own = places.folder / ("first" if peers.leads else f"nobody-{number}")
        with peers.joined(execution.device):
            for name, job in jobs.items():
                make_artifact(
                    *(job, own / f"{count}", execution, None), progress=False, peers=peers
                )
                if name in INTERRUPTED:  # of three processes, and two go on
                    with contextlib.suppress(InterruptedError):
                        make_artifact(
                            *(job, own / "interrupted", execution, None),
                            progress=False,
                            report=_stop if count == 3 else report,
                            peers=peers,
                        )
            if count == 2:
                for change in (_other_threads, _other_parameters):
                    try:
                        change(jobs["vsml by BPTT"], own, peers)
                        refused.append("")
                    except VsmlBenchError as error:
                        refused.append(str(error))
    return tuple(refused)


def _stop(share: float) -> None:
    if share > 0.5:
        raise InterruptedError


def _other_threads(job: Job, folder: Path, peers: Peers) -> None:
    assert job.recipe is not None
    execution = replace(decide("cpu", 1), threads=1 + peers.number)
    Training(job, job.recipe, folder / "t", execution, None, "", peers=peers).begin((), False)


def _other_parameters(job: Job, folder: Path, peers: Peers) -> None:
    assert job.recipe is not None
    training = Training(job, job.recipe, folder / "p", decide("cpu", 1), None, "", peers=peers)
    training.begin((), False)
    training.update(0)
    if not peers.leads:
        next(training.learner.parameters()).data.view(-1)[0] += 1e-7
    training.update(1)


@dataclass(frozen=True)
class Together:
    jobs: dict[str, Job]
    folder: Path
    found: list[object]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """All cases in three processes and in two, side by side."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSML_BENCH_DATA", str(folder / "no-data-here"))
        patch.setattr(cards, "_ask", ask)
        jobs = {name: planned(*case) for name, case in CASES.items()}
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(2)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            first, second = (one.getsockname()[1] for one in sockets)
        places = Places((first, second), folder)
        tasks = [
            Task(number, f"{__name__}:everything", (number, jobs, places), 300.0, 1.0)
            for number in range(3)
        ]
        found = dict(LocalExecutor(3, progress=False).run(tasks, ""))
        yield Together(jobs, folder, [found[number] for number in range(3)])


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_processes_changes_no_bit(
    together: Together, tmp_path: Path, name: str
) -> None:
    job = together.jobs[name]
    assert not any(isinstance(found, Failure) for found in together.found), together.found
    alone = make_artifact(job, tmp_path, decide("cpu", 1), None, progress=False)
    folders = ["2", "3", *(["interrupted"] if name in INTERRUPTED else [])]
    paths = [artifact_path(together.folder / "first" / folder, job) for folder in folders]
    assert [digest(path) for path in paths] == [digest(alone)] * len(paths)
    documents = [load_checkpoint(path).document for path in (alone, *paths)]
    assert [document["processes"] for document in documents] == [1, 2, 3, 2][: len(documents)]
    for part in ("history", "first_losses", "identity"):
        assert all(document[part] == documents[0][part] for document in documents)


def test_the_first_process_alone_writes(together: Together) -> None:
    assert [path.name for path in together.folder.iterdir()] == ["first"]


def test_processes_that_differ_are_refused_by_all(together: Together) -> None:
    others, parameters = (
        "rank 1 has other threads than rank 0: 2 instead of 1",
        "rank 1 has other meta-parameters than rank 0",
    )
    for found in together.found[:2]:
        assert isinstance(found, tuple)
        assert found[0].startswith(others) and found[1].startswith(parameters)


def test_cases_have_chunks_of_more_than_one_pair_and_a_rest(together: Together) -> None:
    """Or they would not show that chunks stay the same."""
    job = together.jobs["meta-rnn by ES"]
    assert job.recipe is not None
    training = Training(job, job.recipe, together.folder, decide("cpu", 1), None, "")
    assert training.population is not None
    assert (training.population.pairs_at_once, training.population.chunks) == (2, 3)


FALLS = (
    LEARNER
    + """
from vsml_bench.recipes import BPTT, Phase, Recipe


class Falls(Base):
    # Ends its process in the fifth meta-update where it is told to.
    variants = {"falls": Config("")}
    recipe = Recipe((Phase(8, 5, 0.1),), lifetimes=4, engine=BPTT(micro_batch=2),
                    checkpoint_every=2, validation_lifetimes=1)
    calls = 0

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def init_meta_parameters(self, generator):
        self.weight.data.fill_(1.0)

    def predict(self, state, inputs):
        Falls.calls += 1
        if os.environ.get("RANK") == os.environ.get("VSML_TEST_FALLS", "none") and self.calls > 22:
            print("its last words")
            os.kill(os.getpid(), 9)
        logits, state = super().predict(state, inputs)
        return logits * self.weight, state
"""
)


def test_a_process_that_is_killed_ends_all_and_one_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSML_BENCH_DATA", str(tmp_path / "no-data-here"))
    monkeypatch.setattr(cards, "_ask", ask)
    learner = write(tmp_path / "falls.py", FALLS)
    options = ["meta-train", "--split", SPLIT, "--learner", str(learner), "--device", "cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    out = tmp_path / "out"
    ended = subprocess.run(
        [*torchrun, "-m", "vsml_bench", *options, "--out", str(out), "--quiet"],
        env={**os.environ, "VSML_TEST_FALLS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0 and ended.stdout == ""
    said = [line for line in ended.stderr.splitlines() if line.startswith("vsml-bench: ")]
    (first,) = [line for line in said if "rank 0 of 2 processes: " in line]
    (other,) = [line for line in said if "rank 1 of 2 processes: " in line]
    assert re.search("exit code -9; its last words: its last words", other)
    assert re.search("another process has ended", first)
    assert "the last checkpoint is kept, and the same command, with any number" in first
    assert len(said) == 2

    job = meta_training_job(SPLIT, str(learner), 0)
    assert load_checkpoint(partial_path(out, job)).document["steps"] in (2, 4)
    paths = [
        Path(call(*options, "--threads", 1, "--out", folder, "--quiet").out.strip())
        for folder in (out, tmp_path / "whole")
    ]
    assert [path.parent.name for path in paths] == ["out", "whole"]
    assert digest(paths[0]) == digest(paths[1])
    assert [path.name for path in out.iterdir()] == [paths[0].name]


def of_lifetimes(count: int) -> Lifetimes:
    """An objective that is never lived."""

    def never(*_: object) -> None:
        raise AssertionError

    return Lifetimes(None, None, range(count), never, never)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "count", "words"),
    [
        (BPTT(), 2, r"takes the 6 lifetimes .* all at once.*--recipe micro_batch=3,"),
        (BPTT(), 4, r"--recipe micro_batch=1,"),
        (BPTT(micro_batch=2), 4, r"has 3 micro-batches, fewer than the 4 processes"),
        (BPTT(), 7, r"has 6 lifetimes, fewer than the 7 processes; start at most so many"),
    ],
)
def test_backpropagation_that_processes_cannot_share(engine: BPTT, count: int, words: str) -> None:
    recipe = Recipe((Phase(1, 5, 0.1), Phase(1, 5, 0.1, lifetimes=12)), lifetimes=6, engine=engine)
    with pytest.raises(VsmlBenchError, match=f"learner 'x': .*{words}"):
        bptt.check(of_lifetimes(6), engine, recipe, Peers(1, count), "x")


def test_a_source_without_lifetimes_is_for_one_process() -> None:
    recipe = Recipe((Phase(1, 5, 0.1),), lifetimes=6)
    with pytest.raises(VsmlBenchError, match=r"learner 'x': .* without lifetimes .* one process"):
        bptt.check(lambda learner: None, BPTT(), recipe, Peers(0, 2), "x")  # type: ignore[arg-type,return-value]


def test_more_processes_than_chunks_of_a_population() -> None:
    population = es.Population(pairs=10, noise_std=0.1, pairs_at_once=5)
    remedies = {3: "set --recipe chunk_mib=3, or start at most", 11: "processes; start at most"}
    for count, words in remedies.items():
        with pytest.raises(VsmlBenchError, match=f"10 pairs in 2 chunks, fewer.* {words}"):
            es._check_chunks(population, 2**20, "x", Peers(0, count))
    es._check_chunks(population, 2**20, "x", Peers(0, 2))


def test_micro_batches_are_dealt_in_turn_and_their_rest_is_short() -> None:
    shares = [list(Peers(number, 3).share(7)) for number in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


def test_the_gradient_of_micro_batches_is_that_of_all_lifetimes(
    together: Together, tmp_path: Path
) -> None:
    job = together.jobs["vsml by BPTT"]
    assert job.recipe is not None
    whole, parts = (
        Training(job, replace(job.recipe, engine=engine), tmp_path, decide("cpu", 1), None, "")
        for engine in (BPTT(), BPTT(micro_batch=2))
    )
    assert parts.update(0) == pytest.approx(whole.update(0), rel=1e-6)
    for one, other in zip(whole.learner.parameters(), parts.learner.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_micro_batches_are_part_of_the_identity_where_they_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cards, "_ask", ask)
    fields: list[dict[str, object]] = [{}, {"engine": "bptt"}, {"micro_batch": 2}]
    plain, named, parts = (planned("vsml", one) for one in fields)
    assert plain.key == named.key != parts.key
    identity = plain.identity()["recipe"]["engine"]
    assert identity == {"name": "bptt"}
    with pytest.raises(VsmlBenchError, match=r'micro_batch: has no effect .*set engine = "bptt"'):
        planned("vsml", {"engine": "es", "micro_batch": 2})
    with pytest.raises(VsmlBenchError, match="micro_batch: expected a divisor of the 6 lifetimes"):
        Recipe((Phase(1, 5, 0.1),), lifetimes=6, engine=BPTT(micro_batch=4))
    with pytest.raises(VsmlBenchError, match="micro_batch: expected more than 0"):
        BPTT(micro_batch=0)
    assert isinstance(replace(plain.recipe or Recipe(()), engine=ES()).engine, ES)
