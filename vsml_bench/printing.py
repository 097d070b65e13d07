"""How the command line shows what it does and finds: tables and sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from vsml_bench.config import as_plain
from vsml_bench.data import datasets

if TYPE_CHECKING:
    from vsml_bench.api.budgets import Spending
    from vsml_bench.cards import Card
    from vsml_bench.contract import ContractReport
    from vsml_bench.evaluation.cell import Cell
    from vsml_bench.evaluation.makespan import Makespan
    from vsml_bench.evaluation.plan import Plan
    from vsml_bench.evaluation.prices import Price
    from vsml_bench.evaluation.runner import RunReport
    from vsml_bench.evaluation.tasks import Task


def rows(values: Sequence[Mapping[str, Any]], title: str, as_json: bool) -> None:
    """Prints a table, or {title: values} as JSON."""
    if as_json:
        print(json.dumps({title: values}, indent=2))
        return
    shown = [
        {k: ", ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in values
    ]
    print(tabulate(shown, headers="keys"))


def mapping(values: Mapping[str, Any], as_json: bool) -> None:
    """Prints one line for each key, or JSON."""
    if as_json:
        print(json.dumps(values, indent=2))
        return
    print(tabulate([(k, json.dumps(v)) for k, v in values.items()], tablefmt="plain"))


def dataset_rows(data_root: str | None) -> list[dict[str, Any]]:
    """What lists show of the datasets, and whether this machine has them."""
    root = datasets.data_root(data_root)
    sources = (datasets.find(name).source for name in datasets.names())
    return [
        {"name": s.name, "available": here.available, **as_plain(here), "modality": s.modality}
        for s, here in ((source, source.find(root)) for source in sources)
    ]


def learner_row(card: Card) -> dict[str, Any]:
    """What lists show of a learner."""
    shown = ("meta_parameters", "state_floats", "state_growth")
    return {
        "name": card.name,
        "family": card.family,
        "protocols": list(card.protocols),
        **{name: getattr(card, name) for name in shown},
        "tuned": card.tuning is not None,
        "source": card.source,
        "origin": card.origin,
    }


def place(plan: Plan) -> dict[str, Any]:
    """Where a cell belongs."""
    split, learner, seed = plan.place
    return {"suite": plan.suite, "split": split, "learner": learner, "seed": seed}


def score(cell: Cell) -> dict[str, Any]:
    """Accuracy over all predictions of a cell, and of a stream also over the first and the last 100
    of each lifetime; nothing where it has no outcomes."""
    if cell.outcomes is None:
        return {}
    correct = cell.outcomes.correct
    parts = {"accuracy": correct}
    if cell.plan.protocol.stream:
        parts |= {"first 100": correct[:, :100], "last 100": correct[:, -100:]}
    return {name: round(float(part.mean()), 4) for name, part in parts.items()}


def checks(report: ContractReport) -> None:
    """Prints what `check` has found of one learner."""
    print(f"{report.learner} ({report.origin})")
    table = [(r.check, r.outcome, r.reason) for r in report.results]
    headers = ("check", "result", "reason")
    print(tabulate(table, headers=headers, maxcolwidths=(None, None, 72)))
    print(f"{len(report.failed)} of {len(table)} checks failed.\n")


def run(report: RunReport) -> None:
    """Prints how many cells there are of each kind, why some failed, and once per reason why some
    could not be run."""
    unavailable = [cell for cell in report.cells if cell.status == "unavailable"]
    print(
        f"{len(report.cells)} cells: {report.reused} reused, "
        f"{len(report.cells) - report.reused} run now, {len(report.failed)} failed, "
        f"{len(unavailable)} unavailable, {len(report.missing)} not run."
    )
    for reason, count in Counter(cell.reason.strip() for cell in unavailable).items():
        print(f"unavailable ({count}): {reason}")
    for cell in report.failed:
        reason = cell.reason.strip().splitlines()[-1]
        print(f"{cell.plan}: {cell.status}: {reason}")


def prices(found: Sequence[Price]) -> None:
    """Prints what `plan` has found. What is not known is left empty, and is not 0."""
    table = [
        {
            "learner": price.learner,
            "cells": price.cells,
            "unavailable": price.unavailable,
            "not measured": price.not_measured,
            "core minutes": _rounded(price.core_seconds, 60.0),
            "to meta-train or tune": price.to_make,
            "hours of that": _rounded(price.meta_training_seconds, 3600.0),
        }
        for price in found
    ]
    print(tabulate(table, headers="keys", missingval="?"))
    print()
    measured = [price.core_seconds for price in found if price.cells > price.unavailable]
    partly = any(price.not_measured for price in found)
    print(f"Meta-tests: {_total(measured, 60.0, 'core minutes', partly)}.")
    making = [price.meta_training_seconds for price in found]
    print(f"Meta-training and tuning: {_total(making, 3600.0, 'hours', False)}.")
    for reason in dict.fromkeys(reason for price in found for reason in price.reasons):
        print(f"Unavailable: {reason}")


def spending(found: Spending, as_json: bool) -> None:
    """Prints which cells are worth a budget."""
    if as_json:
        print(json.dumps(as_plain(found), indent=2))
        return
    table = [
        {
            "learner": step.learner,
            "seed": step.seed,
            "splits": len(step.splits),
            "core minutes": _rounded(step.seconds, 60.0),
            "sum of half-widths after it": f"{100 * step.width:.2f}",
        }
        for step in found.steps
    ]
    cheapest = _rounded(found.cheapest, 60.0)
    least = f"; the cheapest step takes {cheapest} core minutes" if cheapest else ""
    print(tabulate(table, headers="keys") if table else f"Nothing that fits narrows one{least}.")
    print()
    for label, before in found.before.items():
        if found.steps and before != found.after[label]:
            shown = f"{100 * before:.2f} to {100 * found.after[label]:.2f}"
            print(f"{label}: half of the interval, in percentage points: {shown} expected.")
    if found.steps:
        print(f"All of it: {_rounded(found.seconds, 60.0)} core minutes.")
    for learner, reason in found.left_out.items():
        print(f"Left out, some or all of {learner}: {reason}")
    for command in found.commands:
        print(f"  {command}")


def makespans(
    found: Sequence[Makespan],
    chain: Sequence[Task],
    tasks: int,
    unknown: int,
    device: str,
    as_json: bool,
) -> None:
    """Prints what `plan --workers` has found.

    chain: the longest. tasks: all of them; unknown: those that nothing is known of.
    """
    hours = sum(task.expected_seconds for task in chain) / 3600
    if as_json:
        links = [{"task": task.what, "seconds": task.expected_seconds} for task in chain]
        told = {"tasks": tasks, "unknown": unknown, "device": device, "chain": links}
        print(json.dumps({"makespans": [as_plain(each) for each in found], **told}, indent=2))
        return
    table = [
        {
            "workers": each.workers,
            "hours": f"{each.hours:.3g}",
            "worker hours": f"{each.worker_hours:.3g}",
            "busy": f"{each.busy:.0%}",
        }
        for each in found
    ]
    print(tabulate(table, headers="keys"))
    names = ", then ".join(str(task.what) for task in chain)
    print(f"\nTasks: {tasks}. Longest chain: {hours:.3g} hours ({names or 'none'}).")
    print(f"Times are of {device}.")
    if unknown:
        print(f"Nothing like {unknown} of the tasks was measured, so it takes longer than this.")


def _total(seconds: Sequence[float | None], unit: float, name: str, partly: bool) -> str:
    """partly: whether the numbers are not of everything."""
    known = [value for value in seconds if value is not None]
    if not any(known) and (partly or len(known) < len(seconds)):
        return "unknown, since nothing like them was measured"
    more = ", and more for what was never measured" if partly or len(known) < len(seconds) else ""
    return f"about {_rounded(sum(known), unit)} {name}{more}"


def _rounded(seconds: float | None, unit: float) -> str | None:
    return None if seconds is None else f"{seconds / unit:.2g}"


def damage(good: int, bad: Mapping[str, str]) -> None:
    """Prints what `verify` has found: how many records are intact, and what is wrong with others,
    by their paths."""
    for file, problem in bad.items():
        print(f"{file}: {problem}")
    print(f"{good} files intact, {len(bad)} damaged.")


def replays(reports: Sequence[Mapping[str, Any]], before: int = 0) -> None:
    """Prints what replay has found; reports: see `evaluation.verification.replay`. before: records
    that this commit is noted to have replayed already."""
    failed = [report for report in reports if report["reason"]]
    impossible = [report for report in reports if report.get("impossible")]
    for report in failed:
        print(f"{report['file']}: {report['reason']}")
    for report in impossible:
        print(f"{report['file']}: not replayed: {report['impossible']}")
    for report in reports:
        if report.get("rounding"):
            print(
                f"{report['file']}: replays as far as rounding lets it: one unit in the last place "
                f"of its meta-parameters moves a meta-loss by {report['rounding']:.2g}"
            )
    largest = max((report.get("difference", 0.0) for report in reports), default=0.0)
    print(
        f"{len(reports) - len(failed) - len(impossible)} records replay, {len(failed)} do not, "
        f"{len(impossible)} cannot be replayed here; largest difference of a loss {largest:.3g}."
    )
    if before:
        print(f"{before} more were replayed by this commit before.")
