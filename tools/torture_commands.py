"""What `tools.torture` kills, and what it looks at afterwards."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vsml_bench import api
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import load_cell

SUITE = """description = "killed"
splits = ["digits-held-out", "digits-to-random"]
learners = ["chance", "majority", "nearest-mean", "sgd-linear", "vsml"]
seeds = [0, 1]
lifetimes = 4
steps = 60
[recipes.vsml]
phases = [{steps = 6, lifetime = 10, learning_rate = 0.01}]
lifetimes = 2
validation_lifetimes = 2
checkpoint_every = 1
"""
RECIPE = (
    "phases=[{steps=30, lifetime=10, learning_rate=0.01}]",
    *("lifetimes=2", "validation_lifetimes=2", "checkpoint_every=1"),
)
FETCH = """
import sys
from torchvision.datasets import FashionMNIST
from vsml_bench.cli import main

FashionMNIST.mirrors = [sys.argv[1]]
FashionMNIST.resources = [pair.split("=") for pair in sys.argv[2].split(",")]
sys.exit(main(["data", "fetch", "fashion_mnist", "--data-root", sys.argv[3]]))
"""


@dataclass(frozen=True)
class Command:
    """What is killed."""

    name: str
    line: Callable[[Path], list[str]]
    """Arguments of Python that leave their results in the folder."""
    outcome: Callable[[Path], str]
    """What must be the same whenever it has run to its end."""


def _verb(*arguments: str) -> list[str]:
    return ["-m", "vsml_bench", *arguments]


def commands(shared: Path, mirror: str, sums: str) -> list[Command]:
    """shared: a folder with the suite and, once it has run, its results."""
    suite = str(shared / "killed.toml")
    run = ("run", "--suite", suite, "--quiet", "--jobs", "2", "--device", "cpu", "--out")
    train = ("meta-train", "--split", "digits-held-out", "--learner", "vsml", "--quiet")
    recipe = [word for value in RECIPE for word in ("--recipe", value)]
    return [
        Command("run", lambda f: _verb(*run, str(f)), lambda f: _board_hash(suite, f)),
        Command(
            "meta-train",
            lambda f: _verb(*train, *recipe, "--device", "cpu", "--threads", "1", "--out", str(f)),
            _tensors,
        ),
        Command(
            "leaderboard --write",
            lambda f: _verb("leaderboard", "--suite", suite, "--results", str(f), "--write"),
            lambda f: hashlib.sha256((f / "board.json").read_bytes()).hexdigest(),
        ),
        Command("data fetch", lambda f: ["-c", FETCH, mirror, sums, str(f)], _bytes),
    ]


def _board_hash(suite: str, folder: Path) -> str:
    return api.board(suite, folder).board_hash


def _tensors(folder: Path) -> str:
    from safetensors.numpy import load_file

    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        for name, values in sorted(load_file(path).items()):
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _bytes(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*-ubyte*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def files(folder: Path) -> set[str]:
    """All below the folder, by their paths in it."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def records(folder: Path) -> dict[str, bytes]:
    """What counts as finished work."""
    kept = ("cells/*.json", "checkpoints/*", "*.safetensors", "board.*", "FashionMNIST/raw/*")
    found = {}
    for pattern in kept:
        for path in folder.glob(pattern):
            if not path.name.startswith(".") and ".partial." not in path.name:
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def torn(folder: Path, sound: dict[str, int]) -> int:
    """sound: sizes of files that are either whole or not there."""
    count = 0
    for name, data in records(folder).items():
        try:
            if name.startswith("cells/"):
                load_cell(folder / name)
            elif name.startswith("checkpoints/") or name.endswith(".safetensors"):
                from vsml_bench.meta_training.checkpoint import load_artifact

                load_artifact(folder / name)
            elif name in sound and len(data) != sound[name]:
                count += 1
        except VsmlBenchError:
            count += 1
    return count


class _Slow(SimpleHTTPRequestHandler):
    """Sends files in pieces, so that kills fall into them."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with contextlib.suppress(OSError):
            while piece := source.read(2_000):
                outputfile.write(piece)
                time.sleep(0.002)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """A server of a small Fashion-MNIST on this machine: its address, and "file=MD5,..."."""
    sums = []
    for stem, count in (("train", 300), ("t10k", 100)):
        pictures = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28) + os.urandom(784 * count)
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(i % 10 for i in range(count))
        for name, data in (("images-idx3", pictures), ("labels-idx1", labels)):
            path = folder / f"{stem}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(data, 1))
            sums.append(f"{path.name}={hashlib.md5(path.read_bytes()).hexdigest()}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", ",".join(sums)
    server.shutdown()
    server.server_close()
