"""What every baseline has to keep. A new file in `baselines/` is tested here without a change."""

from __future__ import annotations

import ast
import itertools
import sys

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils import _pytree as pytree

from tests.baselines.streams import (
    ENTRIES,
    FILES,
    KNOWN,
    double_precision,
    fresh_state,
    generator,
    loop,
    make_stream,
)
from vsml_bench.learner import Learner, Shape
from vsml_bench.registry import LearnerEntry

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 14


def shape_of(learner: Learner) -> Shape:
    """The shape to test a learner at: its own where it has only one."""
    return learner.fixed_shape or SHAPE


def shapes_of(entry: LearnerEntry) -> tuple[Shape, ...]:
    """Shapes that a learner has to take."""
    fixed = entry.create().fixed_shape
    return (Shape((3, 4, 5), 2), Shape((7,), 13), Shape((1,), 3)) if fixed is None else (fixed,)


every_learner = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_the_learners_that_the_suites_name_are_here():
    assert {entry.name for entry in ENTRIES} >= {
        "sgd-linear",
        "sgd-mlp",
        "adam-linear",
        "adam-mlp",
        "chance",
        "majority",
        "nearest-mean",
        "1-nn",
        "ridge",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_short_and_needs_only_torch_the_contract_and_what_it_says(file):
    source = file.read_text(encoding="utf-8")
    entries = [entry for entry in KNOWN if entry.origin == file.name]
    said = {package for entry in entries for package in entry.cls.requires}
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    allowed = {*sys.stdlib_module_names, "torch", *said}
    foreign = {m for m in imported if m.partition(".")[0] not in allowed}
    assert foreign == {"vsml_bench.learner"}
    assert len(source.splitlines()) < 200


@every_learner
def test_it_says_what_it_is(entry: LearnerEntry):
    assert entry.cls.family and entry.cls.source and entry.cls.__doc__
    assert entry.cls.invariances <= {"inputs", "labels"}


@every_learner
def test_meta_parameters_come_with_a_recipe_and_from_their_seed(entry: LearnerEntry):
    parameters: list[list[torch.Tensor]] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(parameters))  # what happens elsewhere must not matter
        parameters.append(list(entry.create(seed).parameters()))
    assert bool(parameters[0]) == (entry.cls.recipe is not None)
    assert entry.cls.recipe is None or entry.cls.tuning is None
    if entry.cls.recipe is not None:
        assert all(p.isfinite().all() and p.is_leaf and p.requires_grad for p in parameters[0])
        assert all(map(torch.equal, parameters[0], parameters[1]))
        assert not all(map(torch.equal, parameters[0], parameters[2]))


@every_learner
def test_every_value_of_its_grid_is_one_it_takes(entry: LearnerEntry):
    grid = entry.cls.tuning
    if grid is None:
        learned = entry.cls.recipe is not None
        assert learned or entry.plain_config() == {}, "something to configure, yet nothing is tuned"
        return
    inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
    outcomes = []
    for values in itertools.product(*grid.values.values()):
        configured = entry.configured(dict(zip(grid.values, values, strict=True)))
        learner = configured.create()
        outcomes.append(learner.unroll(fresh_state(learner, LIFETIMES, SHAPE), inputs, labels)[0])
    for one, other in itertools.combinations(outcomes, 2):
        assert not torch.equal(one, other), "two values of the grid do the same"
    assert all(outcome.isfinite().all() for outcome in outcomes)


@every_learner
def test_unroll_is_the_loop_and_can_be_continued(entry: LearnerEntry):
    with double_precision():
        learner = entry.create(0)
        inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, shape_of(learner))
        expected, expected_state = loop(learner, state, inputs, labels)
        logits, last = learner.unroll(state, inputs, labels)
        first_part, middle = learner.unroll(state, inputs[:5], labels[:5])
        second_part, _ = learner.unroll(middle, inputs[5:], labels[5:])
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            torch.cat([first_part, second_part]), expected, rtol=1e-9, atol=1e-9
        )
        for part, expected_part in zip(
            pytree.tree_leaves(last), pytree.tree_leaves(expected_state), strict=True
        ):
            torch.testing.assert_close(part, expected_part, rtol=1e-9, atol=1e-9)


@every_learner
def test_no_lifetime_moves_another(entry: LearnerEntry):
    learner = entry.create(0)
    inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, shape_of(learner))
    other_inputs, other_labels = inputs.clone(), labels.clone()
    other_inputs[:, 1] = 5 * torch.randn(inputs[:, 1].shape, generator=generator(9))
    other_labels[:, 1] = (labels[:, 1] + 1) % shape_of(learner).classes
    for run in (learner.unroll, lambda *args: loop(learner, *args)):
        before, _ = run(state, inputs, labels)
        after, _ = run(state, other_inputs, other_labels)
        assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])


