"""Work that is lost, done twice, or said to be done and is not.

What is wrong today is expected to fail, so that mending it shows.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tests.asking import ask
from tests.data import idx_files
from tests.harness import LEARNER, call, write, write_suite
from vsml_bench import api, cards, paths
from vsml_bench.evaluation.executors import Executor, LocalExecutor
from vsml_bench.evaluation.runner import RunReport
from vsml_bench.evaluation.tasks import Elsewhere, Task
from vsml_bench.meta_training.checkpoint import load_checkpoint, save_checkpoint
from vsml_bench.owners import new_temporary_folder
from vsml_bench.vsml.fast import library

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


def today(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "_ask", ask)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    tensors = {"one": weight, "other": weight, "part": weight[:3]}
    save_checkpoint(tmp_path / "a.safetensors", tensors, {})
    found = load_checkpoint(tmp_path / "a.safetensors").tensors
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }


BREAKS = (
    LEARNER
    + """
from vsml_bench.recipes import Phase, Recipe


class Breaks(Base):
    # Writes to a program that is dead, when it is meta-trained.
    variants = {"breaks": Config("")}
    recipe = Recipe((Phase(3, 10, 0.1),), lifetimes=7, validation_lifetimes=2)

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def init_meta_parameters(self, generator):
        self.weight.data.fill_(1.0)

    def predict(self, state, inputs):
        if inputs.shape[0] == 7:
            raise BrokenPipeError("a program of mine is dead")
        logits, state = super().predict(state, inputs)
        return logits * self.weight, state
"""
)


def test_a_pipe_that_breaks_elsewhere_is_no_success(tmp_path: Path) -> None:
    learner = write(tmp_path / "breaks.py", BREAKS)
    done = call("meta-train", "--split", "digits-held-out", "--learner", learner, "--out", tmp_path)
    assert done.code != 0 and "a program of mine is dead" in done.err


def test_files_are_written_before_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = write_suite(tmp_path / "s.toml", ["digits-to-random"], ["chance"])
    reader, writer = os.pipe()
    os.close(reader)
    from vsml_bench import cli

    with open(writer, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        cli.main(
            ["leaderboard", "--suite", str(suite), "--results", str(tmp_path / "out"), "--write"]
        )
        monkeypatch.undo()
    assert (tmp_path / "out/board.json").is_file()


def test_what_was_meta_trained_is_not_trained_again(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["vsml"])
    train = ["meta-train", "--split", "digits-held-out", "--learner", "vsml", "--suite", suite]
    assert call(*train, "--quiet").code == 0
    done = call("run", "--suite", suite, "--policy", "only-cached", "--quiet", "--jobs", 1)
    assert done.code == 0, done.out


def test_published_cells_stand_beside_ones_own(
    two_learners: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = two_learners.parent / "out"
    shutil.copytree(results, tmp_path / "results/two")
    monkeypatch.setattr(paths, "results", lambda: tmp_path / "results")
    (own,) = (results / "cells").glob("*chance*")
    Path("runs/two/cells").mkdir(parents=True)
    shutil.copy(own, "runs/two/cells")
    rows = call("leaderboard", "--suite", two_learners, "--format", "json").json["rows"]
    assert {row["learner"]: row["status"] for row in rows} == {"chance": "ok", "majority": "ok"}


@pytest.mark.parametrize("folder", ["cells", "checkpoints"])
def test_litter_of_killed_runs_goes(two_learners: Path, tmp_path: Path, folder: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(two_learners.parent / "out", out)
    litter = out / folder / ".0123456789abcdef0123456789abcdef.tmp"
    litter.write_bytes(b"{")
    os.utime(litter, (0, 0))
    assert call("run", "--suite", two_learners, "--out", out, "--quiet").code == 0
    assert not litter.exists()


LOGS = (
    LEARNER
    + """
class Logs(Base):
    # Says that its cell has begun, and waits until it is told to go on.
    variants = {"logs": Config("")}

    def predict(self, state, inputs):
        log = "LOG"
        if state.steps.max() == 20 and len(state.steps) > 1 and not hasattr(self, "begun"):
            self.begun = True
            with open(log, "a") as file:
                file.write("cell\\n")
            with open(log + ".pipe") as pipe:
                pipe.read()
        return super().predict(state, inputs)
"""
)


@dataclass(frozen=True)
class Watched(Executor):
    """Tells when something was found to be done elsewhere."""

    elsewhere: threading.Event

    def run(self, tasks: Sequence[Task], title: str) -> Iterator[tuple[Any, Any]]:
        for what, result in LocalExecutor(1, False).run(tasks, title):
            if isinstance(result, Elsewhere):
                self.elsewhere.set()
            yield what, result


def test_two_runs_in_one_folder_share_the_work(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "")
    os.mkfifo(f"{log}.pipe")
    learner = write(tmp_path / "logs.py", LOGS.replace("LOG", str(log)))
    suite = write_suite(tmp_path / "s.toml", ["digits-to-random"], [learner])
    elsewhere = threading.Event()
    reports: list[RunReport] = []

    def run() -> None:
        out, executor = tmp_path / "out", Watched(elsewhere)
        reports.append(api.run(str(suite), out=out, executor=executor, device="cpu"))

    runs = [threading.Thread(target=run) for _ in range(2)]
    for thread in runs:
        thread.start()
    while any(thread.is_alive() for thread in runs):
        runs[0].join(0.1)
        # of the other run or, where both do the cell, the second one
        if elsewhere.is_set() or len(log.read_text().splitlines()) == 2:
            release(log)
    assert [[cell.status for cell in report.cells] for report in reports] == [["ok"], ["ok"]]
    assert log.read_text().splitlines() == ["cell"]
    assert sorted(report.reused for report in reports) == [0, 1]
    assert not list((tmp_path / "out").rglob(".*"))


def release(log: Path) -> None:
    try:
        os.close(os.open(f"{log}.pipe", os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # nobody reads
        return


SLEEPER = """
import os
import subprocess
import sys
import time

