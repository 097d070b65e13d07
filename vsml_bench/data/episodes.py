"""Seeded streams of lifetimes.

A lifetime is a function of its seed, the task distribution and the data alone, so that asking for
lifetimes one by one, in chunks or in another order gives the same ones, and a longer lifetime
starts with the shorter one, unless something happens at its half. Randomness comes from NumPy's
Philox, whatever the device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vsml_bench.data import orders, transforms
from vsml_bench.data.dataset import Dataset, Subset
from vsml_bench.data.datasets import load
from vsml_bench.data.distributions import task_identity
from vsml_bench.data.streams import DatasetStream, GeneratedStream, StoredStream
from vsml_bench.errors import VsmlBenchError
from vsml_bench.recipes import Shape
from vsml_bench.seeds import derive_seed
from vsml_bench.sides import TaskDistribution

if TYPE_CHECKING:
    from torch import Tensor

Drawn: TypeAlias = "tuple[Tensor, NDArray[np.int64]]"
"""Examples of one lifetime, and their labels."""
Draw: TypeAlias = "Callable[[DatasetStream, np.random.Generator, np.random.Generator], Drawn]"
"""Gives them from a stream and the randomness of the task and of the lifetime."""


@dataclass(frozen=True, eq=False)
class Episode:
    """A batch of lifetimes."""

    inputs: Tensor
    """float32 [T, E, *shape.inputs]."""
    labels: Tensor
    """int64 [T, E], as the learner observes them."""
    targets: Tensor | None = None
    """int64 [T, E], what predictions are scored against, where that is not what is observed."""

    @property
    def scored(self) -> Tensor:
        """What predictions are scored against: int64 [T, E]."""
        return self.labels if self.targets is None else self.targets


def side_by_side(episodes: Sequence[Episode]) -> Episode:
    """All lifetimes of episodes of one length and shape, in their order."""
    import torch

    labels = torch.cat([episode.labels for episode in episodes], 1)
    scored = torch.cat([episode.scored for episode in episodes], 1)
    return Episode(torch.cat([episode.inputs for episode in episodes], 1), labels, scored)


class EpisodeSampler:
    """Draws lifetimes of one side of a split.

    subset: which examples or classes of each stored partition, see `subset_rows`; of a generated
    dataset subsets are independent streams. Raises UnavailableError where a dataset is not here,
    VsmlBenchError where the distribution makes no sense.
    """

    shape: Shape
    """Of the examples after all transforms; the most classes that any of the datasets has."""
    max_steps: int | None
    """The longest lifetime without repeating an example; None where examples are generated."""
    content_hashes: dict[str, str]
    """Dataset -> content hash of the partition, or of its groups that are used."""
    fixed_episodes: int | None
    """Length of the fixed list of few-shot episodes that the dataset is, where it is one: seeds are
    then their numbers."""

    def __init__(
        self, distribution: TaskDistribution, *, root: Path | None = None, subset: Subset = "all"
    ) -> None:
        distribution.check()
        _check(distribution)
        self.distribution = distribution
        self.subset = subset
        loaded = [
            load(distribution.location(name), distribution.partition, root, distribution.groups)
            for name in distribution.datasets
        ]
        channels = {dataset.inputs_shape[0] for dataset in loaded if dataset.modality == "image"}
        gray = len(channels) > 1
        self._streams: list[DatasetStream] = []
        for dataset in loaded:
            if dataset.generator is not None:
                self._streams.append(GeneratedStream(dataset, distribution))
            else:
                self._streams += [
                    StoredStream(dataset, distribution, gray, subset, episode)
                    for episode in _episodes(dataset)
                ]
        fixed = any(dataset.is_fixed_list for dataset in loaded)
        self.fixed_episodes = len(self._streams) if fixed else None
        if fixed and (len(loaded) > 1 or distribution.rotations or distribution.diversity):
            raise VsmlBenchError(
                f"dataset '{distribution.datasets[0]}' is a fixed list of few-shot episodes; leave "
                "other datasets, `rotations` and `diversity` out."
            )
        shapes = {s.dataset.name: s.shape.inputs for s in self._streams}
        if len(set(shapes.values())) > 1:
            raise VsmlBenchError(
                f"datasets of one task distribution need inputs of one shape, found {shapes}; give "
                "images a common `size`, and do not mix them with vectors."
            )
        first = self._streams[0].shape.inputs
        self.shape = Shape(first, max(stream.shape.classes for stream in self._streams))
        limits = [s.max_steps for s in self._streams if s.max_steps is not None]
        self.max_steps = min(limits, default=None)
        self.content_hashes = {dataset.name: dataset.content_hash for dataset in loaded}
        self._only: int | None = None

    @property
    def shuffled(self) -> int | None:
        """How many stored examples there are of which every lifetime has as many as it is long, in
        a random order (`orders.whole`); 0 where examples are made anew, None where a lifetime
        chooses among classes or datasets."""
        return self._streams[0].shuffled if len(self._streams) == 1 else None

    def by_classes(self) -> list[EpisodeSampler]:
        """Samplers that have these tasks between them, each with one number of classes, the most
        last: just this one, or one for each dataset where their classes differ."""
        if len({stream.shape.classes for stream in self._streams}) == 1:
            return [self]
        tasked = self._streams[: self.distribution.diversity or None]
        parts = [copy.copy(self) for _ in tasked]
        for which, (part, stream) in enumerate(zip(parts, tasked, strict=True)):
            part._only, part.shape, part.max_steps = which, stream.shape, stream.max_steps
        return sorted(parts, key=lambda part: part.shape.classes)

    def sample(self, seeds: Sequence[int], steps: int) -> Episode:
        """One lifetime of `steps` examples per seed, on the CPU.

        VsmlBenchError where the data have fewer than `steps` examples for a lifetime.
        """
        if self.max_steps is not None and steps > self.max_steps:
            raise VsmlBenchError(
                f"a lifetime of {steps} examples was asked for, but "
                f"{', '.join(self.distribution.datasets)} ({self.distribution.partition}, "
                f"{self.subset}) allow at most {self.max_steps} without repetition."
            )
        return self._sample(seeds, steps, lambda stream, task, own: stream.draw(task, own, steps))

    def check_shots(self, shots: int, queries: int) -> None:
        """VsmlBenchError where `sample_shots` is impossible."""
        for field in ("late_class", "switch"):
            if getattr(self.distribution, field):
                raise VsmlBenchError(
                    f"{field}: few_shot episodes are no streams and have no second half; leave it "
                    "out, or use a suite with the protocol 'online'."
                )
        if self.distribution.classes is None:
            raise VsmlBenchError(
                f"few_shot: a task on {', '.join(self.distribution.datasets)} must say how many "
                "classes it has; give the split's side `classes`."
            )
        for stream in self._streams:
            stream.check_shots(shots, queries)

    def sample_shots(self, seeds: Sequence[int], shots: int, queries: int) -> Episode:
        """One few-shot episode of N = shape.classes classes per seed, on the CPU: N x `shots`
        support examples, then N x `queries` queries, both in random order.

        VsmlBenchError where there are too few classes with that many examples.
        """
        self.check_shots(shots, queries)
        return self._sample(
            seeds,
            self.shape.classes * (shots + queries),
            lambda stream, task, own: stream.draw_shots(task, own, shots, queries),
        )

    def _sample(self, seeds: Sequence[int], steps: int, draw: Draw) -> Episode:
        import torch

        inputs = torch.empty(steps, len(seeds), *self.shape.inputs)
        labels = torch.empty(steps, len(seeds), dtype=torch.int64)
        targets = torch.empty_like(labels)
        for e, seed in enumerate(seeds):
            inputs[:, e], labels[:, e], targets[:, e] = self._lifetime(seed, draw)
        return Episode(inputs, labels, targets if self.distribution.label_noise else None)

    def _lifetime(self, seed: int, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, observed labels and true labels of one lifetime."""
        import torch

        distribution = self.distribution
        side = (distribution.partition, self.subset)
        stream_generator = orders.of_lifetime(seed, *side)
        if distribution.diversity:
            index = self._task(derive_seed(seed, "task", *side))
            task_seed = derive_seed(index, "task", task_identity(distribution))
            which = index % len(self._streams)
        else:
            task_seed = derive_seed(seed, "task", *side)
            which = derive_seed(task_seed, "dataset") % len(self._streams)
            which = which if self._only is None else self._only
        if self.fixed_episodes is not None:
            which = seed % len(self._streams)
        task = orders.philox(task_seed)
        # These draws keep their order for ever: it is what pins meta-test lifetimes.
        shares = task.random(2)
        stream = self._streams[which]
        inputs, labels = draw(stream, task, stream_generator)
        if distribution.switch:
            half = len(labels) // 2
            anew = orders.philox(derive_seed(task_seed, "switch"))
            # All examples both times: the size of a matrix product may change its last bit.
            before = self._transformed(inputs, labels, stream, shares, task)
            after = self._transformed(inputs, labels, stream, anew.random(2), anew)
            inputs = torch.cat([before[0][:half], after[0][half:]])
            labels = np.concatenate([before[1][:half], after[1][half:]])
        else:
            inputs, labels = self._transformed(inputs, labels, stream, shares, task)
        factor = -distribution.scale if distribution.invert else distribution.scale
        if factor != 1:
            inputs = inputs * factor
        observed = labels
        if distribution.label_noise:
            noise = orders.philox(derive_seed(seed, "label noise", *side)).random((len(labels), 2))
            observed = transforms.wrong_labels(
                labels, stream.shape.classes, distribution.label_noise, noise
            )
        return inputs, torch.from_numpy(observed), torch.from_numpy(labels)

    def _task(self, drawn: int) -> int:
        """Which of a finite number of tasks a draw stands for; a task's number says its dataset."""
        tasks, datasets = self.distribution.diversity, len(self._streams)
        if self._only is None:
            return drawn % tasks
        own = range(self._only, tasks, datasets)
        return own[drawn % len(own)]

    def _transformed(
        self,
        inputs: Tensor,
        labels: NDArray[np.int64],
        stream: DatasetStream,
        shares: NDArray[np.float64],
        task: np.random.Generator,
    ) -> Drawn:
        """The examples as a task has them whose transforms come from `task`.

        shares: the task's place between 0 and 1 among all tasks, for shuffle and projection.
        """
        distribution = self.distribution
        shuffled, projected = shares < (distribution.pixel_shuffle, distribution.projection)
        if distribution.label_permutation:
            labels = task.permutation(stream.shape.classes)[labels]
        if shuffled:
            inputs = transforms.shuffle_pixels(inputs, task.permutation(self.shape.features))
        if projected:
            projection = transforms.draw_projection(self.shape.features, task)
            inputs = transforms.project(inputs, projection)
        return inputs, labels


def _episodes(dataset: Dataset) -> list[str | None]:
    """The groups of a fixed list of episodes, in the order of their names; [None] for others."""
    if dataset.examples is None or not dataset.is_fixed_list:
        return [None]
    return [*sorted(set(dataset.examples.groups))]


def _check(distribution: TaskDistribution) -> None:
    if not distribution.datasets:
        raise VsmlBenchError("a task distribution needs at least one dataset, found none.")
    for choice in ("class_counts", "sizes"):
        if getattr(distribution, choice):
            raise VsmlBenchError(
                f"{choice}: only meta-training mixes tasks of several shapes; a meta-test side has "
                "one, given by `classes` and `size`."
            )
