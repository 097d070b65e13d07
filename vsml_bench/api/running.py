"""Runs cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsml_bench import paths
from vsml_bench.api.planning import cost_model, made_before, plan, results_folder
from vsml_bench.evaluation.executors import Executor, LocalExecutor
from vsml_bench.evaluation.processes import start_server
from vsml_bench.evaluation.runner import (
    Policy,
    RunOptions,
    RunReport,
    run_cells,
)
from vsml_bench.evaluation.sharing import shard_of


def run(
    suite: str,
    *,
    out: Path | str | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    jobs: int | None = None,
    policy: Policy = "only-missing",
    progress: bool = True,
    command: str = "",
    executor: Executor | None = None,
    shard: tuple[int, int] = (1, 1),
    scale: float = 1.0,
    **selection: Any,
) -> RunReport:
    """Runs a suite's cells and stores them in `out` (default `runs/<suite>`).

    selection: `splits`, `seeds`: keep only these of the suite's. `learners`: run these instead of
    the suite's own, names or `path/to/file.py:ClassName`; `extra_learners`: run these as well.
    `overrides`: configuration fields of the learners that run. precision: of the meta-tests,
    "float32" or "bfloat16" (mixed). policy: see `RunOptions`. executor: who does the work, instead
    of `jobs` processes of this machine. shard: (3, 20) takes the third of twenty parts of the
    cells, the same whatever is done already. scale: of all budgets, see `suites.scaled`.
    Raises VsmlBenchError for bad input, before anything is run.
    """
    if executor is None:
        executor = LocalExecutor(jobs, progress)
        if policy != "never":
            start_server()  # while the plan is made
    published, *besides = made_before(suite)
    options = RunOptions(
        folder=results_folder(suite, out, scale),
        published=published,
        besides=tuple(besides),
        root=paths.given(data_root),
        device=device,
        precision=precision,
        policy=policy,
        executor=executor,
        command=command,
    )
    plans = shard_of(plan(suite, scale=scale, **selection), *shard)
    try:
        return run_cells(plans, options, cost_model(suite))
    finally:
        executor.close()
