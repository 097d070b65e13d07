"""What changes the look of a lifetime: that it does just that, and to nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vsml_bench.data import transforms
from vsml_bench.data.distributions import task_identity
from vsml_bench.data.episodes import Episode, EpisodeSampler
from vsml_bench.data.streams import without_early
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import CHANGES, TaskDistribution, without_changes

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = st.integers(0, 2**63 - 1)
few = settings(max_examples=20, deadline=None)


def side(*names: str, **fields: Any) -> TaskDistribution:
    return TaskDistribution(names or ("digits",), fields.pop("partition", "test"), **fields)


def sampled(seeds: list[int], steps: int, *names: str, **fields: Any) -> Episode:
    return EpisodeSampler(side(*names, **fields)).sample(seeds, steps)


TASK = {"projection": 0.5, "pixel_shuffle": 0.5, "label_permutation": True}


@given(seed=SEED, scale=st.sampled_from([0.5, 2.0, 0.3]), invert=st.booleans())
@few
def test_inverted_and_scaled_inputs(seed: int, scale: float, invert: bool) -> None:
    plain = sampled([seed], 20, **TASK)
    changed = sampled([seed], 20, **TASK, scale=scale, invert=invert)
    assert torch.equal(changed.inputs, plain.inputs * (-scale if invert else scale))
    assert torch.equal(changed.labels, plain.labels)
    assert changed.targets is plain.targets is None


def test_inverted_contrast_is_what_inverted_pixels_would_be() -> None:
    """Standardising 255 - p by the mean and the deviation of all 255 - p gives -x."""
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    mean, std = 0.2, 0.4
    x = transforms.standardise(pixels, 255.0, (mean,), (std,))
    inverted = transforms.standardise(255 - pixels, 255.0, (1 - mean,), (std,))
    torch.testing.assert_close(inverted, -x)


@given(seed=SEED, share=st.sampled_from([0.1, 0.3]))
@few
def test_noise_keeps_inputs_and_targets_and_a_longer_lifetime_starts_with_the_shorter(
    seed: int, share: float
) -> None:
    plain, noisy = sampled([seed], 60, **TASK), sampled([seed], 60, **TASK, label_noise=share)
    assert torch.equal(noisy.inputs, plain.inputs)
    assert noisy.targets is not None and torch.equal(noisy.targets, plain.labels)
    short = sampled([seed], 25, **TASK, label_noise=share)
    assert torch.equal(short.labels, noisy.labels[:25])


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_the_share_of_wrong_labels_and_where_they_go(share: float) -> None:
    episode = sampled(list(range(20)), 1500, label_noise=share)
    assert episode.targets is not None and episode.scored is episode.targets
    wrong = episode.labels != episode.targets
    deviation = 4 * np.sqrt(share * (1 - share) / wrong.numel())
    assert wrong.double().mean().item() == pytest.approx(share, abs=deviation)
    moved = ((episode.labels - episode.targets) % 10)[wrong]
    shares = torch.bincount(moved, minlength=10).double() / len(moved)
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], 1 / 9, atol=5 * np.sqrt(1 / 9 / len(moved)))


def test_wrong_labels_by_hand() -> None:
    labels = np.array([0, 1, 2, 2, 1])
    uniform = np.array([[0.9, 0.0], [0.1, 0.0], [0.1, 0.0], [0.1, 0.5], [0.1, 1 - 2**-53]])
    assert transforms.wrong_labels(labels, 3, 0.5, uniform).tolist() == [0, 2, 0, 1, 0]


@given(data=st.data(), classes=st.integers(2, 9))
@few
def test_wrong_labels_are_other_classes(data: st.DataObject, classes: int) -> None:
    labels = data.draw(arrays.arrays(np.int64, 12, elements=st.integers(0, classes - 1)))
    uniform = data.draw(
        arrays.arrays(np.float64, (12, 2), elements=st.floats(0, 1, exclude_max=True))
    )
    found = transforms.wrong_labels(labels, classes, 1.0, uniform)
    assert ((found >= 0) & (found < classes) & (found != labels)).all()
    assert np.array_equal(transforms.wrong_labels(labels, classes, 0.0, uniform), labels)


def test_late_examples_by_hand() -> None:
    order = np.array([5, 1, 7, 3, 2, 9])
    late = np.array([True, False, True, False, True, False])
    assert without_early(order, late, 2).tolist() == [1, 3, 2, 9]
    assert without_early(order, late, 1).tolist() == [1, 7, 3, 2, 9]
    assert without_early(order, late, 0).tolist() == order.tolist()


@given(
    late=arrays.arrays(np.bool_, st.integers(0, 30)),
    first=st.integers(0, 12),
)
@few
def test_no_late_example_is_early_and_no_other_is_lost(
    late: np.ndarray[Any, np.dtype[np.bool_]], first: int
) -> None:
    kept = without_early(np.arange(len(late)), late, first)
    assert not late[kept[:first]].any()
    assert np.array_equal(kept[~late[kept]], np.flatnonzero(~late))
    assert (np.diff(kept) > 0).all()
    if len(kept) > first:  # from the last early example on nothing is left out
        start = kept[first - 1] + 1 if first else 0
        assert np.array_equal(kept[first:], np.arange(start, len(late)))


@given(seed=SEED, classes=st.sampled_from([None, 3]))
@few
def test_the_late_class_comes_in_the_second_half_only(seed: int, classes: int | None) -> None:
    count = classes or 10
    steps = 200
    plain = sampled([seed], steps, classes=classes, label_permutation=True)
    episode = sampled([seed], steps, classes=classes, label_permutation=True, late_class=True)
    first, second = (set(h.tolist()) for h in episode.labels[:, 0].split(steps // 2))
    assert len(first) == count - 1
    assert second == set(range(count))
    rows = [x.numpy().tobytes() for x in episode.inputs[:, 0]]
    assert len(set(rows)) == steps  # none twice
    (late,) = second - first
    kept = plain.labels[:, 0] != late
    early = plain.inputs[kept, 0]
    assert torch.equal(episode.inputs[: steps // 2, 0], early[: steps // 2])
    names = _named(plain)
    assert all(names.get(row, label) == label for row, label in _named(episode).items())


def _named(episode: Episode) -> dict[bytes, int]:
    """Label of each example of the first lifetime, by its content."""
    examples = zip(episode.inputs[:, 0], episode.labels[:, 0], strict=True)
    return {x.numpy().tobytes(): int(y) for x, y in examples}


def test_any_class_may_be_late() -> None:
    episode = sampled(list(range(60)), 300, late_class=True)
    late = {(set(range(10)) - set(column[:150].tolist())).pop() for column in episode.labels.T}
    assert late == set(range(10))


def test_the_longest_lifetime_with_a_late_class_always_exists() -> None:
    for classes in (None, 3):
        sampler = EpisodeSampler(side(classes=classes, late_class=True))
        assert sampler.max_steps is not None
        episode = sampler.sample(list(range(20)), sampler.max_steps)
        assert episode.labels.shape == (sampler.max_steps, 20)
    counts = np.bincount(EpisodeSampler(side()).sample([0], 1500).labels[:, 0])
    sampler = EpisodeSampler(side(late_class=True))
    assert sampler.max_steps == 1500 - counts.max()


@given(seed=SEED, steps=st.integers(2, 41))
@few
def test_a_switch_changes_the_second_half_alone(seed: int, steps: int) -> None:
    fields = {"label_permutation": True, "projection": 1.0}
    plain, switched = (sampled([seed], steps, **fields, switch=switch) for switch in (False, True))
    half = steps // 2
    assert torch.equal(switched.inputs[:half], plain.inputs[:half])
    assert torch.equal(switched.labels[:half], plain.labels[:half])
    assert (switched.inputs[half:] != plain.inputs[half:]).flatten(1).any(1).all()


def test_a_switch_renames_all_labels_by_one_permutation() -> None:
    plain = sampled([4], 1500, label_permutation=True)
    switched = sampled([4], 1500, label_permutation=True, switch=True)
    assert torch.equal(plain.inputs, switched.inputs)
    after = (episode.labels[750:, 0].tolist() for episode in (plain, switched))
    pairs = set(zip(*after, strict=True))
    assert len(pairs) == len(dict(pairs)) == len({b for _, b in pairs}) == 10
    assert any(a != b for a, b in pairs)


@given(seeds=st.lists(SEED, min_size=2, max_size=4, unique=True))
@few
def test_a_changed_lifetime_depends_on_its_seed_alone(seeds: list[int]) -> None:
    fields = {**TASK, "label_noise": 0.3, "late_class": True, "switch": True, "invert": True}
    together = sampled(seeds, 30, **fields)
    for e, seed in enumerate(seeds):
        alone = sampled([seed], 30, **fields)
        assert torch.equal(alone.inputs[:, 0], together.inputs[:, e])
        assert torch.equal(alone.labels[:, 0], together.labels[:, e])
        assert torch.equal(alone.scored[:, 0], together.scored[:, e])


def test_tables_can_be_changed_as_well() -> None:
    plain = sampled([1], 400, "breast_cancer")
    assert torch.equal(sampled([1], 400, "breast_cancer", invert=True).inputs, -plain.inputs)
    assert sampled([1], 150, "breast_cancer", late_class=True).labels[:75].unique().numel() == 1


def test_support_is_noisy_and_queries_are_scored_by_the_truth() -> None:
    plain = EpisodeSampler(side(classes=3)).sample_shots([0, 1], 4, 5)
    noisy = EpisodeSampler(side(classes=3, label_noise=1.0)).sample_shots([0, 1], 4, 5)
    assert noisy.targets is not None and torch.equal(noisy.targets, plain.labels)
    assert (noisy.labels != plain.labels).all()


def test_changes_leave_tasks_and_lifetimes_what_they_are() -> None:
    values: dict[str, Any] = {
        **{"invert": True, "scale": 2.0, "label_noise": 0.1},
        **{"late_class": True, "switch": True},
    }
    assert values.keys() == CHANGES
    plain, changed = side(size=4, projection=1.0), side(size=4, projection=1.0, **values)
    assert without_changes(changed) == plain
    assert task_identity(changed) == task_identity(plain)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (side(label_noise=1.5), "label_noise: expected a share of labels"),
        (side(scale=0.0), "scale: expected more than 0, found 0.0"),
        (side(scale=float("nan")), "scale: expected more than 0"),
        (side(switch=True), "switch: needs something that is drawn anew"),
        (side(switch=True, projection=1.0, diversity=2), "switch: .* no `diversity`"),
        (side("random", late_class=True), "late_class needs a dataset of stored examples"),
        (side(class_counts=(2, 3)), "class_counts: only meta-training mixes"),
        (side(sizes=(4, 5)), "sizes: only meta-training mixes"),
    ],
)
def test_senseless_changes_are_refused(distribution: TaskDistribution, message: str) -> None:
    with pytest.raises(VsmlBenchError, match=message):
        EpisodeSampler(distribution)


@pytest.mark.parametrize("change", [{"late_class": True}, {"switch": True, "projection": 1.0}])
def test_episodes_have_no_second_half(change: dict[str, Any]) -> None:
    sampler = EpisodeSampler(side(classes=3, **change))
    with pytest.raises(VsmlBenchError, match="few_shot episodes are no streams"):
        sampler.sample_shots([0], 1, 1)
