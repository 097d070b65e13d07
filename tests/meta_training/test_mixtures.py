"""Meta-training on tasks of several shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.harness import call, tiny_recipe_options
from vsml_bench import cards
from vsml_bench.config import as_plain
from vsml_bench.data.distributions import largest, members
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.execution import Execution
from vsml_bench.learner import ES, Phase, Recipe
from vsml_bench.meta_training.artifact import ready, tune
from vsml_bench.meta_training.checkpoint import load_artifact, load_checkpoint
from vsml_bench.meta_training.job import Job
from vsml_bench.meta_training.loop import meta_train
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import find_split, find_suite

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

EXECUTION = Execution(torch.device("cpu"), 1)
MIXED = TaskDistribution(("digits",), "train", class_counts=(2, 3), sizes=(3, 4))
SHAPES = {(classes, size) for classes in (2, 3) for size in (3, 4)}


def job(
    steps: int = 24,
    side: TaskDistribution = MIXED,
    classes: int | tuple[int, ...] | None = None,
    **fields: Any,
) -> Job:
    phases = (Phase(steps, 3, 0.01, classes=classes),)
    recipe = Recipe(
        phases, lifetimes=1, validate_every=10**6, validation_lifetimes=1, size=8, **fields
    )
    return Job(cards.find_one("vsml"), side, 0, recipe)


class Watch:
    """Notes the shape of whatever is sampled."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int, int]] = []
        sample = EpisodeSampler.sample

        def noted(sampler: EpisodeSampler, seeds: Sequence[int], steps: int) -> Episode:
            shape = sampler.shape
            self.seen.append((sampler.subset, shape.classes, shape.inputs[-1]))
            return sample(sampler, seeds, steps)

        patch.setattr(EpisodeSampler, "sample", noted)

    def of(self, subset: str) -> list[tuple[int, int]]:
        return [(classes, size) for found, classes, size in self.seen if found == subset]


def test_each_update_has_a_shape_of_its_own_and_validation_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    meta_train(job(), tmp_path, EXECUTION, progress=False)
    first = watch.of("fit")
    assert len(first) == 24 and set(first) == SHAPES
    assert set(watch.of("validation")) == {(3, 4)}
    watch.seen.clear()
    meta_train(job(), tmp_path / "again", EXECUTION, progress=False)
    assert watch.of("fit") == first


def test_a_phase_with_a_number_of_classes_mixes_sizes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    meta_train(job(classes=5), tmp_path, EXECUTION, progress=False)
    assert set(watch.of("fit")) == {(5, 3), (5, 4)}


def test_a_phase_with_numbers_of_classes_mixes_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    meta_train(job(classes=(4, 5)), tmp_path, EXECUTION, progress=False)
    assert set(watch.of("fit")) == {(4, 3), (4, 4), (5, 3), (5, 4)}
    assert set(watch.of("validation")) == {(3, 4)}


def test_evolution_strategies_mix_shapes_as_well(tmp_path: Path) -> None:
    mixed = job(6, engine=ES(pairs=2))
    assert meta_train(mixed, tmp_path, EXECUTION, progress=False).is_file()


def test_an_interrupted_training_goes_on_with_the_same_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = meta_train(job(checkpoint_every=5), tmp_path / "whole", EXECUTION, progress=False)

    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meta_train(
            job(checkpoint_every=5), tmp_path / "cut", EXECUTION, progress=False, report=stop
        )
    watch = Watch(monkeypatch)
    resumed = meta_train(job(checkpoint_every=5), tmp_path / "cut", EXECUTION, progress=False)
    assert len(watch.of("fit")) == 14
    one, other = (load_checkpoint(path).tensors for path in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_mixture_of_sizes_keeps_its_own(tmp_path: Path) -> None:
    given = job()
    assert given.recipe is not None
    smaller = dataclasses.replace(given, recipe=dataclasses.replace(given.recipe, size=4))
    assert given.key == smaller.key
    only_classes = TaskDistribution(("digits",), "train", class_counts=(2, 3))
    assert job(side=only_classes).key != job(side=MIXED).key
    notes = []
    for side in (MIXED, only_classes):
        path = meta_train(job(1, side), tmp_path, EXECUTION, progress=False)
        hashes = load_checkpoint(path).document["data_hashes"]
        notes.append(ready(job(1, side), path, hashes).note)
    assert notes == ["", "meta-trained on images of 8x8"]


def test_tuning_sees_the_largest_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    tuned = Job(cards.find_one("ridge"), MIXED, 0, None)
    record = load_artifact(tune(tuned, tmp_path, EXECUTION, progress=False))
    assert set(watch.of("all")) == {(3, 4)}
    assert record.document["job"]["side"] == as_plain(MIXED)


def test_the_shipped_grid_has_enough_examples_in_every_shape() -> None:
    suite = find_suite("robustness-grid")
    own = cards.find_one("vsml").recipe
    assert own is not None
    recipe = own.changed(suite.recipes["vsml"], suite.name)
    longest = max(phase.lifetime for phase in recipe.phases)
    side = find_split(suite.splits[0]).meta_train
    assert len(members(side)) == 12 and largest(side).size == 14
    smallest = EpisodeSampler(members(side)[0], subset="fit")
    assert smallest.max_steps is not None and smallest.max_steps >= longest


def test_a_suite_runs_on_a_mixture(tmp_path: Path) -> None:
    (tmp_path / "mixed.toml").write_text(
        'description = "test"\nrelation = "unseen_shape"\n[meta_train]\n'
        'datasets = ["digits"]\npartition = "train"\nclass_counts = [2, 3]\nsizes = [3, 4]\n'
        '[meta_test]\ndatasets = ["digits"]\npartition = "test"\nsize = 5\n'
    )
    options = [*tiny_recipe_options(), "--threads", 1, "--device", "cpu", "--out", tmp_path]
    split = ["--split", tmp_path / "mixed.toml", "--learner", "vsml"]
    trained = call("meta-train", *split, *options)
    assert trained.code == 0, trained.err
    document = load_checkpoint(Path(trained.out.strip())).document
    assert document["job"]["side"]["sizes"] == [3, 4]
