"""What every baseline has to keep beyond the contract, which `tests/contract` checks on all
learners. A new file in `baselines/` is tested here without a change."""

from __future__ import annotations

import ast
import itertools
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from tests.baselines.streams import (
    ENTRIES,
    FILES,
    KNOWN,
    fresh_state,
    generator,
    make_stream,
)
from vsml_bench.config import as_plain
from vsml_bench.learner import Learner, Shape
from vsml_bench.learner_entry import LearnerEntry

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 14


def shape_of(learner: Learner) -> Shape:
    """The shape to test a learner at: its own where it has only one."""
    return learner.fixed_shape or SHAPE


ONE_START = {"hebbian", "hebbian-oja", "hebbian-oja-tanh"}
"""Their fresh meta-parameters are constants: a seed decides only on what they are meta-trained."""
FIXED_RATES = {f"{name}-paper" for name in ("sgd-linear", "sgd-mlp", "adam-linear", "adam-mlp")}
"""With something to configure, yet not tuned: a paper says their values."""
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
    assert len(source.splitlines()) < 250


@every_learner
def test_it_says_what_it_is(entry: LearnerEntry):
    assert entry.cls.family and entry.cls.source and entry.cls.__doc__
    assert entry.cls.invariances <= {"inputs", "labels"}


@every_learner
def test_meta_parameters_come_with_a_recipe_and_differ_from_seed_to_seed(entry: LearnerEntry):
    one, other = (list(entry.create(seed).parameters()) for seed in (0, 1))
    assert bool(one) == (entry.cls.recipe is not None)
    assert entry.cls.recipe is None or entry.cls.tuning is None
    assert all(p.isfinite().all() and p.is_leaf and p.requires_grad for p in one)
    assert not one or all(map(torch.equal, one, other)) == (entry.name in ONE_START)


@every_learner
def test_every_value_of_its_grid_is_one_it_takes(entry: LearnerEntry):
    grid = entry.cls.tuning
    if grid is None:
        learned, configured = entry.cls.recipe is not None, as_plain(entry.config)
        settled = learned or entry.name in FIXED_RATES
        assert settled or configured == {}, "something to configure, yet nothing is tuned"
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
def test_large_inputs_leave_it_finite(entry: LearnerEntry):
    learner = entry.create(0)
    shape = shape_of(learner)
    inputs, labels = make_stream(shape, 6, 2)
    logits, _ = learner.unroll(fresh_state(learner, 2, shape), 30 * inputs, labels)
    assert logits.isfinite().all()


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
