"""How long so many workers would take for what is missing: the schedule of a run, simulated with
measured times. Nothing here needs PyTorch."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vsml_bench.errors import VsmlBenchError, closest
from vsml_bench.evaluation.cell import Cell
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import START_SECONDS, CostModel
from vsml_bench.evaluation.tasks import Task, chains
from vsml_bench.meta_training.job import Job, find_artifact


@dataclass(frozen=True)
class Makespan:
    """What so many workers need."""

    workers: int
    hours: float
    """From the first second to the last."""
    worker_hours: float
    """That are paid for: of all workers, idle or not."""
    busy: float
    """Share of these in which something is done."""


class Speeds:
    """Expected seconds of meta-tests and meta-trainings on one kind of worker."""

    def __init__(
        self, costs: CostModel, others: CostModel, name: str, factors: dict[str, float]
    ) -> None:
        """costs: of this suite. others: of all published suites, for learners that this one has
        not measured. name: of the devices that measured. factors: learner -> how many times as
        quick as these a worker is; "" stands for all other learners."""
        self._costs, self._others, self.name, self._factors = costs, others, name, factors

    def _quicker(self, learner: str) -> float:
        return self._factors.get(learner, self._factors[""])

    def testing(self, plan: Plan) -> float | None:
        """None where nothing like it was measured."""
        for costs in (self._costs, self._others):
            if costs.known(plan):
                seconds = costs.seconds(plan) - START_SECONDS
                return START_SECONDS + seconds / self._quicker(plan.learner)
        return None

    def making(self, job: Job) -> float | None:
        """None where nothing like it was measured."""
        for costs in (self._costs, self._others):
            seconds = costs.making_seconds(job)
            if seconds is not None:
                return START_SECONDS + seconds / self._quicker(job.learner.name)
        return None


def speeds(
    costs: CostModel, own: Sequence[Cell], published: Sequence[Cell], gpu: str = ""
) -> Speeds:
    """Of one thread of a CPU, or of a GPU whose name has `gpu` in it, as measured by one's own
    cells or else by published ones. VsmlBenchError where no cell is of such a GPU.

    How much quicker a GPU is than a thread comes from cells that both have run. These have few
    lifetimes, so that meta-trainings, which have many, gain more than this says.
    """
    measured = [cell for cell in (own or published) if cell.status == "ok"]
    cpus = sorted({c.provenance.device for c in measured if c.provenance.manner == ""})
    name, factors = " and ".join(cpus) or "no device", {"": 1.0}
    if gpu:
        on_gpu = [c for c in published if c.status == "ok" and c.provenance.manner == "cuda"]
        found = [c for c in on_gpu if gpu.lower() in c.provenance.device.lower()]
        if not found:
            known = {cell.provenance.device for cell in on_gpu}
            raise VsmlBenchError(f"--gpu: no published cell is of '{gpu}'; {closest(gpu, known)}")
        on_cpu = {c.key: _seconds(c) for c in published if c.provenance.manner == ""}
        ratios: dict[str, list[float]] = {}
        for cell in found:
            if on_cpu.get(cell.key):
                ratio = on_cpu[cell.key] / _seconds(cell)
                ratios.setdefault(cell.plan.learner, []).append(ratio)
        factors = {learner: median(own) for learner, own in ratios.items()}
        factors[""] = median(factors.values()) if factors else 1.0
        name = f"{found[0].provenance.device}, by comparison with {name}"
    return Speeds(costs, CostModel(published), name, factors)


def _seconds(cell: Cell) -> float:
    return cell.provenance.seconds.get("meta_test", 0.0)


def missing_work(
    plans: Sequence[Plan],
    found: Speeds,
    folders: Sequence[Path],
    done: Iterable[str],
) -> tuple[list[Task], int]:
    """The meta-trainings and meta-tests that a run would do on machines that have all data, and how
    many of them nothing is known of, which count as little more than nothing.

    folders: of checkpoints and tuning records that are there. done: keys of cells that are.
    """
    tasks: dict[str, Task] = {}
    stored, unknown = set(done), 0

    def add(name: str, key: str, seconds: float | None, after: tuple[str, ...]) -> None:
        nonlocal unknown
        unknown += seconds is None
        tasks[key] = Task(name, "", (), None, seconds or START_SECONDS, key=key, after=after)

    def make(job: Job | None) -> tuple[str, ...]:
        if job is None or not job.makes_artifact or find_artifact(job, folders) is not None:
            return ()
        if job.key not in tasks:
            what = "meta-train" if job.recipe is not None else "tune"
            add(f"{what} {job.name}", job.key, found.making(job), make(job.start))
        return (job.key,)

    for plan in plans:
        if plan.key not in stored:
            add(f"meta-test {plan}", plan.key, found.testing(plan), make(plan.job))
    return list(tasks.values()), unknown


def makespan(tasks: Sequence[Task], workers: int) -> Makespan:
    """Whenever a worker is free, it takes the task that begins the longest chain of those that can
    begin: what an executor does."""
    if workers < 1:
        raise VsmlBenchError(f"--workers: expected at least 1, found {workers}.")
    length = chains(tasks)
    numbers = {task.key: n for n, task in enumerate(tasks)}
    waits = [{k for k in task.after if k in numbers} for task in tasks]
    after: dict[str, list[int]] = {}
    for n, keys in enumerate(waits):
        for key in keys:
            after.setdefault(key, []).append(n)
    ready = [(-length[n], n) for n in range(len(tasks)) if not waits[n]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            n = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + tasks[n].expected_seconds, n))
        now, n = heapq.heappop(running)
        for later in after.get(tasks[n].key, ()):
            waits[later].discard(tasks[n].key)
            if not waits[later]:
                heapq.heappush(ready, (-length[later], later))
    work = sum(task.expected_seconds for task in tasks)
    paid = now * workers
    return Makespan(workers, now / 3600, paid / 3600, work / paid if paid else 1.0)


def longest_chain(tasks: Sequence[Task]) -> list[Task]:
    """Tasks that wait for one another and together take longest: nobody is quicker than these."""
    length = dict(zip((task.key for task in tasks), chains(tasks), strict=True))
    chain: list[Task] = []
    following = [task for task in tasks if not {*task.after} & length.keys()]
    while following:
        chain.append(max(following, key=lambda task: length[task.key]))
        following = [task for task in tasks if chain[-1].key in task.after]
    return chain
