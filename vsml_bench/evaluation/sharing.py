"""Several runs in one folder share its work: each piece is claimed by the process that does it, and
the other runs wait for what it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vsml_bench.evaluation.executors import POLL_SECONDS, Executor
from vsml_bench.evaluation.tasks import Task, function_named
from vsml_bench.owners import Claim, kept

CLAIMED = "vsml_bench.evaluation.sharing:claimed"


@dataclass(frozen=True)
class Elsewhere:
    """Another run does this piece of work, or has done it."""


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

    claims: of what each task makes, in their order. They are given back one by one, each after its
    result was taken.
    """
    offered = [
        replace(task, what=n, function=CLAIMED, arguments=(claim, task.function, task.arguments))
        for n, (task, claim) in enumerate(zip(tasks, claims, strict=True))
    ]
    due = list(range(len(tasks)))
    with kept(claims):
        while due:
            others = []
            for n, result in executor.run([offered[n] for n in due], title):
                if isinstance(result, Elsewhere):
                    others.append(n)
                    continue
                yield tasks[n].what, result
                claims[n].release()
            while others and all(claims[n].is_others() for n in others):
                time.sleep(POLL_SECONDS)
            due = []
            for n in others:
                if not claims[n].is_others() and claims[n].is_done():
                    yield tasks[n].what, Elsewhere()
                else:
                    due.append(n)
