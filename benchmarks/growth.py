"""`python -m benchmarks.growth`: how time and memory of VSML grow with the length and number of
lifetimes, with the population and with the size of the network; written to results/speed.

Each size runs in a process of its own, whose peak memory is then that size's. Slopes are those of a
straight line through the logarithms: 1 is linear growth, less is a fixed cost that larger sizes
share.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.case import Case
from benchmarks.cases import start as prepare
from benchmarks.speed import machine, parser, peak_flops, publish
from benchmarks.vsml_cases import vsml_evolution, vsml_forward, vsml_meta_gradient
from vsml_bench.provenance import peak_memory_bytes, reset_peak_memory

REPEATS = 5


@dataclass(frozen=True)
class Axis:
    """What grows, and the case at a size."""

    name: str
    sizes: tuple[int, ...]
    case: Callable[[int], Case]


AXES = (
    Axis(
        "steps of a lifetime (64 x 10, 8 lifetimes)",
        (500, 1000, 2000, 4000),
        lambda size: vsml_forward(64, lifetimes=8, steps=size, goal=None),
    ),
    Axis(
        "lifetimes (64 x 10, 100 steps)",
        (16, 32, 64, 128),
        lambda size: vsml_forward(64, lifetimes=size, steps=100, goal=None),
    ),
    Axis(
        "inputs (x 10 outputs, 8 lifetimes, 100 steps)",
        (98, 196, 392, 784),
        lambda size: vsml_forward(size, lifetimes=8, steps=100, goal=None),
    ),
    Axis(
        "population (ES step, 64 x 10, 50 steps)",
        (32, 64, 128, 256),
        lambda size: vsml_evolution(64, population=size, steps=50, goal=None),
    ),
    Axis(
        "steps of a meta-gradient (64 x 10, 8 lifetimes)",
        (50, 100, 200, 400),
        lambda size: vsml_meta_gradient(64, lifetimes=8, steps=size, goal=None),
    ),
)


def measure(axis_index: int, size: int) -> tuple[float, float]:
    """Seconds of a run, the quickest of a few, and MiB by which its data, states and results raise
    the process's peak."""
    axis = AXES[axis_index]
    prepare(axis.case(axis.sizes[0] // 2), 0)()  # loads what is loaded once
    reset_peak_memory()
    before = peak_memory_bytes()
    run = prepare(axis.case(size), 0)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds), (peak_memory_bytes() - before) / 2**20


def grown() -> Iterator[dict[str, Any]]:
    """One row per axis."""
    context = multiprocessing.get_context("spawn")
    for index, axis in enumerate(AXES):
        measured = []
        for size in axis.sizes:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                measured.append(pool.submit(partial(measure, index, size)).result())
        seconds, mebibytes = (list(column) for column in zip(*measured, strict=True))
        yield {
            "axis": axis.name,
            "sizes": list(axis.sizes),
            "seconds": seconds,
            "mebibytes": mebibytes,
            "slope_of_seconds": slope(axis.sizes, seconds),
            "slope_of_mebibytes": slope(axis.sizes, mebibytes),
        }


def slope(sizes: tuple[int, ...], values: list[float]) -> float | None:
    """Of the straight line through the logarithms; None where a value is 0."""
    if min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def as_markdown(document: dict[str, Any]) -> str:
    """The table for people."""
    table = []
    for r in document["rows"]:
        for what, unit, form in (("seconds", "s", ".3f"), ("mebibytes", "MiB", ".1f")):
            points = " | ".join(format(value, form) for value in r[what])
            found = r[f"slope_of_{what}"]
            table.append(
                (
                    r["axis"] if unit == "s" else "",
                    ", ".join(map(str, r["sizes"])) if unit == "s" else "",
                    points.replace(" | ", ", ") + f" {unit}",
                    "does not grow" if found is None else f"{found:.2f}",
                )
            )
    lines = [
        "# Growth",
        "",
        f"Measured by `make growth` on {document['machine']['device']} at commit "
        f"{document['machine']['commit'][:10]}. Slopes are of logarithms: 1 is linear. "
        "Memory is by how much a run and its data raise the peak of its process.",
        "",
        tabulate(table, ("what grows", "to", "cost", "slope"), tablefmt="github"),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures all axes and writes what it finds."""
    out = parser(main.__doc__).parse_args().out
    document = {"machine": machine(peak_flops()), "rows": list(grown())}
    publish(document, as_markdown, out, "growth")


if __name__ == "__main__":
    main()
