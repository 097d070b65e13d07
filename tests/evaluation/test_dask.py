"""Work on a Dask scheduler and two workers, which die: what comes out is what one process gives."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ask
from tests.clusters import Cluster, two_workers
from tests.evaluation import test_executors as work
from tests.harness import LEARNER, call, refusal, write, write_split, write_suite
from vsml_bench import api, cards
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.evaluation import dask_worker
from vsml_bench.evaluation.dask_cluster import check_versions
from vsml_bench.evaluation.dask_executor import DaskExecutor
from vsml_bench.evaluation.dask_run import DaskRun
from vsml_bench.evaluation.processes import start_server
from vsml_bench.evaluation.tasks import Failure, Task

Report = Callable[[float], None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "_ask", ask)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("VSML_BENCH_DATA", str(tmp_path_factory.mktemp("no-data-here")))
        start_server()  # which ends with the thread that began it
        with two_workers(tmp_path_factory.mktemp("workers")) as found:
            yield found


@pytest.fixture(scope="module")
def dask(cluster: Cluster) -> Iterator[DaskExecutor]:
    executor = DaskExecutor(cluster.address, progress=False)
    executor.client.wait_for_workers(2)
    yield executor
    executor.close()


def holds_the_gil(pipe: str, report: Report) -> str:
    """Nothing else runs in this process until somebody writes into the pipe."""
    with open(f"{pipe}.begun", "a") as file:
        file.write("begun ")
    ctypes.PyDLL(None).open(pipe.encode(), os.O_RDONLY)
    return "released"


def has_no_data_the_first_time(marker: str, report: Report) -> tuple[int, int]:
    """The servers of the workers that lacked and had the data."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return int(Path(marker).read_text()), os.getppid()
    Path(marker).write_text(str(os.getppid()))
    raise UnavailableError("no data on this worker")


def has_no_data(order: str, report: Report) -> None:
    raise UnavailableError("no data on any worker")


def task(function: Callable[..., Any], argument: object = "x", **more: Any) -> Task:
    name = function.__name__
    return Task(name, f"{function.__module__}:{name}", (str(argument),), None, 1.0, **more)


def test_what_a_task_needs_is_made_again_where_dask_gave_it_up(
    dask: DaskExecutor, tmp_path: Path
) -> None:
    """It was done and taken, and gone with its worker: nothing is wrong with the task itself."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    made = task(work.fine, key="made")
    waiting = task(holds_the_gil, pipe, key="waiting", after=("made",))
    run = DaskRun(dask.client, [made, waiting], None)
    run.submit_all()
    try:
        found: list[tuple[Any, Any]] = []
        while not found:
            found = run.next_results()
        assert [what for what, _ in found] == [made.what]
        dask.client.cancel([run.futures[0]], force=True)
        writer = os.open(pipe, os.O_RDWR)  # which lets go whoever reads, the task's first try too
        while run.open:
            found += run.next_results()
        os.close(writer)
    finally:
        run.close()
    assert found[1:] == [(waiting.what, "released")]


def test_tasks_fail_there_as_they_do_here_and_workers_live_on(
    dask: DaskExecutor, tmp_path: Path
) -> None:
    """Workers are daemons, which have no children of their own accord. A task may hang, grow, die,
    lie, or hold its interpreter's lock, while its worker answers. Nobody steals what has begun."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = dask.client.run(os.getpid)
    tasks = [
        replace(task(work.loops_forever), time_limit=2.0),
        task(work.allocates),
        task(work.is_killed),
        task(work.returns_hostilely),
        task(has_no_data),
        task(has_no_data_the_first_time, tmp_path / "marker"),
        task(work.breaks, key="broken"),
        task(work.fine, after=("broken",)),
        replace(task(holds_the_gil, pipe), expected_seconds=99.0),  # so that it is begun first
    ]
    found = {}
    for what, result in dask.run(tasks, "test"):
        found[what] = result
        if len(found) == 1:
            assert len(dask.client.run(os.getpid)) == 2
            os.close(os.open(pipe, os.O_WRONLY))
    assert Path(f"{pipe}.begun").read_text() == "begun "
    lacked, had = found.pop("has_no_data_the_first_time")
    assert lacked != had
    broken = Failure("crashed", "ValueError: wrong shape")
    assert found == {
        "loops_forever": Failure("timeout", "killed after its time limit of 2 s"),
        "allocates": Failure("out_of_memory", "killed above its memory limit of 1.5 GB"),
        "is_killed": Failure("crashed", "its process ended with exit code -9"),
        "returns_hostilely": Failure(
            "crashed", "its process sent no result, but posix._exit, which is not plain data"
        ),
        "has_no_data": Failure("unavailable", "no data on any worker"),
        "breaks": broken,
        "fine": broken,
        "holds_the_gil": "released",
    }
    assert dask.client.run(os.getpid) == before