@every_learner
def test_lifetimes_side_by_side_are_the_lifetimes_alone(entry: LearnerEntry):
    """The harness draws each lifetime's state from a seed of its own and joins them."""
    with double_precision():
        learner = entry.create(0)
        inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
        alone = [fresh_state(learner, 1, shape_of(learner), seed) for seed in range(LIFETIMES)]
        joined = pytree.tree_map(lambda *parts: torch.cat(parts), *alone)
        together, _ = learner.unroll(joined, inputs, labels)
        for index, state in enumerate(alone):
            chosen = slice(index, index + 1)
            logits, _ = learner.unroll(state, inputs[:, chosen], labels[:, chosen])
            torch.testing.assert_close(together[:, chosen], logits, rtol=1e-9, atol=1e-9)


@every_learner
@pytest.mark.parametrize("now", [0, 6, STEPS - 1])
def test_no_prediction_knows_its_label_or_the_future(entry: LearnerEntry, now: int):
    learner = entry.create(0)
    inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, shape_of(learner))
    other_inputs, other_labels = inputs.clone(), labels.clone()
    other_inputs[now + 1 :] = 7 - 2 * inputs[now + 1 :]
    other_labels[now:] = (labels[now:] + 1) % shape_of(learner).classes
    before, _ = learner.unroll(state, inputs, labels)
    after, _ = learner.unroll(state, other_inputs, other_labels)
    assert torch.equal(before[: now + 1], after[: now + 1])


@every_learner
def test_states_are_never_written_to(entry: LearnerEntry):
    learner = entry.create(0)
    inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
    _, state = learner.unroll(fresh_state(learner, LIFETIMES, shape_of(learner)), inputs, labels)
    _, predicted = learner.predict(state, inputs[0])
    for given, step in (
        (state, lambda s: learner.predict(s, inputs[0])),
        (predicted, lambda s: learner.observe(s, labels[0])),
        (state, lambda s: learner.unroll(s, inputs, labels)),
    ):
        before = [part.clone() for part in pytree.tree_leaves(given)]
        step(given)
        for part, copy in zip(pytree.tree_leaves(given), before, strict=True):
            assert torch.equal(part, copy)


@every_learner
def test_the_seed_decides_everything(entry: LearnerEntry):
    runs: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(runs))  # what happens elsewhere must not matter
        learner = entry.create(0)
        inputs, labels = make_stream(shape_of(learner), STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, shape_of(learner), seed)
        same = (
            torch.stack([inputs[:, 0]] * LIFETIMES, 1),
            torch.stack([labels[:, 0]] * LIFETIMES, 1),
        )
        runs.append(learner.unroll(state, *same)[0])
    assert torch.equal(runs[0], runs[1])
    draws = not torch.equal(runs[0], runs[2])
    neighbours_differ = not torch.equal(runs[0][:, 0], runs[0][:, 1])
    assert draws == neighbours_differ, "lifetimes of one seed must differ where seeds differ"


@pytest.mark.parametrize(
    ("entry", "shape"),
    [(entry, shape) for entry in ENTRIES for shape in shapes_of(entry)],
    ids=lambda value: value.name if isinstance(value, LearnerEntry) else str(value.inputs),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_shape_and_number_of_classes_that_it_takes(
    entry: LearnerEntry, shape: Shape, dtype: torch.dtype
):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        learner = entry.create(0)
        inputs, labels = make_stream(shape, 6, 2)
        state = fresh_state(learner, 2, shape)
        logits, _ = learner.unroll(state, 30 * inputs, labels)
        one, _ = learner.predict(state, inputs[0])
    finally:
        torch.set_default_dtype(before)
    assert logits.shape == (6, 2, shape.classes)
    assert one.shape == (2, shape.classes)
    assert logits.dtype == one.dtype == dtype
    assert logits.isfinite().all()
    assert all(part.shape[0] == 2 for part in pytree.tree_leaves(state))


@pytest.mark.parametrize(
    ("entry", "invariance"),
    [(e, i) for e in ENTRIES for i in sorted(e.cls.invariances)],
    ids=lambda value: getattr(value, "name", value),
)
def test_it_has_the_invariances_it_claims(entry: LearnerEntry, invariance: str):
    with double_precision():
        learner = entry.create(0)
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        expected, _ = learner.unroll(state, inputs, labels)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        names = torch.tensor([2, 0, 3, 1])
        if invariance == "inputs":
            shuffled = inputs.flatten(2)[..., order].view_as(inputs)
            logits, _ = learner.unroll(state, shuffled, labels)
        else:
            renamed, _ = learner.unroll(state, inputs, names[labels])
            logits = renamed[..., names]
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "entry",
    [e for e in ENTRIES if e.cls.family != "blind" and e.cls.recipe is None],
    ids=lambda entry: entry.name,
)
def test_it_learns_to_read_digits(entry: LearnerEntry):
    """Cumulative accuracy far above chance, and better at the end than at the beginning, for all
    that learn without being meta-trained first."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=generator(5))[:1200].view(600, 2)
    images = torch.as_tensor(digits.data, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    inputs, labels = images[order], torch.as_tensor(digits.target)[order]
    learner = entry.create(0)
    with torch.inference_mode():
        state = fresh_state(learner, 2, Shape((1, 8, 8), 10))
        logits, _ = learner.unroll(state, inputs, labels)
    correct = (logits.argmax(-1) == labels).float()
    assert correct.mean() > 0.5
    assert correct[-100:].mean() > correct[:100].mean() + 0.05
