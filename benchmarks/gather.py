"""`python -m benchmarks.gather`: what it costs per meta-update that several processes share it, and
how long its pieces must take for more processes to pay; written to results/scale.

Processes are on this machine, and exchange by Gloo. What they compute is left out: each only waits
for the others and gets their rows, and takes the mark of its meta-parameters.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.speed import machine, parser, peak_flops, publish
from vsml_bench import paths
from vsml_bench.evaluation.executors import LocalExecutor, usable_cores
from vsml_bench.evaluation.tasks import Task
from vsml_bench.meta_training.peers import Peers

PROCESSES = (2, 3, 4)
REPEATS, WARM = 60, 5


@dataclass(frozen=True)
class Gathered:
    """What a meta-update exchanges."""

    what: str
    pieces: int
    width: int
    """Numbers of a piece's row."""
    parameters: int
    """Meta-parameters, of which every process takes the mark."""


CASES = (
    Gathered("ES, losses of 1,024 pairs in chunks of 8, 2,400 meta-parameters", 128, 32, 2_400),
    Gathered("BPTT, gradients of 16 micro-batches, 2,400 meta-parameters", 16, 2_410, 2_400),
    Gathered("BPTT, gradients of 16 micro-batches, 500,000 meta-parameters", 16, 500_010, 500_000),
)


def measure(
    number: int, count: int, port: int, report: Callable[[float], None]
) -> tuple[tuple[float, ...], ...]:
    """Seconds of each exchange of each case, in one of the processes."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    peers, found = Peers(number, count, number, count), []
    with peers.joined(torch.device("cpu")):
        for case in CASES:
            own = [torch.ones(case.width, dtype=torch.float64) for _ in peers.share(case.pieces)]
            parameters, seconds = torch.ones(case.parameters), []
            for _ in range(WARM + REPEATS):
                peers.decided(True)  # all begin at once
                began = time.perf_counter()
                mark = zlib.crc32(parameters.numpy().tobytes())
                sum(peers.gather(own, case.pieces, mark), torch.zeros_like(own[0]))
                seconds.append(time.perf_counter() - began)
            found.append(tuple(seconds[WARM:]))
    return tuple(found)


def rows(count: int) -> list[dict[str, Any]]:
    """All cases with so many processes; an exchange is over when the last has ended it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tasks = [
        Task(number, "benchmarks.gather:measure", (number, count, port), 300.0, 1.0)
        for number in range(count)
    ]
    found = list(dict(LocalExecutor(count, progress=False).run(tasks, "")).values())
    result = []
    for index, case in enumerate(CASES):
        slowest = [max(each) for each in zip(*(of[index] for of in found), strict=True)]
        median = statistics.median(slowest)
        result.append(
            {
                **asdict(case),
                "processes": count,
                "kib_sent": -(-case.pieces // count) * (1 + case.width) * 8 / 1024,
                "seconds": median,
                "seconds_of_slow_tenth": statistics.quantiles(slowest, n=10)[-1],
                "pays_from_seconds": median * count / (count - 1),
            }
        )
    return result


def as_markdown(document: dict[str, Any]) -> str:
    """The table for people."""
    table = [
        (
            r["what"],
            r["processes"],
            f"{r['kib_sent']:,.0f}",
            f"{1e3 * r['seconds']:.2f}",
            f"{1e3 * r['seconds_of_slow_tenth']:.2f}",
            f"{1e3 * r['pays_from_seconds']:.2f}",
        )
        for r in document["rows"]
    ]
    heads = ("what is gathered", "processes", "KiB each sends", "ms", "ms of the slowest tenth")
    on = document["machine"]
    lines = [
        "# A gather per meta-update",
        "",
        f"Measured by `python -m benchmarks.gather` on {on['device']} with {document['cores']} "
        f"usable cores, all processes on one machine, by Gloo, at commit {on['commit'][:10]}; "
        f"median of {REPEATS}. With n processes a meta-update whose pieces take t in one takes t/n "
        "and a gather, which pays from t = gather x n / (n - 1) on. Where there are more processes "
        "than cores, they wait for a core as well.",
        "",
        tabulate(table, (*heads, "pays from pieces of, ms"), tablefmt="github"),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures all cases with 2, 3 and 4 processes and writes what it finds."""
    options = parser(main.__doc__)
    options.set_defaults(out=paths.results() / "scale")
    out = options.parse_args().out
    found = [row for count in PROCESSES for row in rows(count)]
    document = {"machine": machine(peak_flops()), "cores": usable_cores(), "rows": found}
    publish(document, as_markdown, out, "gather")


if __name__ == "__main__":
    main()