DIES = (
    LEARNER
    + """
from vsml_bench.recipes import Phase, Recipe

LOG = "the log"


def begins(what):
    # Says so, with the process that does it, and waits the first time.
    with open(LOG, "a") as file:
        file.write(f"{what} {os.getpid()}\\n")
    try:
        os.mkdir(f"{LOG}.{what}")
    except FileExistsError:
        return
    open(f"{LOG}.pipe").close()


class Trained(Base):
    variants = {"trained": Config("")}
    recipe = Recipe((Phase(3, 10, 0.1),), lifetimes=7, validation_lifetimes=2, checkpoint_every=1)

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def init_meta_parameters(self, generator):
        self.weight.data.fill_(1.0)

    def predict(self, state, inputs):
        if state.steps.max() == 0 and inputs.shape[0] == 7:
            self.updates = getattr(self, "updates", 0) + 1
            if self.updates == 3:
                begins("update")
        logits, state = super().predict(state, inputs)
        return logits * self.weight, state


class Tested(Base):
    variants = {"tested": Config("")}

    def predict(self, state, inputs):
        if state.steps.max() == 20 and inputs.shape[0] == 3 and not hasattr(self, "begun"):
            self.begun = True
            begins("cell")
        return super().predict(state, inputs)
"""
)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Learners that wait in the midst of a meta-training and of a cell, the first time."""
    log = write(tmp_path / "log", "")
    os.mkfifo(f"{log}.pipe")
    learner = write(tmp_path / "dies.py", DIES.replace("the log", str(log)))
    learners = [learner, "nearest-mean"]
    splits: list[object] = ["digits-held-out"]
    splits.append(write_split(tmp_path / "to-kmnist.toml", "kmnist", relation="unseen_dataset"))
    return write_suite(tmp_path / "s.toml", splits, learners, lifetimes=3, steps=25)


def begun(log: Path, what: str) -> list[int]:
    words = [line.split() for line in log.read_text().splitlines()]
    return [int(pid) for each, pid in words if each == what]


def board_hash(suite: Path, folder: Path) -> str:
    return api.board(str(suite), folder).board_hash


def test_workers_die_in_a_cell_and_in_a_meta_training(
    cluster: Cluster, dask: DaskExecutor, suite: Path, tmp_path: Path
) -> None:
    """Dask blames the task each time. It is done elsewhere, from its last checkpoint on, each cell
    is there once, and the board is that of one process."""
    log, out = tmp_path / "log", tmp_path / "dask"
    reports: list[Any] = []

    def run() -> None:
        reports.append(api.run(str(suite), out=out, executor=dask, device="cpu"))

    thread = threading.Thread(target=run)
    thread.start()
    for what in ("cell", "update"):
        while not begun(log, what) or (what == "update" and not list(out.rglob("*.partial.*"))):
            thread.join(0.1)
            assert thread.is_alive()
        worker = cluster.worker_of(begun(log, what)[0])
        worker.kill()
    thread.join()
    assert len(begun(log, "cell")) == 2
    # Of three updates one or two were in the checkpoint: nobody else makes three of his own.
    assert len(begun(log, "update")) == 1
    cells = sorted(path.name for path in (out / "cells").iterdir())
    assert len(cells) == 6 and len(reports[0].cells) == 6 and not reports[0].failed
    assert len(list((out / "checkpoints").iterdir())) == 1
    api.run(str(suite), out=tmp_path / "local", jobs=1, progress=False, device="cpu")
    assert board_hash(suite, out) == board_hash(suite, tmp_path / "local")
    assert cells == sorted(path.name for path in (tmp_path / "local/cells").iterdir())


def test_a_driver_that_is_killed_finds_its_work_done(
    dask: DaskExecutor, cluster: Cluster, suite: Path, tmp_path: Path
) -> None:
    """The cluster goes on without it, and nothing is begun twice."""
    log, out = tmp_path / "log", tmp_path / "out"
    arguments = ["--learner", f"{tmp_path / 'dies.py'}:Tested", "--split", "digits-held-out"]
    command = ["run", "--suite", str(suite), "--out", str(out), "--device", "cpu", *arguments]
    driver = subprocess.Popen(
        [sys.executable, "-m", "vsml_bench", *command, "--executor", f"dask:{cluster.address}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.DEVNULL,
    )
    while not begun(log, "cell"):
        assert driver.poll() is None
        threading.Event().wait(0.1)
    driver.kill()
    driver.wait()
    os.close(os.open(f"{log}.pipe", os.O_WRONLY))
    learner, split = arguments[1], arguments[3]
    report = api.run(
        str(suite), out=out, executor=dask, device="cpu", learners=[learner], splits=[split]
    )
    assert [cell.status for cell in report.cells] == ["ok"]
    assert len(begun(log, "cell")) == 1
    assert dask.client.list_datasets() == ()


def test_the_smoke_suite_and_a_scaled_paper(dask: DaskExecutor, tmp_path: Path) -> None:
    """Smoke gives the board of one machine. Of the paper's grid goes what has data, in seconds."""
    api.run("smoke", out=tmp_path / "dask", executor=dask, device="cpu")
    api.run("smoke", out=tmp_path / "local", jobs=1, progress=False, device="cpu")
    hashes = {api.board("smoke", tmp_path / where).board_hash for where in ("dask", "local")}
    assert len(hashes) == 1
    chosen: dict[str, Any] = {
        "splits": ["paper/random-to-random", "paper/mnist-to-random"],
        "learners": ["vsml", "sgd-linear", "chance"],
        "seeds": [0],
        "scale": 0.001,
    }
    out = tmp_path / "paper"
    report = api.run("paper", out=out, executor=dask, device="cpu", **chosen)
    assert len(report.cells) == 6
    assert {(cell.plan.split.name, cell.status) for cell in report.cells} == {
        ("paper/random-to-random", "ok"),
        ("paper/mnist-to-random", "unavailable"),
    }
    board = api.board("paper", out, **chosen)
    assert board.suite == "paper-scaled-0.001"
    chosen.pop("scale")
    assert {row["status"] for row in api.board("paper", out, **chosen).rows} == {"missing"}


