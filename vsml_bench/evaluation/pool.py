"""Work in processes that can be killed: a hung learner costs its own time limit, nobody else's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from vsml_bench.errors import DivergedError, UnavailableError
from vsml_bench.evaluation.cell import Status
from vsml_bench.progress import progress_bar

POLL_SECONDS = 0.5

Order = TypeVar("Order")
Result = TypeVar("Result")
Report = Callable[[float], None]
"""Called by work in progress with the share of it that is done."""


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Task(Generic[Order, Result]):
    """One piece of work."""

    order: Order
    function: Callable[[Order, Report], Result]
    """Importable by name, as is everything in `order`: it runs in another process."""
    time_limit: float | None
    expected_seconds: float
    """For the progress bar and for starting the longest first."""


def run_tasks(
    tasks: Sequence[Task[Order, Any]], jobs: int, title: str, progress: bool
) -> Iterator[tuple[Order, Any]]:
    """Yields each task's order with its result, or with a `Failure`, as they finish."""
    if not tasks:
        return
    tasks = sorted(tasks, key=lambda task: -task.expected_seconds)
    context = multiprocessing.get_context("spawn")
    shares = context.Array("d", len(tasks), lock=False)
    total = sum(task.expected_seconds for task in tasks)
    bar = progress_bar(
        total,
        title,
        progress,
        smoothing=0,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    )
    workers = min(jobs, len(tasks))
    with (
        bar,
        ProcessPool(workers, context=context, initializer=_share, initargs=(shares,)) as pool,
    ):
        futures: dict[Future[Any], int] = {
            pool.schedule(
                _work, args=(index, task.function, task.order), timeout=task.time_limit
            ): index
            for index, task in enumerate(tasks)
        }
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    shares[futures[future]] = 1.0
                    task = tasks[futures[future]]
                    yield task.order, _outcome(future, task.time_limit)
                bar.set_postfix_str(f"{len(tasks) - len(pending)} of {len(tasks)}", refresh=False)
                finished = sum(
                    task.expected_seconds * share for task, share in zip(tasks, shares, strict=True)
                )
                bar.update(min(total, finished) - bar.n)
        finally:
            for future in pending:
                future.cancel()
            pool.stop()


def _outcome(future: Future[Any], time_limit: float | None) -> Any:
    try:
        return future.result()
    except FutureTimeout:
        return Failure("timeout", f"killed after its time limit of {time_limit:g} s")
    except ProcessExpired as error:
        return Failure("crashed", f"its process ended with exit code {error.exitcode}")
    except UnavailableError as error:
        return Failure("unavailable", str(error))
    except DivergedError as error:
        return Failure("diverged", str(error))
    except MemoryError as error:
        return Failure("out_of_memory", str(error) or "out of memory")
    except Exception as error:
        return Failure("crashed", f"{type(error).__name__}: {error}")


_shares: Any = None


def _share(shares: Any) -> None:
    global _shares
    _shares = shares


def _work(index: int, function: Callable[[Any, Report], Any], order: Any) -> Any:
    def report(share: float) -> None:
        _shares[index] = share

    return function(order, report)