from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.tasks import Task


def sleeps(pipe, report):
    child = subprocess.Popen(["sleep", "10000"], start_new_session=True)
    with open(pipe, "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(10_000)


if __name__ == "__main__":
    task = Task("", "sleeper:sleeps", (sys.argv[1],), None, 1.0)
    list(LocalExecutor(1, False).run([task], ""))
"""


def test_workers_and_what_they_started_end_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next process removes what they had in folders for temporary files."""
    script = write(tmp_path / "sleeper.py", SLEEPER)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    runs = {}
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
        (tmp_path / f"t{number}").mkdir()
        pipe = tmp_path / number.name
        os.mkfifo(pipe)
        command = [sys.executable, str(script), str(pipe)]
        runs[pipe] = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path / f"t{number}")},
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup
        )
    for pipe, run in runs.items():
        processes = [psutil.Process(int(pid)) for pid in pipe.read_text().split()]
        assert len(processes) == 2
        number = getattr(signal, pipe.name)
        run.send_signal(number)
        assert run.wait() == -number
        assert not psutil.wait_procs(processes, 120)[1]
        temporary = tmp_path / f"t{number}"
        assert any(temporary.glob("vsml-bench-*"))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        own = new_temporary_folder()
        assert [path for path in temporary.iterdir() if "inductor" not in path.name] == [own]
        assert not list(Path("/tmp").glob(f"vsml-bench-*-{run.pid}-*"))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("part", ["images-idx3", "labels-idx1"])
def test_half_a_file_is_not_here(tmp_path: Path, ending: str, part: str) -> None:
    raw = tmp_path / "KMNIST/raw"
    for prefix in ("train", "t10k"):
        pair = idx_files.images_and_labels(30, 0)
        idx_files.write_pair(raw, prefix, *pair, ending)
    file = raw / f"train-{part}-ubyte{ending}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    rows = call("data", "--json", "--data-root", tmp_path).json["datasets"]
    (row,) = (row for row in rows if row["name"] == "kmnist")
    assert row["train"] is None and row["test"] == 30  # the test partition is whole
    assert file.name in row["reason"]


def test_a_file_that_expands_beyond_its_header(tmp_path: Path) -> None:
    import tracemalloc

    from vsml_bench.data.files import read_idx
    from vsml_bench.errors import VsmlBenchError

    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    data = idx_files.idx(np.zeros((2, 28, 28), np.uint8)) + bytes(50_000_000)
    file.write_bytes(gzip.compress(data, 1))
    tracemalloc.start()
    try:
        with pytest.raises(VsmlBenchError, match="broken"):
            read_idx(file, 3)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "command", [["check"], ["plan", "--suite", "smoke", "--learner"]], ids=" ".join
)
def test_a_file_without_a_learner_is_an_error(tmp_path: Path, command: list[str]) -> None:
    done = call(*command, write(tmp_path / "empty.py", "x = 1\n"))
    assert done.code == 2 and "empty.py" in done.err


@pytest.mark.parametrize("what", ["splits", "learners"])
def test_a_suite_of_nothing_is_an_error(tmp_path: Path, what: str) -> None:
    text = write_suite(tmp_path / "s.toml", ["digits-to-random"], ["chance"]).read_text()
    lines = [f"{what} = []" if line.startswith(what) else line for line in text.splitlines()]
    suite = write(tmp_path / "s.toml", "\n".join(lines))
    done = call("plan", "--suite", suite)
    assert done.code == 2 and what in done.err


COMPILER = """#!/bin/sh
# Says its version, or copies a compiled library to where the last but one argument is -o.
if [ "$1" = --version ]; then echo stub; exit; fi
echo built >> {log}
while [ $# -gt 1 ]; do [ "$1" = -o ] && cp {library} "$2"; shift; done
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quick compiler; the file has a line for each time that it was asked to build."""
    log = write(tmp_path / "log", "")
    made = library._library()
    stub = write(tmp_path / "cxx", COMPILER.format(log=log, library=made))
    stub.chmod(0o755)
    monkeypatch.setenv("CXX", str(stub))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


def load() -> object:
    return library.load.__wrapped__()


SPOIL = {
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:5_000]),
    "changed": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "writable by others": lambda file: file.chmod(0o777),
    "another's": lambda file: os.chown(file, 12345, 12345),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("how", SPOIL)
def test_a_compiled_kernel_that_is_not_what_was_built(compiler: Path, how: str) -> None:
    assert load() is not None and len(compiler.read_text().splitlines()) == 1
    assert load() is not None and len(compiler.read_text().splitlines()) == 1
    (file,) = (compiler.parent / "cache/vsml-bench").glob("kernel-*.so")
    copy = file.read_bytes()
    file.unlink()  # the loaded one stays mapped
    file.write_bytes(copy)
    SPOIL[how](file)
    assert load() is not None and len(compiler.read_text().splitlines()) == 2


def test_an_empty_cache_variable_is_as_good_as_none(
    compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert load() is not None
    assert not list(Path().iterdir())
