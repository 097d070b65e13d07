"""`python -m benchmarks.speed`: the speed table, vsml-bench beside its references, measured in one
run on this machine; written to results/speed as Markdown and JSON.

The two sides of a case run in processes of their own and take turns, so that whatever else the
machine does hits both; the ratio is the median over the rounds. Seconds mean little elsewhere,
ratios more, and the share of the arithmetic bound says what is left.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.case import Case
from benchmarks.cases import CASES, start
from vsml_bench import paths
from vsml_bench.execution import device_name
from vsml_bench.provenance import git_state, versions
from vsml_bench.storage import write_atomically

ROUNDS = 7
SECONDS_PER_CASE = 25.0
"""After which no further round of a case begins, but for the first three."""
SECONDS_PER_TURN = 0.25
"""A side runs until so many have passed, once at least: what is over in milliseconds would
else be timed as it is found, with cold caches and sleeping threads, and never as in a loop."""


@dataclass(frozen=True)
class Timings:
    """Seconds of a run in each round, and of each side's first, which compiles what there is."""

    ours: list[float]
    reference: list[float]
    first_ours: float
    first_reference: float


def measure(case: Case) -> Timings:
    """Runs both sides of a case in turns."""
    sides = [_Side(case.name, side) for side in (0, 1)]
    try:
        first = [side.run(0.0) for side in sides]
        rounds: list[tuple[float, float]] = []
        began = time.perf_counter()
        while len(rounds) < 3 or (
            len(rounds) < ROUNDS and time.perf_counter() - began < SECONDS_PER_CASE
        ):
            order = (0, 1) if len(rounds) % 2 == 0 else (1, 0)
            taken = {side: sides[side].run(SECONDS_PER_TURN) for side in order}
            rounds.append((taken[0], taken[1]))
    finally:
        for side in sides:
            side.end()
    ours, reference = (list(times) for times in zip(*rounds, strict=True))
    return Timings(ours, reference, *first)


class _Side:
    """One side of a case, in a process of its own."""

    def __init__(self, name: str, side: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(name, side, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, at_least: float) -> float:
        """Seconds of one run, the mean of as many as take so many seconds."""
        self.connection.send(at_least)
        seconds: float = self.connection.recv()
        return seconds

    def end(self) -> None:
        self.connection.close()
        self.process.join()


def _serve(name: str, side: int, connection: Connection) -> None:
    case = next(case for case in CASES if case.name == name)
    run = start(case, side)
    while True:
        try:
            at_least = connection.recv()
        except EOFError:
            return
        runs, seconds, began = 0, 0.0, time.perf_counter()
        while runs == 0 or seconds < at_least:
            run()
            runs, seconds = runs + 1, time.perf_counter() - began
        connection.send(seconds / runs)


def peak_flops() -> float:
    """Floating-point operations per second that PyTorch's matrix product reaches here, in float32
    on all cores: the bound that shares are of."""
    size, best = 1536, float("inf")
    a, b = torch.rand(size, size), torch.rand(size, size)
    for _ in range(8):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def row(case: Case, timings: Timings, peak: float) -> dict[str, Any]:
    """One row of the table."""
    ratios = [
        reference / ours for ours, reference in zip(timings.ours, timings.reference, strict=True)
    ]
    ours, reference = statistics.median(timings.ours), statistics.median(timings.reference)
    cores = torch.get_num_threads()
    bound = reference if case.flops is None else case.flops / peak * cores / (case.threads or cores)
    return {
        "case": case.name,
        "ours": case.count / ours,
        "reference": case.count / reference,
        "unit": f"{case.unit}/s",
        "ratio": statistics.median(ratios),
        "goal": case.goal,
        "of_bound": bound / ours,
        "against": case.reference,
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "rounds": len(ratios),
        "first_run_seconds": {"ours": timings.first_ours, "reference": timings.first_reference},
    }


def machine(peak: float) -> dict[str, Any]:
    """What the figures were measured on."""
    commit, dirty = git_state()
    return {
        "device": device_name(torch.device("cpu")),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": torch.get_num_threads(),
        "gflops": peak / 1e9,
        "versions": versions(),
        "commit": commit,
        "dirty": dirty,
    }


def as_markdown(document: dict[str, Any]) -> str:
    """The table for people."""
    on = document["machine"]
    table = [
        (
            r["case"],
            r["against"],
            f"{r['ours']:,.0f}",
            f"{r['reference']:,.0f}",
            r["unit"],
            f"{r['ratio']:.2f}x ({r['lowest_ratio']:.2f} to {r['highest_ratio']:.2f})",
            "" if r["goal"] is None else f"{r['goal']:.2f}x",
            "" if r["goal"] is None else "met" if r["ratio"] >= r["goal"] else "missed",
            f"{100 * r['of_bound']:.0f} %",
        )
        for r in document["rows"]
    ]
    headers = ("case", "against", "ours", "reference", "", "ratio", "goal", "", "of the bound")
    lines = [
        "# Speed",
        "",
        f"Measured by `make speed` on {on['device']} ({on['vectors']}, {on['cores']} cores, "
        f"{on['gflops']:.0f} GFLOP/s in a matrix product) at commit {on['commit'][:10]}"
        f"{' with changes' if on['dirty'] else ''}, PyTorch {on['versions']['torch']}.",
        "Ratios are medians over rounds in which both sides took turns, with the lowest and the "
        "highest round.",
        "The bound is the arithmetic at the rate of a matrix product; for the runner, the bare "
        "unroll.",
        "",
        tabulate(table, headers, tablefmt="github", disable_numparse=True),
        "",
    ]
    return "\n".join(lines)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a command that writes a table, with the option --out for the folder."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--out", type=Path, default=paths.results() / "speed")
    return made


def write(document: dict[str, Any], path: Path) -> None:
    """Writes the JSON file `path`, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(document, indent=1).encode() + b"\n")


def publish(
    document: dict[str, Any], as_markdown: Callable[[dict[str, Any]], str], out: Path, name: str
) -> None:
    """Writes `out`/`name`.json and .md, and prints the latter."""
    text = as_markdown(document)
    write(document, out / f"{name}.json")
    write_atomically(out / f"{name}.md", text.encode())
    print(text)


def main() -> None:
    """Measures all cases, or those whose names contain an argument, and writes what it finds."""
    options = parser(main.__doc__)
    options.add_argument("cases", nargs="*", help="parts of names; all cases where there is none")
    arguments = options.parse_args()
    peak = peak_flops()
    rows = []
    for case in CASES:
        if not arguments.cases or any(part in case.name for part in arguments.cases):
            rows.append(row(case, measure(case), peak))
            print(f"{case.name}: {rows[-1]['ratio']:.2f}x of {case.reference}", flush=True)
    document = {"machine": machine(peak), "rows": rows}
    publish(document, as_markdown, arguments.out, "speed")


if __name__ == "__main__":
    main()
