"""The verb `introspect`: how one learner learns one split, drawn beside two that everyone knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vsml_bench import api, cards, paths
from vsml_bench.boards.groups import groups_of
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import LocalExecutor
from vsml_bench.evaluation.plan import plan_suite
from vsml_bench.evaluation.runner import RunOptions, run_cells
from vsml_bench.studies.introspection.board import curves
from vsml_bench.studies.introspection.picture import write_introspection
from vsml_bench.suites import find_suite

BESIDE = ("sgd-linear", "1-nn")
"""Learners that are drawn beside the one that is asked for."""


def introspect(
    learner: str,
    split: str,
    *,
    seed: int = 0,
    lifetimes: int | None = None,
    steps: int | None = None,
    out: Path | str = "runs/introspect",
    data_root: Path | str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = True,
    command: str = "",
) -> list[Path]:
    """Looks at how a learner learns, beside SGD and 1-NN on the same streams, and returns the files
    with pictures and numbers that it wrote to `out`.

    seed: of the meta-training. lifetimes, steps: as in the suite `introspection` where they are
    left out. Checkpoints and tuning records are looked for in `out`, among the published ones and
    in runs/checkpoints; VsmlBenchError where one is in none of them.
    """
    suite = find_suite("introspection")
    chosen = dataclasses.replace(
        suite,
        splits=(split,),
        learners=(learner, *BESIDE),
        seeds=(seed,),
        lifetimes=suite.lifetimes if lifetimes is None else lifetimes,
        steps=suite.steps if steps is None else steps,
        recipes={},
    )
    cards.find_one(learner)
    plans = plan_suite(chosen, cards.find_all(chosen.learners))
    options = RunOptions(
        folder=Path(out),
        published=paths.results() / "checkpoints",
        besides=(Path("runs") / "checkpoints",),
        root=Path(data_root) if data_root is not None else None,
        device=device,
        policy="only-cached",
        executor=LocalExecutor(jobs, progress),
        command=command,
    )
    report = run_cells(plans, options, api.cost_model(suite.name))
    for missing in report.missing:
        raise VsmlBenchError(
            f"{missing}: neither meta-trained nor tuned yet; run `vsml-bench meta-train --split "
            f"{split} --learner {missing.job.learner.reference} --seed {missing.job.seed}` first."
        )
    cells = {cell.plan.learner: cell for cell in report.cells}
    for cell in cells.values():
        if cell.status != "ok":
            raise VsmlBenchError(f"{cell.plan}: {cell.status}: {cell.reason.splitlines()[-1]}")
    return write_introspection(
        curves(groups_of([cells[plan.learner] for plan in plans])), Path(out)
    )
