"""Kills commands at random moments and looks at what is left: `make torture`.

Each round runs one command in a folder of its own, kills its whole process group, one of its
workers or its parent alone, and then runs the same command again, to its end. Afterwards the
folder and that of temporary files must hold the same as after an undisturbed run, with the same
outcome, and no process of the killed run may be alive. What each round found is kept in a file, so
that it can be killed as well, and goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from tabulate import tabulate

from tools.torture_commands import SUITE, Command, commands, files, records, served, torn
from vsml_bench.errors import VsmlBenchError

MARK = "VSML_BENCH_TORTURE"
"""A variable by which processes of a round are known, whoever their parent is."""
GRACE = 5.0
"""Seconds in which processes of a killed run must end."""
LIMIT = 300.0
"""Seconds after which a run hangs."""
SIGNALS = {
    "group": (signal.SIGKILL, signal.SIGTERM),
    "worker": (signal.SIGKILL,),
    "parent": (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
}


@dataclass(frozen=True)
class Round:
    """What one kill has done."""

    command: str
    target: str
    hit: bool
    """Whether it was still running."""
    lost: int = 0
    """Records that were there before the kill and are not after it, or after the next run."""
    torn: int = 0
    """Records that cannot be read after the kill."""
    alive: int = 0
    """Processes."""
    litter: int = 0
    """Files after the next run that an undisturbed run does not leave."""
    hung: bool = False
    failed: bool = False
    """Whether the next run does not end with exit code 0."""
    differs: bool = False
    """Whether the next run's outcome is another than that of an undisturbed run."""

    @property
    def fault(self) -> bool:
        """Whether anything is wrong."""
        counts = self.lost + self.torn + self.alive + self.litter
        return bool(counts) or self.hung or self.failed or self.differs


@dataclass(frozen=True)
class Place:
    """Where a command runs."""

    folder: Path

    @property
    def out(self) -> Path:
        """Of its results."""
        return self.folder / "out"

    @property
    def temporary(self) -> Path:
        """Of its temporary files."""
        return self.folder / "t"

    def made(self, prepare: Callable[[Path], None]) -> Place:
        """Both folders, with what the command needs."""
        for folder in (self.folder, self.out, self.temporary):
            folder.mkdir(exist_ok=True)
        prepare(self.out)
        return self

    def names(self) -> set[str]:
        """All files of results, and what is in the other folder."""
        return files(self.out) | {f"t/{path.name}" for path in self.temporary.iterdir()}


