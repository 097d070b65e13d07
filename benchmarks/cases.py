"""What the speed table compares: each case done by vsml-bench, and by what its users would run
otherwise. Both sides get the same data and meta-parameters, and all cores.

A side is a function that prepares everything and returns the run to be timed, so that neither data
nor compilation is. Random examples will do: nothing here depends on what they show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from benchmarks.case import CPU, Case, Run, runner_of, without_gradients
from benchmarks.learner_cases import gpicl_lifetime, maml_meta_step, sgd_online
from benchmarks.vsml_cases import vsml_evolution, vsml_forward, vsml_meta_gradient
from vsml_bench import api, paths
from vsml_bench.evaluation import worker
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.runner import Setting
from vsml_bench.execution import decide
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.protocols.online import Online
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.suites import find_suite


def runner_overhead(lifetimes: int, goal: float | None) -> Case:
    """A cell of the desk suite, from its plan to its record, against the `unroll` in it."""
    steps = find_suite("desk").steps

    def plan() -> Plan:
        (planned,) = api.plan("desk", splits=["mnist5k-held-out"], learners=["vsml"], seeds=[0])
        return dataclasses.replace(planned, lifetimes=lifetimes)

    def sides() -> tuple[Callable[[], Run], Callable[[], Run]]:
        folders = (paths.results() / "checkpoints",)

        def ours() -> Run:
            planned, setting = plan(), Setting(folders, None, "cpu", "", ("", False))
            return lambda: worker.test(planned, setting)

        def reference() -> Run:
            found = worker.prepare(plan(), folders, None)
            made, sampler = found.learner.learner, found.sampler
            seeds = lifetime_seeds(lifetimes, "speed")
            episode = Online(steps).sample(sampler, seeds)
            state = fresh_states(made, seeds, sampler.shape, CPU)
            runner = runner_of(made)
            return without_gradients(lambda: runner.unroll(state, episode.inputs, episode.labels))

        return ours, reference

    return Case(
        f"the runner, a cell of {lifetimes} lifetimes x {steps}",
        "the bare unroll it calls",
        "examples",
        lifetimes * steps,
        goal,
        None,
        sides,
        threads=1,
    )


CASES: tuple[Case, ...] = (
    vsml_forward(784, lifetimes=8, steps=40, goal=16),
    vsml_forward(64, lifetimes=16, steps=200, goal=12),
    vsml_meta_gradient(64, lifetimes=16, steps=100, goal=10),
    vsml_forward(64, lifetimes=16, steps=40, goal=12, name="deep"),
    vsml_meta_gradient(64, lifetimes=16, steps=20, goal=10, name="deep"),
    vsml_evolution(64, population=64, steps=100, goal=16),
    maml_meta_step((64, 32, 5), goal=4),
    maml_meta_step((784, 256, 64, 5), goal=1.5),
    maml_meta_step(None, goal=1.0),
    sgd_online("sgd-linear", lifetimes=32, steps=200, goal=15),
    gpicl_lifetime(2000, goal=20),
    runner_overhead(lifetimes=8, goal=1 / 1.03),
)


def start(case: Case, side: int) -> Run:
    """Prepares one side, 0 ours, 1 the reference, in a process of its own."""
    if side == 0:  # which settles how PyTorch allocates; the reference takes it as it comes
        decide("cpu", case.threads)
    elif case.threads is not None:
        torch.set_num_threads(case.threads)
    return case.sides()[side]()
