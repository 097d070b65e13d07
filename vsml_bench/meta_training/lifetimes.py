"""Meta-updates from lifetimes of the meta-train side's tasks."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vsml_bench.acceleration import accelerate
from vsml_bench.data import orders
from vsml_bench.data.distributions import largest as largest_of
from vsml_bench.data.distributions import members
from vsml_bench.data.episodes import Episode, EpisodeSampler, side_by_side
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import Execution
from vsml_bench.learner import Learner, Recipe, State
from vsml_bench.meta_training.job import Job, trained_side
from vsml_bench.meta_training.objective import Lifetimes, Source, Validation
from vsml_bench.meta_training.schedule import Update
from vsml_bench.protocols.evaluation import (
    evaluate,
    fresh_states,
    learner_shape,
    padded,
)
from vsml_bench.protocols.online import Online
from vsml_bench.seeds import derive_seed, lifetime_seeds
from vsml_bench.sides import TaskDistribution

VALIDATION_STEPS = 400


class _Tasks(NamedTuple):
    """Which of the side's tasks a phase takes: all, where nothing else is said."""

    classes: int | tuple[int, ...] | None = None
    sizes: tuple[int, ...] = ()
    fixed: bool = False
    """Whether labels are as they are."""

    def of(self, side: TaskDistribution) -> TaskDistribution:
        """Those of this side."""
        if self.fixed:
            side = dataclasses.replace(side, label_permutation=False)
        if isinstance(self.classes, int):
            side = dataclasses.replace(side, classes=self.classes, class_counts=())
        elif self.classes is not None:
            side = dataclasses.replace(side, classes=None, class_counts=self.classes)
        return dataclasses.replace(side, size=None, sizes=self.sizes) if self.sizes else side


_ALL = _Tasks()


class TaskLifetimes(Source):
    """Lifetimes of the job's tasks, and validation lifetimes from examples (few-shot: classes) of
    the meta-train side that no meta-gradient sees.

    Raises VsmlBenchError where the data do not suffice for the recipe or the protocol,
    UnavailableError where they cannot be had.
    """

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        learner: Learner,
        execution: Execution,
        root: Path | None,
    ) -> None:
        self._job, self._recipe, self._learner, self._execution = job, recipe, learner, execution
        self._runner = accelerate(learner, execution)
        side = trained_side(job)
        longest = max(phase.lifetime for phase in recipe.phases)
        self._episodes = job.episodes.instance() if job.episodes is not None else None
        protocol = self._episodes or Online(longest)
        fixes = any(phase.fixed_labels for phase in recipe.phases)
        wanted = {_ALL, *(_Tasks(phase.classes, phase.sizes) for phase in recipe.phases)}
        if fixes:
            wanted |= {tasks._replace(fixed=True) for tasks in wanted}
        self._shapes = {
            tasks: [
                sampler
                for member in members(tasks.of(side))
                for sampler in EpisodeSampler(member, root=root, subset=protocol.fit).by_classes()
            ]
            for tasks in wanted
        }
        """Samplers of all tasks and of those of each phase: one for each shape of a mixture, the
        largest last."""
        if fixes and not side.label_permutation:
            raise VsmlBenchError(
                f"recipe of '{job.learner.name}': fixed_labels has no effect, since the meta-train "
                "side permutes no labels; leave it out."
            )
        self.carried = {}
        self.data_hashes = self._shapes[_ALL][-1].content_hashes
        self._validation = EpisodeSampler(largest_of(side), root=root, subset=protocol.validation)
        for sampler in (*itertools.chain(*self._shapes.values()), self._validation):
            protocol.check(sampler)
        if job.episodes is None:
            self._check_lifetimes()

    def accelerate(self, steps: int) -> None:
        """See `Source.accelerate`; each shape would be compiled, so that mixtures go without."""
        sizes = any(phase.sizes for phase in self._recipe.phases)
        if len(self._shapes[_ALL]) == 1 and not sizes:
            self._runner = accelerate(self._learner, self._execution, steps)

    def objective(self, planned: Update, step: int, *, largest: bool = False) -> Lifetimes:
        """The meta-loss on the lifetimes of meta-update `step`; those of a mixture share a shape,
        drawn from (seed, step), or the largest."""
        job, device = self._job, self._execution.device
        seeds = [derive_seed(job.seed, "meta-train", step, i) for i in range(planned.lifetimes)]
        protocol = self._episodes or Online(planned.lifetime)
        tasks = _Tasks(planned.classes, planned.sizes)
        shapes = self._shapes[tasks]
        which = -1 if largest else derive_seed(job.seed, "shape", step) % len(shapes)
        sampler, share = shapes[which], planned.fixed_labels
        fixed = self._shapes[tasks._replace(fixed=True)][which] if share else sampler
        shape = learner_shape(self._learner, sampler.shape)

        def sample(seeds: Sequence[int]) -> Episode:
            if not share:
                return padded(protocol.sample(sampler, seeds), sampler.shape, shape, device)
            of = ((fixed if _drawn(seed) < share else sampler, seed) for seed in seeds)
            episode = side_by_side([protocol.sample(each, [seed]) for each, seed in of])
            return padded(episode, sampler.shape, shape, device)

        def fresh(learner: Learner, seeds: Sequence[int]) -> State:
            assert learner is self._learner, "the runner is of one learner"
            inner = [derive_seed(job.seed, "inner", seed) for seed in seeds]
            return fresh_states(learner, inner, shape, device)

        return Lifetimes(self._runner, protocol, seeds, sample, fresh)

    def validate(self) -> Validation:
        """Cross-entropy in nats and accuracy, over all scored predictions."""
        steps = min(VALIDATION_STEPS, self._validation.max_steps or VALIDATION_STEPS)
        scores = evaluate(
            self._learner,
            self._validation,
            lifetime_seeds(self._recipe.validation_lifetimes, "validation"),
            self._episodes or Online(steps),
            self._execution,
            self._job.seed,
        )
        return Validation(float(scores.loss.mean()), float(scores.correct.mean()))

    def _check_lifetimes(self) -> None:
        """VsmlBenchError where a phase's lifetimes need more examples than there are."""
        for phase in self._recipe.phases:
            for sampler in self._shapes[_Tasks(phase.classes, phase.sizes)]:
                if sampler.max_steps is not None and phase.lifetime > sampler.max_steps:
                    raise VsmlBenchError(
                        f"recipe of '{self._job.learner.name}': lifetimes of {phase.lifetime} "
                        f"examples are longer than the {sampler.max_steps} that "
                        f"{', '.join(sampler.distribution.datasets)} has for meta-training; "
                        "shorten them."
                    )


def _drawn(seed: int) -> float:
    """What decides whether a lifetime has fixed labels, uniform in [0, 1)."""
    return orders.philox(derive_seed(seed, "fixed labels")).random()