def _start(command: Command, place: Place, mark: str) -> subprocess.Popen[bytes]:
    places = {
        "TMPDIR": str(place.temporary),
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir()) / "torture-compiled"),
    }
    return subprocess.Popen(
        [sys.executable, *command.line(place.out)],
        env={**os.environ, **places, MARK: mark, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _marked(mark: str) -> list[int]:
    """Living processes of a round."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and wanted in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def _wait(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends."""
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        return False
    return True


def torture(
    command: Command,
    target: str,
    seconds: float,
    prepare: Callable[[Path], None],
    whole: Place,
    random: Random,
) -> Round:
    """One round. seconds: of an undisturbed run, which was in `whole`."""
    # a short name, since those of sockets have at most 100 characters
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as name:
        place = Place(Path(name)).made(prepare)
        folder = place.out
        before_all = files(folder)
        mark = uuid.uuid4().hex
        process = _start(command, place, mark)
        _wait_for_a_moment(process, folder, before_all, seconds, random)
        seen = records(folder)
        hit = process.poll() is None
        _kill(process, target, mark, random)
        hung = not _wait(process)
        alive = _left(mark)
        for pid in _marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        sizes = {name: len(data) for name, data in records(whole.out).items()}
        broken, after = torn(folder, sizes), records(folder)
        again = _start(command, place, mark)
        hung = not _wait(again) or hung
        if again.poll() is None:
            again.kill()
            again.wait()
        end = records(folder)
        lost = sum(name not in after or name not in end for name in seen)
        differs = True
        with contextlib.suppress(VsmlBenchError, OSError):
            differs = command.outcome(folder) != command.outcome(whole.out)
        litter = len(place.names() - whole.names())
        return Round(
            command.name,
            target,
            hit,
            lost,
            broken,
            alive,
            litter,
            hung,
            again.returncode != 0,
            differs,
        )


def _wait_for_a_moment(
    process: subprocess.Popen[bytes],
    folder: Path,
    before: set[str],
    seconds: float,
    random: Random,
) -> None:
    """Half of the time any moment, else one after the first file was written."""
    if random.random() < 0.5:
        time.sleep(random.uniform(0, seconds))
        return
    while process.poll() is None and files(folder) <= before:
        time.sleep(0.002)
    time.sleep(random.uniform(0, seconds / 4) * random.random())


def _kill(process: subprocess.Popen[bytes], target: str, mark: str, random: Random) -> None:
    sent = random.choice(SIGNALS[target])
    with contextlib.suppress(ProcessLookupError):
        if target == "group":
            os.killpg(process.pid, sent)
        elif target == "parent":
            process.send_signal(sent)
        else:
            workers = [pid for pid in _marked(mark) if pid != process.pid]
            os.kill(random.choice(workers or [process.pid]), sent)  # some commands have none


def _left(mark: str) -> int:
    end = time.monotonic() + GRACE
    while _marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return len(_marked(mark))


def table(rounds: Sequence[Round]) -> str:
    """Counts by command and by what was killed, as Markdown."""
    keys = dict.fromkeys((round_.command, round_.target) for round_ in rounds)
    lines = []
    for command, target in [*keys, ("all", "")]:
        own = [r for r in rounds if command == "all" or (r.command, r.target) == (command, target)]
        counted = {
            "kills": len(own),
            "while running": sum(r.hit for r in own),
            **{name: sum(getattr(r, name) for r in own) for name in COUNTED},
        }
        lines.append({"command": command, "killed": target, **counted})
    return str(tabulate(lines, headers="keys", tablefmt="github"))


COUNTED = ("lost", "torn", "alive", "litter", "hung", "failed", "differs")


def main() -> int:
    """Prints the table; exit code 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="rounds side by side")
    kept = "what was found, which is not done again (default: %(default)s)"
    parser.add_argument("--kept", type=Path, default=Path("runs/torture.jsonl"), help=kept)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as name:
        rounds = _rounds(Path(name), options.kills, options.seed, options.jobs, options.kept)
    print(f"# {len(rounds)} kills\n\n{table(rounds)}")
    return 1 if any(r.fault for r in rounds) else 0


def _rounds(shared: Path, kills: int, seed: int, jobs: int, kept: Path) -> list[Round]:
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()
    lines = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
    known = {(line["seed"], line["number"]): Round(**line["round"]) for line in lines}
    (shared / "killed.toml").write_text(SUITE)
    (shared / "served").mkdir()
    with served(shared / "served") as (mirror, sums), ThreadPoolExecutor(jobs) as pool:
        made = commands(shared, mirror, sums)
        wholes = {command.name: Place(shared / f"whole-{n}") for n, command in enumerate(made)}

        def prepare(command: Command, folder: Path) -> None:
            if command.name == "leaderboard --write":  # it needs cells
                (folder / "cells").symlink_to(wholes["run"].out / "cells")

        seconds = {}
        for command in made:
            whole = wholes[command.name].made(partial(prepare, command))
            began = time.monotonic()
            if _start(command, whole, "whole").wait() != 0:
                raise SystemExit(f"{command.name} fails without a kill")
            seconds[command.name] = time.monotonic() - began
        drawn = Random(seed)

        def one(number: int, target: str, chance: float) -> Round:
            if (seed, number) in known:
                return known[seed, number]
            command = made[number % len(made)]
            whole, ready = wholes[command.name], partial(prepare, command)
            done = torture(command, target, seconds[command.name], ready, whole, Random(chance))
            line = json.dumps({"seed": seed, "number": number, "round": asdict(done)})
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            print(line, file=sys.stderr, flush=True)
            return done

        started = [
            pool.submit(one, number, drawn.choice(list(SIGNALS)), drawn.random())
            for number in range(kills)
        ]
        return [future.result() for future in started]


if __name__ == "__main__":
    sys.exit(main())