def test_other_versions_are_refused_by_name(
    dask: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = dask.client
    other = {**dask_worker.here(), "torch": "1.0"}
    monkeypatch.setattr(dask_worker, "versions", lambda: other)
    dask_worker.here.cache_clear()
    try:
        with pytest.raises(VsmlBenchError, match=r"worker tcp://127.* has torch .* instead of 1.0"):
            check_versions(client)
    finally:
        monkeypatch.undo()
        dask_worker.here.cache_clear()


def test_gpus_that_nobody_has_are_not_waited_for(dask: DaskExecutor, tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "s.toml", ["digits-to-random"], ["chance"])
    with pytest.raises(VsmlBenchError, match="no Dask worker has a GPU"):
        api.run(str(suite), out=tmp_path / "out", executor=dask, device="cuda")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--executor", "dask:192.0.2.1:8786"], "can be reached from other machines"),
        (["--executor", "spark"], "expected local, dask or dask:HOST:PORT"),
        (["--executor", "dask", "--tls-cert", "a.pem"], "go together"),
        (
            ["--executor", "dask", "--tls-cert", "a", "--tls-key", "b", "--tls-ca", "c"],
            "TLS: there is no file",
        ),
        (["--insecure"], "are for --executor dask"),
        (["--shard", "4/3"], "--shard: expected a number from 1"),
        (["--shard", "x"], "expected two numbers as in 3/20"),
        (["--scale", "2"], "--scale: expected more than 0 and at most 1"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    options: list[str], says: str, cluster: Cluster
) -> None:
    command = ["run", "--suite", "smoke", "--learner", "chance", "--device", "cpu"]
    assert says in refusal(call(*command, *options))


def test_without_the_package_it_says_what_to_install(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = call("run", "--suite", "smoke", "--learner", "chance", "--executor", "dask")
    assert "install vsml-bench[dask]" in refusal(done)
