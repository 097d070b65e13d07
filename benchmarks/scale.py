"""`python -m benchmarks.scale`: what an engine costs per task, from which task length on more
machines pay, and how far `plan --workers` is from a real run; written to results/scale."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tabulate import tabulate

from benchmarks.speed import publish
from tests.clusters import two_workers
from vsml_bench import api
from vsml_bench.evaluation.cell import load_cells
from vsml_bench.evaluation.dask_executor import DaskExecutor
from vsml_bench.evaluation.executors import Executor, LocalExecutor
from vsml_bench.evaluation.makespan import makespan, missing_work, speeds
from vsml_bench.evaluation.runner import CostModel
from vsml_bench.evaluation.tasks import Task
from vsml_bench.execution import choose_device, device_name
from vsml_bench.provenance import git_state, versions

TASKS = 20
NOTHING = "builtins:bool"
"""What a task does that is over at once."""
GOOD = 0.9
"""The share of a worker's time that is to go into tasks."""
SUITE = """description = "timed"
splits = ["digits-held-out", "digits-to-random"]
learners = ["1-nn", "sgd-linear", "adam-mlp", "vsml"]
seeds = [0, 1]
lifetimes = 8
steps = 500
[recipes.vsml]
phases = [{steps = 40, lifetime = 50, learning_rate = 0.01}]
"""


def overhead(executor: Executor) -> dict[str, float]:
    """Seconds from one result of one worker to the next, in the middle and of the quickest tenth,
    which other work on the machine has disturbed least, and of this process's CPU per task, once
    everything has started."""
    tasks = [Task(n, NOTHING, (), None, 1.0) for n in range(TASKS)]
    list(executor.run(tasks[:2], ""))
    began, worked = time.perf_counter(), time.process_time()
    moments = [began]
    for _, result in executor.run(tasks, ""):
        assert result is True, result
        moments.append(time.perf_counter())
    cpu = time.process_time() - worked
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    return {
        "seconds": median(gaps),
        "undisturbed": quantiles(gaps, n=10)[0],
        "driver": cpu / TASKS,
    }


def engines() -> list[dict[str, Any]]:
    """What each engine costs per task."""
    rows = []
    made: dict[str, Executor] = {
        "local": LocalExecutor(1, progress=False),
        "dask": DaskExecutor(jobs=1, progress=False),
    }
    for name, executor in made.items():
        rows.append({"engine": name, **overhead(executor)})
        executor.close()
    return rows


def simulation() -> dict[str, Any]:
    """A run on two Dask workers beside what is foretold of it: beforehand, from a run on one core,
    and afterwards, from the seconds that its own tasks took. The latter says how good the
    simulation is, whatever else the machine did."""
    from distributed import Client, get_task_stream

    with tempfile.TemporaryDirectory() as place:
        suite = Path(place) / "timed.toml"
        suite.write_text(SUITE)
        one, many = Path(place) / "one", Path(place) / "many"
        alone = LocalExecutor(1, progress=False)
        began = time.perf_counter()
        api.run(str(suite), out=one, device="cpu", executor=alone)
        in_turn = time.perf_counter() - began
        cells = load_cells(one / "cells")[0]
        found = speeds(CostModel(cells), cells, cells)
        work, unknown = missing_work(api.plan(str(suite)), found, (), ())
        with two_workers(Path(place)) as cluster, Client(cluster.address) as client:
            executor = DaskExecutor(cluster.address, progress=False)
            executor.client.wait_for_workers(2)
            list(executor.run([Task(n, NOTHING, (), None, 1.0) for n in range(4)], ""))
            with get_task_stream(client) as stream:
                began = time.perf_counter()
                api.run(str(suite), out=many, device="cpu", executor=executor)
                took = time.perf_counter() - began
    own = [replace(task, expected_seconds=spent(task, stream.data)) for task in work]
    return {
        "tasks": len(work),
        "unknown": unknown,
        "one_foretold": makespan(work, 1).hours * 3600,
        "one_took": in_turn,
        "foretold": makespan(work, 2).hours * 3600,
        "foretold_from_own": makespan(own, 2).hours * 3600,
        "seconds_of_own": sum(task.expected_seconds for task in own),
        "took": took,
    }


def spent(task: Task, stream: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of a worker that a task took, by what Dask's scheduler has kept."""
    return sum(
        float(span["stop"]) - float(span["start"])
        for record in stream
        if str(record["key"]).startswith((f"train-{task.key}-", f"cell-{task.key}-"))
        for span in record["startstops"]
        if span["action"] == "compute"
    )


def text(document: dict[str, Any]) -> str:
    """The tables as Markdown."""
    where, by_name = document["machine"], {row["engine"]: row for row in document["engines"]}
    local, dask = by_name["local"]["undisturbed"], by_name["dask"]["undisturbed"]
    table = [
        {
            "engine": row["engine"],
            "s per task, median": f"{row['seconds']:.3f}",
            "of the quickest tenth": f"{row['undisturbed']:.3f}",
            f"{GOOD:.0%} busy from": f"{row['undisturbed'] * GOOD / (1 - GOOD):.1f} s",
            "CPU of the driver": f"{row['driver'] * 1e3:.1f} ms",
            "workers busy per second of task": f"{1 / row['driver']:.0f}",
        }
        for row in document["engines"]
    ]
    run = document["simulation"]
    foretold = [
        {
            "from seconds per task of": source,
            "foretold": f"{run[name]:.1f} s",
            "error": f"{run[name] / run['took'] - 1:+.0%}",
        }
        for name, source in (
            ("foretold_from_own", "this run itself"),
            ("foretold", "a run before, on one core"),
        )
    ]
    least = dask - 2 * local
    pays = f"from tasks of {least:.1f} s on" if least > 0 else "however short tasks are"
    return f"""# What an engine costs

Measured by `make scale` on {where["cores"]} cores of {where["device"]}, with a load of
{where["load"]:.1f} before it began, from other work, at commit {where["commit"][:10]}.

{tabulate(table, headers="keys", tablefmt="github")}

A task's process is most of it. What follows is of the quickest tenth, since other work slows the
rest down. A second machine, with Dask on both, is quicker than one without it {pays}.
One driver keeps as many workers busy as the last column says, times the seconds of a task.

## What `plan --workers` foretells

A run of {run["tasks"]} tasks on two workers took {run["took"]:.1f} s.

{tabulate(foretold, headers="keys", tablefmt="github")}

The first line is the error of the simulation. The other one has the error of measured times as
well: other work on the same cores takes its share in one run and not in the other. The run in turn
took {run["one_took"]:.1f} s, with {run["one_foretold"]:.1f} s foretold.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/scale"))
    options = parser.parse_args(arguments)
    commit, dirty = git_state()
    load = os.getloadavg()[0]
    document = {
        "machine": {
            "device": device_name(choose_device("cpu")),
            "cores": os.cpu_count(),
            "load": load,
            "commit": commit,
            "dirty": dirty,
            "versions": versions(),
        },
        "engines": engines(),
        "simulation": simulation(),
    }
    publish(document, text, options.out, "scale")


if __name__ == "__main__":
    main()
