"""Several runs share the work of a suite. In one folder each piece is claimed by the process that
does it, and the other runs wait for what it makes; or each has a part of the cells, a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import POLL_SECONDS, Executor
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.tasks import Elsewhere, Task, function_named
from vsml_bench.owners import Claim, kept

CLAIMED = "vsml_bench.evaluation.sharing:claimed"


def claimed(
    claim: Claim, function: str, arguments: tuple[Any, ...], report: Callable[[float], None]
) -> Any:
    """A task's result, or `Elsewhere` where somebody else makes what the claim is for."""
    return function_named(function)(*arguments, report) if claim.take() else Elsewhere()


def share(
    executor: Executor, tasks: Sequence[Task], claims: Sequence[Claim], title: str
) -> Iterator[tuple[Any, Any]]:
    """Has the tasks done as `Executor.run` does, but for those that other runs do meanwhile: what
    these have made is `Elsewhere`. What they have begun and not made is done here in the end.

    tasks: each after those that it waits for. claims: of what each makes, in their order. They are
    given back one by one, each after its result was taken. A task takes its claim when it begins,
    or, where it would not see it, this process takes all at once.
    """
    offered = [
        replace(task, what=n, function=CLAIMED, arguments=(claim, task.function, task.arguments))
        if executor.shares_folders
        else replace(task, what=n)
        for n, (task, claim) in enumerate(zip(tasks, claims, strict=True))
    ]
    due = list(range(len(tasks)))
    with kept(claims):
        while due:
            others = [] if executor.shares_folders else _not_ours(due, tasks, claims)
            ours = sorted(set(due) - set(others))
            for n, result in executor.run([offered[n] for n in ours], title):
                if isinstance(result, Elsewhere):
                    others.append(n)
                    continue
                yield tasks[n].what, result
                claims[n].release()
            keys = {tasks[n].key for n in others}
            first = [n for n in others if keys.isdisjoint(tasks[n].after)]
            while first and all(claims[n].is_others() for n in first):
                time.sleep(POLL_SECONDS)
            due = []
            for n in sorted(others):
                if not claims[n].is_others() and claims[n].is_done():
                    yield tasks[n].what, Elsewhere()
                else:
                    due.append(n)


def shard_of(plans: Sequence[Plan], number: int, count: int) -> list[Plan]:
    """The numberth of so many parts, as equal as can be: each cell is in one of them, and in the
    same one on all machines and whatever was run."""
    if not 1 <= number <= count:
        raise VsmlBenchError(
            f"--shard: expected a number from 1 to that of all shards, as in 3/20, found "
            f"{number}/{count}."
        )
    chosen = {plan.key for plan in sorted(plans, key=lambda plan: plan.key)[number - 1 :: count]}
    return [plan for plan in plans if plan.key in chosen]


def _not_ours(due: Sequence[int], tasks: Sequence[Task], claims: Sequence[Claim]) -> list[int]:
    """Those of the tasks that others do, and those that come after them; the rest is taken."""
    others: list[int] = []
    keys: set[str] = set()
    for n in due:  # tasks stand after those that they wait for
        if not keys.isdisjoint(tasks[n].after) or not claims[n].take():
            others.append(n)
            keys.add(tasks[n].key)
    return others
