"""Kills workers and drivers of a Dask cluster at random moments: `make torture-dask`.

A scheduler and two workers run a suite, again and again into a new folder, until so many processes
were killed: workers, which their nannies start again, and drivers, which this program does. No
record may be lost or written twice, and each board must be that of an undisturbed run on one
machine. What each run found is kept in a file, so that this goes on where it was. The table is
written to results/faults/torture_dask.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from tabulate import tabulate

from tests.clusters import Cluster, two_workers
from tools.torture import MARK, _marked
from tools.torture_commands import SUITE, files, records, torn
from vsml_bench import api
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.storage import write_atomically

RUN = ("run", "--quiet", "--device", "cpu", "--suite")
LIMIT = 400.0
"""Seconds without a new file and without a kill after which a run hangs."""
DRIVERS = 0.2
"""Share of the kills that hit the driver."""


@dataclass
class Round:
    """A run with the kills in it."""

    workers: int = 0
    """That were killed."""
    drivers: int = 0
    lost: int = 0
    """Records that were there once, and are not in the end."""
    doubled: int = 0
    """Records that were written more than once."""
    torn: int = 0
    """Records that cannot be read."""
    missing: int = 0
    """Files of an undisturbed run that are not there in the end."""
    litter: int = 0
    """Files that an undisturbed run does not leave."""
    failed: int = 0
    """Runs that ended with another exit code than 0, or hung."""
    differs: int = 0
    """Boards that are not that of an undisturbed run."""


class Watch:
    """Sees each record of a folder when it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.over = folder, threading.Event()
        self.versions: dict[str, set[tuple[int, int]]] = {}
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(0.02):
            self.look()

    def look(self) -> None:
        """Looks once."""
        for pattern in ("cells/*.json", "checkpoints/*"):
            for path in self.folder.glob(pattern):
                name = path.relative_to(self.folder).as_posix()
                if path.name.startswith(".") or ".partial." in path.name:
                    continue
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                self.versions.setdefault(name, set()).add((found.st_ino, found.st_mtime_ns))

    def end(self) -> None:
        """Looks no more."""
        self.over.set()
        self.thread.join()
        self.look()


def torture(cluster: Cluster, suite: Path, whole: Path, most: int, random: Random) -> Round:
    """One run, with up to so many kills, into a new folder."""
    done = Round()
    with tempfile.TemporaryDirectory(prefix="torture-") as place:
        folder = Path(place) / "out"
        folder.mkdir()
        watch, mark = Watch(folder), uuid.uuid4().hex
        driver = _drive(cluster, suite, folder, mark)
        moved, seen = time.monotonic(), (0, 0)
        while driver.poll() is None:
            now_seen = (len(files(folder)), done.workers + done.drivers)
            if now_seen != seen:
                moved, seen = time.monotonic(), now_seen
            if time.monotonic() - moved > LIMIT:
                driver.send_signal(signal.SIGABRT)  # so that it says where it was
                driver.wait()
                break
            time.sleep(random.uniform(0.2, 3.0))
            nannies = cluster.nannies
            if done.workers + done.drivers >= most or driver.poll() is not None:
                continue
            if not files(folder) and random.random() < 0.7:
                continue  # it has not begun
            if random.random() < DRIVERS:
                done.drivers += 1
                for pid in _marked(mark):
                    os.kill(pid, signal.SIGKILL)
                driver.wait()
                driver = _drive(cluster, suite, folder, mark)
            elif workers := [w for w in nannies.children() if _works(w)]:
                done.workers += 1
                random.choice(workers).kill()
        watch.end()
        sizes = {name: len(data) for name, data in records(whole).items()}
        end = records(folder)
        done.failed = int(driver.returncode != 0)
        for cell in load_cells(folder / "cells")[0]:
            if cell.status != "ok":
                print(f"{cell.plan}: {cell.status}: {cell.reason}", file=sys.stderr)
        done.torn = torn(folder, sizes)
        done.lost = sum(name not in end for name in watch.versions)
        done.doubled = sum(len(versions) > 1 for versions in watch.versions.values())
        done.missing = len(files(whole) - files(folder))
        done.litter = len(files(folder) - files(whole))
        hashes = {api.board(str(suite), each).board_hash for each in (folder, whole)}
        done.differs = int(len(hashes) != 1)
    return done


def _works(process: object) -> bool:
    """Whether a child of the nannies' process is a worker, and not what tracks resources."""
    line = " ".join(process.cmdline())  # type: ignore[attr-defined]
    return "spawn_main" in line


def _drive(cluster: Cluster, suite: Path, folder: Path, mark: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vsml_bench", *RUN, str(suite), "--out", str(folder)]
    return subprocess.Popen(
        [*command, "--executor", f"dask:{cluster.address}"],
        env={**os.environ, MARK: mark, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def table(rounds: list[Round]) -> str:
    """One line for each run, and one for all, as Markdown."""
    names = list(vars(Round()))
    lines = [{"run": str(n + 1), **vars(done)} for n, done in enumerate(rounds)]
    lines.append({"run": "all", **{n: sum(getattr(r, n) for r in rounds) for n in names}})
    return str(tabulate(lines, headers="keys", tablefmt="github"))


def main() -> int:
    """Prints the table; exit code 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=5, help="most kills in one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/faults/torture_dask.md"))
    kept = "what was found, which is not done again (default: %(default)s)"
    parser.add_argument("--kept", type=Path, default=Path("runs/torture_dask.jsonl"), help=kept)
    options = parser.parse_args()
    options.kept.parent.mkdir(parents=True, exist_ok=True)
    options.kept.touch()
    rounds = [Round(**json.loads(line)) for line in options.kept.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        shared = Path(name)
        suite, whole = shared / "killed.toml", shared / "whole"
        suite.write_text(SUITE)
        subprocess.run(
            [sys.executable, "-m", "vsml_bench", *RUN, str(suite), "--out", str(whole)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with two_workers(shared) as cluster:
            while (left := options.kills - kills(rounds)) > 0:
                random = Random(f"{options.seed} {len(rounds)}")
                done = torture(cluster, suite, whole, min(left, options.each), random)
                rounds.append(done)
                with options.kept.open("a", encoding="utf-8") as file:
                    file.write(f"{json.dumps(asdict(done))}\n")
                print(done, file=sys.stderr, flush=True)
    text = f"# {kills(rounds)} kills on a Dask cluster\n\n{table(rounds)}\n"
    write_atomically(options.out, text.encode())
    print(text)
    faults = ("lost", "doubled", "torn", "missing", "litter", "failed", "differs")
    return 1 if any(getattr(r, name) for r in rounds for name in faults) else 0


def kills(rounds: Sequence[Round]) -> int:
    """In all of them."""
    return sum(done.workers + done.drivers for done in rounds)


if __name__ == "__main__":
    sys.exit(main())
